"""The clock of videos: when each frame is shown, on files that people have and on their kinds, drawn here.

Seconds count from the container's start, and what decodes counts, not what a header says.
"""

from pathlib import Path

import pytest

from rushes.video.decode import decode_timed
from rushes.video.probe import probe
from rushes.video.source import VideoSource
from tests.video.coded import read


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
