"""The clock of videos: when each frame is shown, on files that people have and on their kinds, drawn here.

Seconds count from the container's start, and what decodes counts, not what a header says.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rushes.video.decode import decode_timed
from rushes.video.probe import probe
from rushes.video.source import VideoSource
from tests.video.coded import film, read

SOME = settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])


def shown(source: VideoSource, *, fps: float | None, start: float = 0.0, end: float | None = None) -> dict[int, int]:
    """Code by frame number of the grid."""
    rate = fps or 1000
    timed = decode_timed(source, short_side=96, fps=fps, start=start, end=end)
    return {round(t * rate): read(frame) for t, frame in timed}


# Files of public reports ---------------------------------------------------------------------------------------------


@pytest.mark.real
def test_times_count_from_the_start_of_sound_where_the_film_begins_later(reports: Path) -> None:
    path = reports / "audio_starts_before_video" / "audio_first_1s.mp4"
    assert (probe(path).start, probe(path).seconds) == (1.0, 6.0)
    assert shown(path, fps=30.0, start=2.0, end=3.0) == {60 + n: 30 + n for n in range(30)}
    assert shown(path, fps=30.0) == {30 + n: n for n in range(180)}


@pytest.mark.real
def test_empty_chunks_of_avi_take_their_time(reports: Path) -> None:
    path = reports / "avi_dropped_frames" / "54b_dropped_frames.avi"
    assert probe(path).seconds == 2.0
    codes = shown(path, fps=30.0)
    assert list(codes) == list(range(60))
    assert {codes[n] for n in range(19, 40)} == {19}
    # Until the next key frame, the bars of 40-47 that equal those of 39, which was dropped, stay as in 19.
    assert [codes[n] for n in range(40, 60)] == [*range(40 - 16, 48 - 16), *range(48, 60)]


@pytest.mark.real
@pytest.mark.parametrize(("name", "rate"), [("61_t.avi", 30), ("61b_t25.avi", 25), ("61_t.mp4", 30)])
def test_h264_copied_into_avi_plays_as_the_original(reports: Path, name: str, rate: int) -> None:
    path = reports / "h264_stream_copied_into_avi" / name
    assert probe(path).seconds == pytest.approx(90 / rate)
    assert probe(path).fps == pytest.approx(rate)
    assert shown(path, fps=float(rate)) == {n: n for n in range(90)}


@pytest.mark.real
def test_joined_recordings_are_read_to_the_end(reports: Path) -> None:
    path = reports / "ts_two_recordings_joined" / "joined_20s_20s.ts"
    assert probe(path).seconds == pytest.approx(40)
    assert shown(path, fps=10.0) == {n: n % 200 for n in range(400)}


@pytest.mark.real
def test_a_clock_that_jumps_ahead_adds_no_time(reports: Path) -> None:
    path = reports / "ts_clock_jumps_ahead" / "06_jump_5000s.ts"
    assert probe(path).seconds == pytest.approx(4)
    assert shown(path, fps=30.0) == {n: n for n in range(120)}


@pytest.mark.real
@pytest.mark.parametrize("name", ["audio_longer.mkv", "audio_longer.mp4"])
def test_sound_that_is_longer_than_the_film_adds_no_film(reports: Path, name: str) -> None:
    path = reports / "mkv_audio_longer_than_film" / name
    assert probe(path).seconds == pytest.approx(2, abs=0.001)
    assert list(shown(path, fps=30.0).values()) == list(range(60))


@pytest.mark.real
def test_a_frame_stands_as_long_as_the_screen_does_not_change(reports: Path) -> None:
    path = reports / "static_screen_vfr" / "42_screen_static_60s.mp4"
    assert probe(path).seconds == pytest.approx(61, abs=0.04)
    codes = shown(path, fps=25.0)
    assert len(codes) == 1525 and list(codes) == list(range(1525))
    assert [codes[n] for n in range(25)] == list(range(25)) and [codes[n] for n in range(1500, 1525)] == [
        *range(25, 50)
    ]
    assert {codes[n] for n in range(25, 1500)} == {24}


# Their kinds ---------------------------------------------------------------------------------------------------------

# Seconds by which sound may begin before the instant that was asked for: its encoder's delay.
PRIMING = 0.03
GOP = 12
LEADS = st.tuples(
    st.sampled_from(["mp4", "mov", "matroska", "mpegts", "flv"]), st.integers(0, 90), st.sampled_from([0, 2])
)
EMPTY = st.tuples(
    st.sampled_from(["mpeg4", "libx264", "mjpeg"]),
    st.sampled_from([Fraction(25), Fraction(30), Fraction(30000, 1001)]),
    st.sets(st.integers(1, 80), min_size=3, max_size=30),
)
JUMPS = st.one_of(st.floats(-0.9, -0.05), st.floats(-5000, -1), st.floats(1.5, 9.5), st.floats(11, 80000))
JOINED = st.tuples(
    st.sampled_from(
        [("mpegts", "libx264", 0), ("mpegts", "libx264", 2), ("mpegts", "mpeg2video", 2), ("vob", "mpeg2video", 0)]
    ),
    st.lists(st.tuples(st.integers(20, 60), JUMPS), min_size=1, max_size=3),
)
LONGER = st.tuples(
    st.sampled_from(["mp4", "mov", "matroska", "mpegts", "flv"]), st.integers(20, 70), st.floats(1.0, 12.0)
)
STANDING = st.tuples(st.sampled_from(["mp4", "mov", "matroska", "avi"]), st.integers(11, 90), st.integers(2, 30))


def check_lead(case: tuple[str, int, int]) -> None:
    muxer, lead, reordered = case
    video = film(range(60), muxer=muxer, start=1 + lead / 30, reordered=reordered, audio=(1.0, 4.0))
    probed = probe(video)
    assert lead / 30 - 0.002 <= probed.start <= lead / 30 + PRIMING + reordered / 30
    assert probed.seconds == pytest.approx(2.0, abs=0.04)
    first = int(probed.start * 30 + 0.5)
    assert shown(video, fps=30.0) == {first + n: n for n in range(60)}
    assert shown(video, fps=30.0, start=(first + 20) / 30, end=(first + 40) / 30) == {
        first + n: n for n in range(20, 40)
    }


def check_empty(case: tuple[str, Fraction, set[int]]) -> None:
    codec, rate, later = case
    slots = [0, *sorted(later)]
    video = film(slots, rate=rate, muxer="avi", codec=codec)
    expected = {n: sum(slot <= n for slot in slots) - 1 for n in range(slots[-1] + 1)}
    codes = shown(video, fps=float(rate))
    assert {n: codes[n] for n in expected} == expected
    assert probe(video).seconds == pytest.approx((slots[-1] + 1) / rate)


def check_joined(case: tuple[tuple[str, str, int], list[tuple[int, float]]]) -> None:
    """Every frame is there, but where a part's last frame, a key frame, has the very time of the next part's first.

    Two key frames of one time may be the fields of one picture: such a joint costs a frame.
    """
    (muxer, codec, reordered), parts = case
    video, count, at = film(range(30), muxer=muxer, codec=codec, reordered=reordered, start=9000.0), 30, 9001.0
    before, lost = 30, 0
    for frames, jump in parts:
        lost += before % GOP == 1 and -0.06 < jump < 0
        at, before = max(at + jump, 1.0), frames
        video += film(range(frames), muxer=muxer, codec=codec, reordered=reordered, first=count, start=at, gop=GOP)
        count, at = count + frames, at + frames / 30
    assert probe(video).seconds == pytest.approx(count / 30, abs=0.05 + lost / 30)
    codes = shown(video, fps=30.0)
    assert list(codes) == list(range(len(codes))) and count - lost <= len(codes) <= count
    # Program streams store few times; beside a joint FFmpeg may guess one frame too late.
    slack = lost + (1 if muxer == "vob" else 0)
    assert all(abs(code - n) <= slack for n, code in codes.items())


def check_longer(case: tuple[str, int, float]) -> None:
    muxer, frames, more = case
    video = film(range(frames), muxer=muxer, reordered=2, audio=(0.0, frames / 30 + more))
    assert probe(video).seconds == pytest.approx(frames / 30, abs=0.04)
    assert list(shown(video, fps=30.0).values()) == list(range(frames))


def check_standing(case: tuple[str, int, int]) -> None:
    muxer, still, moving = case
    slots = [*range(moving), *range(moving + 25 * still, 2 * moving + 25 * still)]
    video = film(slots, rate=25, muxer=muxer, codec="mpeg4" if muxer == "avi" else "libx264")
    assert probe(video).seconds == pytest.approx((slots[-1] + 1) / 25, abs=0.05)
    expected = {n: n if n < moving else max(moving - 1, n - 25 * still) for n in range(slots[-1] + 1)}
    assert shown(video, fps=25.0) == expected


@SOME
@given(LEADS)
@example(("mp4", 30, 2))
@example(("matroska", 30, 0))
@example(("flv", 24, 0))
def test_a_film_that_begins_after_its_sound_begins_there(case: tuple[str, int, int]) -> None:
    check_lead(case)


@SOME
@given(EMPTY)
@example(("mpeg4", Fraction(30), {n for n in range(60) if n and not 20 <= n < 40}))
@example(("libx264", Fraction(60), set(range(2, 120, 2))))
def test_every_chunk_of_avi_takes_its_time(case: tuple[str, Fraction, set[int]]) -> None:
    check_empty(case)


@SOME
@given(JOINED)
@example((("mpegts", "libx264", 2), [(30, -1.0), (40, -0.3), (30, 5000.0)]))
@example((("vob", "mpeg2video", 0), [(30, -0.5), (40, 3.0)]))
@example((("mpegts", "libx264", 0), [(20, -0.5), (20, -0.75), (20, 1.5)]))  # the header is nearly right by chance
@example((("mpegts", "libx264", 0), [(37, -0.5), (20, -0.05)]))  # a key frame ends the second part
@example((("vob", "mpeg2video", 0), [(49, -0.5), (20, 2.0), (20, 2.0)]))  # that key frame has times of both clocks
@example((("mpegts", "libx264", 2), [(32, -62.0)]))  # FFmpeg adds a turn of the clock to some of its frames
def test_parts_of_a_joined_recording_follow_each_other(
    case: tuple[tuple[str, str, int], list[tuple[int, float]]],
) -> None:
    check_joined(case)


@SOME
@given(LONGER)
def test_sound_never_makes_a_film_longer(case: tuple[str, int, float]) -> None:
    check_longer(case)


@SOME
@given(STANDING)
def test_a_frame_stands_until_the_next_in_every_container_with_times(case: tuple[str, int, int]) -> None:
    check_standing(case)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("cases", "check"),
    [
        (LEADS, check_lead),
        (EMPTY, check_empty),
        (JOINED, check_joined),
        (LONGER, check_longer),
        (STANDING, check_standing),
    ],
    ids=["leads", "empty", "joined", "longer", "standing"],
)
def test_many_of_each_kind(cases: Any, check: Callable[[Any], None]) -> None:
    @MANY
    @given(cases)
    def each(case: Any) -> None:
        check(case)

    each()


@pytest.mark.parametrize(("muxer", "codec"), [("matroska", "libx264"), ("webm", "libvpx")])
def test_matroska_files_joined_byte_by_byte_are_read_to_the_end(muxer: str, codec: str) -> None:
    video = film(range(30), muxer=muxer, codec=codec) + film(range(40), muxer=muxer, codec=codec, first=30)
    assert probe(video).seconds == pytest.approx(70 / 30, abs=0.05)
    assert list(shown(video, fps=30.0).items()) == [(n, n) for n in range(70)]
    assert shown(video, fps=30.0, start=1.5, end=2.0) == {n: n for n in range(45, 60)}


@pytest.mark.parametrize("reordered", [0, 2])
def test_h264_with_reordered_frames_copied_into_avi_plays_as_the_original(reordered: int) -> None:
    video = film(range(0, 120, 2), rate=60, muxer="avi", reordered=reordered)
    assert list(shown(video, fps=30.0).items()) == [(n, n) for n in range(60)]
    assert probe(video).fps == pytest.approx(30, rel=0.02)


def test_a_last_frame_stands_where_the_container_says_so() -> None:
    video = film(range(25), rate=25, last_stands=1475)
    assert probe(video).seconds == pytest.approx(59.96)
    codes = shown(video, fps=25.0)
    assert len(codes) == 1499 and {codes[n] for n in range(24, 1499)} == {24}


def test_a_gap_in_a_program_that_goes_on_is_a_gap() -> None:
    slots = [*range(40), *range(130, 160)]  # three seconds without a frame, not before a key frame
    video = film(slots, muxer="mpegts", gop=100)
    assert shown(video, fps=30.0) == {n: n if n < 40 else max(39, n - 90) for n in range(160)}
