"""Cuts are found where they are and nowhere else; fingerprints know the same footage in other clothes."""

import io
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from rushes.demo.films import draw_film, plan_films
from rushes.video import content as module
from rushes.video.clips import centre_crop_i420
from rushes.video.content import NEAR, Content, Prints, near_duplicates
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from tests.decoding import decode_all


def seen(frames: Iterable[Frames]) -> Content:
    content = Content()
    for frame in frames:
        content.feed(frame)
    return content


def cuts(frames: Iterable[Frames]) -> list[int]:
    return seen(frames).cuts()


def prints(*films: Frames) -> Prints:
    return np.array([seen(film).fingerprint() for film in films], dtype=np.uint64)


def distance(first: Frames, second: Frames) -> int:
    a, b = prints(first, second)
    return int(np.bitwise_count(a ^ b).sum())


@pytest.fixture(scope="module")
def films() -> list[Frames]:
    """The synthetic videos of the tiny size: shapes that slide, spin and bounce over textures."""
    return [np.stack(list(draw_film(film))) for film in plan_films(size="tiny")]


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[Frames]:
    """Real videos of two places, some of the same people."""
    return [
        decode_all(path, short_side=128, fps=25.0)
        for path in sorted((shared_data / "ut_interaction").rglob("*.avi"))[::10]
    ]


def with_luma(frames: Frames, change: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Frames:
    """Adds `change[k]` to the luma of frame k."""
    height = frames.shape[1] * 2 // 3
    out = frames.copy()
    out[:, :height] = np.clip(frames[:, :height] + change[:, None, None], 0, 255).astype(np.uint8)
    return out


# Cuts ----------------------------------------------------------------------------------------------------------------


def assert_planted_cuts_are_found(films: list[Frames], *, size: int) -> None:
    shots = [centre_crop_i420(film[-26:], size=size) for film in films]
    for k, (first, second) in enumerate(pairwise(shots)):
        before, after = 1 + k % 25, 1 + (7 * k) % 25
        assert cuts([*first[:before], *second[-after:]]) == [before], f"between {k} and {k + 1}, {after} frames after"


def test_a_cut_between_synthetic_videos_is_found_wherever_it_falls(films: list[Frames]) -> None:
    assert_planted_cuts_are_found(films, size=96)


@pytest.mark.real
def test_a_cut_between_real_videos_is_found_wherever_it_falls(real: list[Frames]) -> None:
    assert_planted_cuts_are_found(real, size=128)


def test_every_cut_of_a_sequence_is_found_also_after_encoding(films: list[Frames]) -> None:
    shots = [centre_crop_i420(film[:length], size=96) for film, length in zip(films[::7], (9, 20, 7, 13), strict=False)]
    sequence = np.concatenate(shots)
    assert cuts(sequence) == [9, 29, 36]
    assert cuts(decode_all(encode_h264(sequence, fps=25, qp=30, gop=12), short_side=96, fps=25.0)) == [9, 29, 36]


def test_synthetic_videos_have_no_cuts(films: list[Frames]) -> None:
    assert [cuts(film) for film in films] == [[]] * len(films)


@pytest.mark.real
@pytest.mark.parametrize("speed", [1, 4])
def test_real_videos_have_no_cuts_even_when_played_fast(real: list[Frames], speed: int) -> None:
    assert [cuts(video[::speed]) for video in real] == [[]] * len(real)


def held(frames: Frames, fps: int) -> Frames:
    """What a camera of `fps` frames per second shows at 25."""
    return frames[np.arange(len(frames)) * fps // 25 * 25 // fps]


@pytest.mark.parametrize("fps", [8, 12, 15])
def test_frames_repeated_by_a_lower_rate_are_no_cuts(films: list[Frames], fps: int) -> None:
    assert [cuts(held(film, fps)) for film in films[::4]] == [[]] * len(films[::4])


@pytest.mark.real
@pytest.mark.parametrize("fps", [5, 12])
def test_frames_repeated_in_real_videos_are_no_cuts(real: list[Frames], fps: int) -> None:
    for video in real:
        assert cuts(held(video, fps)) == []
        assert cuts(held(video[::2], fps)) == []


def test_a_cut_is_found_among_repeated_frames(films: list[Frames]) -> None:
    first, second = (centre_crop_i420(film[:16:2], size=96).repeat(2, axis=0) for film in (films[0], films[9]))
    assert cuts([*first, *second]) == [16]


@pytest.mark.parametrize("lengths", [(1, 0), (3, 0), (5, 0), (1, 4)])
@pytest.mark.parametrize("height", [60, 120, 235])
def test_a_flash_is_no_cut(films: list[Frames], lengths: tuple[int, int], height: int) -> None:
    full, fading = lengths
    for film in films[::6]:
        change = np.zeros(len(film))
        change[12 : 12 + full] = height
        change[12 + full : 12 + full + fading] = height * 0.3 ** np.arange(1, fading + 1)
        assert cuts(with_luma(film, change)) == []


@pytest.mark.parametrize("length", [2, 6, 7, 11])
def test_a_picture_that_comes_back_within_half_a_second_is_no_cut(films: list[Frames], length: int) -> None:
    resting = films[0][:1].repeat(40, axis=0)
    resting[14 : 14 + length] = 255 - resting[14 : 14 + length]
    assert cuts(resting) == []
    resting[14 + length :] = resting[14]
    assert cuts(resting) == [14]


def test_light_that_changes_is_no_cut_but_a_change_of_colour_is(films: list[Frames]) -> None:
    film = films[0][:24]
    height = film.shape[1] * 2 // 3
    assert cuts(with_luma(film, np.repeat([0.0, 40.0], 12))) == []
    harsher = film.copy()
    harsher[12:, :height] = np.clip((film[12:, :height].astype(int) - 128) * 2 + 128, 0, 255)
    assert cuts(harsher) == []
    recoloured = film.copy()
    recoloured[12:, height:] = 255 - recoloured[12:, height:] // 2
    assert cuts(recoloured) == [12]


def test_a_slow_fade_is_no_hard_cut(films: list[Frames]) -> None:
    first, second = (centre_crop_i420(film[:24], size=96) for film in (films[0], films[9]))
    share = np.linspace(0, 1, 24)[:, None, None]
    assert cuts(np.asarray(first * (1 - share) + second * share).astype(np.uint8)) == []


@pytest.mark.real
def test_a_shaken_camera_is_no_cut(real: list[Frames]) -> None:
    rng = np.random.default_rng(0)
    for video in real:
        shaken = [np.roll(frame, (0, 2 * int(rng.integers(-4, 5))), axis=(0, 1)) for frame in video]
        assert cuts(shaken) == []


def test_a_single_frame_has_no_cut_and_neither_has_none(films: list[Frames]) -> None:
    assert cuts([]) == []
    assert cuts(films[0][:1]) == []


# Fingerprints --------------------------------------------------------------------------------------------------------


def mpeg4(frames: Frames) -> Frames:
    """Through another codec, at a low rate."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.bit_rate = frames.shape[1] * 2 // 3, frames.shape[2], 200_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(stream.encode())
    return decode_all(file.getvalue(), short_side=short_side(frames), fps=25.0)


def short_side(frames: Frames) -> int:
    return int(min(frames.shape[1] * 2 // 3, frames.shape[2]))


def coarse(frames: Frames) -> Frames:
    return decode_all(encode_h264(frames, fps=25, qp=38, gop=50), short_side=short_side(frames), fps=25.0)


def half_size(frames: Frames) -> Frames:
    mp4 = encode_h264(frames, fps=25, qp=20, gop=12)
    small = decode_all(mp4, short_side=short_side(frames) // 4 * 2, fps=25.0)
    return decode_all(encode_h264(small, fps=25, qp=20, gop=12), short_side=short_side(frames), fps=25.0)


def brighter(frames: Frames) -> Frames:
    return with_luma(frames, np.full(len(frames), 12.0))


def half_rate(frames: Frames) -> Frames:
    return frames[::2].repeat(2, axis=0)[: len(frames)]


@pytest.mark.real
@pytest.mark.parametrize("change", [mpeg4, coarse, half_size, brighter, half_rate])
def test_the_same_real_footage_is_near(real: list[Frames], change: Callable[[Frames], Frames]) -> None:
    for video in real[::2]:
        assert distance(video, change(video)) <= NEAR


@pytest.mark.real
def test_other_real_footage_is_not_near_even_of_the_same_scene(real: list[Frames]) -> None:
    first, second = (prints(*half) for half in zip(*(np.array_split(video, 2) for video in real), strict=True))
    assert near_duplicates(first, second) == []


def test_synthetic_videos_are_near_themselves_alone(films: list[Frames]) -> None:
    ours = prints(*films)
    theirs = prints(*(mpeg4(brighter(film)) for film in films[:20]))
    assert near_duplicates(theirs, ours) == [(k, k) for k in range(20)]


@pytest.mark.real
def test_the_fingerprint_holds_the_course_of_time(real: list[Frames]) -> None:
    for video in real:
        assert distance(video, video[::-1]) > NEAR


def test_a_still_is_known_by_its_picture(films: list[Frames]) -> None:
    stills = [film[:1].repeat(30, axis=0) for film in films[:30:3]]
    again = [coarse(brighter(still)) for still in stills]
    assert near_duplicates(prints(*stills), prints(*again)) == [(k, k) for k in range(10)]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_without_texture_there_is_no_fingerprint(level: int) -> None:
    assert seen(np.full((20, 96, 80), level, dtype=np.uint8)).fingerprint() == (0, 0)
    assert Content().fingerprint() == (0, 0)


@pytest.mark.parametrize("length", [1, 2, 8, 9])
def test_a_few_frames_have_a_fingerprint(films: list[Frames], length: int) -> None:
    assert seen(films[0][:length]).fingerprint() != (0, 0)


# Pairs ---------------------------------------------------------------------------------------------------------------


def flipped(value: tuple[int, int], bits: Iterable[int]) -> tuple[int, int]:
    high, low = value
    for bit in bits:
        high, low = (high ^ (1 << bit), low) if bit < 64 else (high, low ^ (1 << (bit - 64)))
    return high, low


def drawn(count: int, seed: int) -> Prints:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), dtype=np.uint64)


@pytest.mark.parametrize("block", [1, 70, 1 << 20])
def test_pairs_are_those_within_the_threshold(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    first, second = drawn(40, seed=0), drawn(30, seed=1)
    high, low = first[17].tolist()
    second[4] = flipped((high, low), range(NEAR))  # all in one half
    second[5] = flipped((high, low), range(64 - NEAR // 2, 64 + NEAR // 2))
    second[6] = flipped((high, low), range(64 - NEAR // 2, 64 + NEAR // 2 + 1))
    second[29] = first[39]
    assert near_duplicates(first, second) == [(17, 4), (17, 5), (39, 29)]


def test_zero_is_near_nothing() -> None:
    zero = np.zeros((2, 2), dtype=np.uint64)
    almost = np.array([[0, 1]], dtype=np.uint64)
    assert near_duplicates(zero, zero) == []
    assert near_duplicates(almost, np.concatenate([zero, almost])) == [(0, 2)]
    assert near_duplicates(zero, almost) == near_duplicates(almost, zero) == []
    assert near_duplicates(almost, almost) == [(0, 0)]


def test_none_against_some() -> None:
    none = np.empty((0, 2), dtype=np.uint64)
    assert near_duplicates(none, drawn(3, seed=0)) == near_duplicates(drawn(3, seed=0), none) == []


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    first, second = drawn(6000, seed=0), drawn(5000, seed=1)
    tracemalloc.start()
    try:
        near_duplicates(first, second)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6, f"{peak / 1e6:.0f} MB for 30 million pairs"
