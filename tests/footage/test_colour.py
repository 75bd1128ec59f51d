"""I420 to RGB: against FFmpeg's own conversion, and its shape for every batch."""

from typing import Literal

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from rushes.footage.colour import i420_to_rgb


def random_i420(height: int, width: int, *, frames: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height * 3 // 2, width), dtype=np.uint8)


def ffmpeg_rgb(frame: np.ndarray) -> np.ndarray:
    """swscale's unscaled conversion, which repeats chroma as ours does."""
    source = av.VideoFrame.from_ndarray(frame, format="yuv420p")
    return source.reformat(format="rgb24", src_colorspace="ITU601", src_color_range="MPEG").to_ndarray()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (34, 32), (48, 64), (18, 16), (112, 112)])
def test_conversion_is_ffmpegs_to_three_grey_levels(height: int, width: int) -> None:
    frames = random_i420(height, width)
    expected = np.stack([ffmpeg_rgb(frame) for frame in frames])
    found = i420_to_rgb(torch.from_numpy(frames)).permute(1, 2, 3, 0).numpy() * 255
    difference = np.abs(found - expected)
    # swscale computes in fixed point and truncates; another matrix (BT.709) or full range is 20 levels away.
    assert difference.max() <= 3
    assert difference.mean() <= 1


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_each_matrix_and_range_is_ffmpegs_to_one_grey_level(
    matrix: Literal["bt601", "bt709"], full_range: bool
) -> None:
    rng = np.random.default_rng(1)
    # Legal values: swscale's accurate conversion overflows beyond. Flat chroma: it does not upsample by repetition.
    lowest, white, most = (0, 255, 255) if full_range else (16, 235, 240)
    frames = rng.integers(lowest, white + 1, (100, 24, 16), dtype=np.uint8)
    for frame in frames:
        frame[16:].reshape(2, -1)[:] = rng.integers(lowest, most + 1, (2, 1))
    accurate = VideoReformatter()
    expected = [
        accurate.reformat(
            av.VideoFrame.from_ndarray(frame, format="yuv420p"),
            format="rgb24",
            src_colorspace={"bt601": Colorspace.ITU601, "bt709": Colorspace.ITU709}[matrix],
            src_color_range="JPEG" if full_range else "MPEG",
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
        ).to_ndarray()
        for frame in frames
    ]
    found = i420_to_rgb(torch.from_numpy(frames), matrix=matrix, full_range=full_range).permute(1, 2, 3, 0) * 255
    assert np.abs(found.numpy() - np.stack(expected)).max() <= 1


def test_the_default_is_bt601_in_limited_range() -> None:
    frames = torch.from_numpy(random_i420(16, 16))
    assert torch.equal(i420_to_rgb(frames), i420_to_rgb(frames, matrix="bt601", full_range=False))
    assert not torch.equal(i420_to_rgb(frames), i420_to_rgb(frames, matrix="bt709"))
    assert not torch.equal(i420_to_rgb(frames), i420_to_rgb(frames, full_range=True))


def test_black_white_and_grey_are_exact() -> None:
    frames = torch.full((3, 6, 4), 128, dtype=torch.uint8)
    for index, luma in enumerate((16, 235, 126)):
        frames[index, :4] = luma
    rgb = i420_to_rgb(frames)
    assert torch.equal(rgb[:, 0], torch.zeros(3, 4, 4))
    assert torch.allclose(rgb[:, 1], torch.ones(3, 4, 4), atol=1e-6)
    assert torch.allclose(rgb[:, 2], torch.full((3, 4, 4), (126 - 16) / 219), atol=1e-6)


def test_values_outside_the_limited_range_are_clamped() -> None:
    rgb = i420_to_rgb(torch.from_numpy(random_i420(64, 64)))
    assert rgb.min() == 0 and rgb.max() == 1 and rgb.dtype == torch.float32


def test_a_batch_is_its_frames_converted_one_by_one() -> None:
    frames = torch.from_numpy(random_i420(16, 24, frames=2 * 3 * 5)).reshape(2, 3, 5, 24, 24)
    rgb = i420_to_rgb(frames)
    assert rgb.shape == (2, 3, 3, 5, 16, 24)
    for index in np.ndindex(2, 3, 5):
        assert torch.equal(rgb[index[0], index[1], :, index[2]], i420_to_rgb(frames[index][None])[:, 0])
