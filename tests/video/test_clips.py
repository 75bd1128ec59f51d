"""Clips: even spacing and crops that keep chroma under luma."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rushes.video.clips import centre_crop_i420, crop_i420, evenly_spaced_clips
from rushes.video.coding import Encoding
from rushes.video.encode import encode_h264
from rushes.video.file_clips import video_clips
from rushes.video.frames import Frames
from rushes.video.source import VideoError
from tests.decoding import decode_all


@given(frames=st.integers(1, 500), clips=st.integers(1, 20), clip_frames=st.integers(1, 40))
def test_clips_are_consecutive_even_and_cover_both_ends(frames: int, clips: int, clip_frames: int) -> None:
    numbers = evenly_spaced_clips(frames, clips=clips, clip_frames=clip_frames)
    assert numbers.shape == (clips, clip_frames) and numbers.dtype == np.int64
    assert numbers.min() >= 0 and numbers.max() <= frames - 1
    if frames < clip_frames:
        assert (numbers == np.minimum(np.arange(clip_frames), frames - 1)).all()
        return
    assert (np.diff(numbers, axis=1) == 1).all()
    steps = np.diff(numbers[:, 0])
    assert clips == 1 or (numbers[0, 0] == 0 and numbers[-1, -1] == frames - 1)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1
    assert clips > 1 or abs(2 * numbers[0, 0] - (frames - clip_frames)) <= 1


def coordinates(height: int, width: int) -> Frames:
    """A frame whose Y is (row + column), U the chroma row and V the chroma column."""
    rows, columns = np.mgrid[:height, :width]
    u, v = np.mgrid[: height // 2, : width // 2]
    flat = np.concatenate([(rows + columns).ravel(), u.ravel(), v.ravel()])
    return flat.astype(np.uint8).reshape(1, -1, width)


even = st.integers(0, 20).map(lambda n: 2 * n)


@given(top=even, left=even, size=even.filter(bool), down=even, right=even)
def test_crop_keeps_chroma_under_luma(top: int, left: int, size: int, down: int, right: int) -> None:
    # Sides that are 2 modulo 4 included: a chroma plane then ends in the middle of a packed row.
    frame = coordinates(top + size + down, left + size + right)
    (crop,) = crop_i420(frame, top=top, left=left, size=size)
    assert crop.shape == (size * 3 // 2, size)
    assert (crop[:size] == np.add.outer(np.arange(size) + top, np.arange(size) + left)).all()
    u, v = crop[size:].reshape(2, size // 2, size // 2)
    assert (u == (top // 2 + np.arange(size // 2))[:, None]).all()
    assert (v == (left // 2 + np.arange(size // 2))[None]).all()


@pytest.mark.parametrize(("height", "width"), [(128, 170), (128, 171 // 2 * 2 + 2), (112, 112), (170, 128)])
def test_centre_crop_is_central_to_a_chroma_pixel(height: int, width: int) -> None:
    (crop,) = centre_crop_i420(coordinates(height, width), size=112)
    u, v = crop[112:].reshape(2, 56, 56)
    assert abs((int(u[0, 0]) * 2) - (height - 112) / 2) < 2
    assert abs((int(v[0, 0]) * 2) - (width - 112) / 2) < 2


@pytest.mark.parametrize("bad", [{"top": 1}, {"left": 3}, {"size": 13}, {"top": 20}, {"left": -2}])
def test_crops_that_do_not_fit_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"even|outside"):
        crop_i420(coordinates(32, 40), **({"top": 0, "left": 0, "size": 16} | bad))


def test_video_clips_are_the_crops_of_the_whole_decode() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 96, 80), dtype=np.uint8)
    mp4 = encode_h264(frames, fps=25, qp=26, gop=12)
    clips = video_clips(mp4, short_side=64, fps=25.0, clips=3, clip_frames=8, crop=56)
    whole = centre_crop_i420(decode_all(mp4, short_side=64, fps=25.0), size=56)
    assert clips.shape == (3, 8, 84, 56)
    assert (clips == whole[evenly_spaced_clips(20, clips=3, clip_frames=8)]).all()


@pytest.mark.parametrize("encoding", [None, Encoding(codec="h264", short_side=64, qp=26, gop=12)])
def test_a_video_without_a_frame_that_decodes_is_refused(encoding: Encoding | None) -> None:
    mp4 = encode_h264([np.full((96, 80), 128, dtype=np.uint8)] * 3, fps=25, qp=26, gop=12)
    with pytest.raises(VideoError, match="no frame that decodes"):
        video_clips(
            mp4, short_side=64, fps=25.0, clips=3, clip_frames=8, crop=56, encoding=encoding, start=5.0, end=6.0
        )
