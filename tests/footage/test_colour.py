"""I420 to RGB: against FFmpeg's own conversion, and its shape for every batch."""

import av
import numpy as np
import pytest
import torch

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
