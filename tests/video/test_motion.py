"""Motion by the encoder's vectors: right in size and place, and in step with optical flow on real videos."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from benchmarks._flow import farneback_motion
from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from rushes.video.motion import Motion, encoder_motion, quantiles
from rushes.video.windows import busiest_patch, draw_window, window_means
from tests.decoding import decode_all


def texture(height: int, width: int, *, seed: int = 0) -> Frames:
    """Luma with detail of some 8 pixels, the same in no two places."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 216, (height // 8 + 2, width // 8 + 2)).astype(np.float64)
    rows, columns = np.arange(height) / 8, np.arange(width) / 8
    across = np.stack([np.interp(columns, np.arange(small.shape[1]), row) for row in small])
    return np.stack([np.interp(rows, np.arange(len(small)), column) for column in across.T], axis=1).astype(np.uint8)


def i420(luma: Frames) -> Frames:
    """Grey frames `[n, H * 3/2, W]` of luma `[n, H, W]`."""
    count, height, width = luma.shape
    return np.concatenate([luma, np.full((count, height // 2, width), 128, dtype=np.uint8)], axis=1)


def panning(frames: int, *, step: int, height: int = 96, width: int = 128, seed: int = 0) -> Frames:
    scene = texture(height, width + step * frames, seed=seed)
    return i420(np.stack([scene[:, step * k : step * k + width] for k in range(frames)]))


def encoded(frames: Frames, *, gop: int = 12) -> Motion:
    return encoder_motion(encode_h264(frames, fps=25, qp=26, gop=gop))


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_pan_has_its_speed_in_every_frame_and_cell_by_vectors_and_by_flow(step: int) -> None:
    frames = panning(30, step=step)
    for motion in (encoded(frames), farneback_motion(frames)):
        assert motion.magnitude.dtype == np.float32
        assert motion.grid.dtype == np.uint8 and motion.grid.shape == (30, 4, 5)
        assert motion.magnitude == pytest.approx(np.full(30, step), rel=0.2)
        assert motion.grid[:, :, 1:4].mean() == pytest.approx(16 * step, rel=0.1)


@pytest.mark.parametrize("size", [(96, 128), (98, 102), (170, 128)])
def test_a_cells_motion_is_the_mean_over_its_own_pixels(size: tuple[int, int]) -> None:
    motion = encoded(panning(20, step=2, height=size[0], width=size[1]))
    assert motion.grid.mean(axis=(1, 2)) / 16 == pytest.approx(motion.magnitude, abs=0.04)
    assert motion.grid.mean(0) == pytest.approx(np.full((4, 5), 32), rel=0.25), "none is counted over the padding"


def test_the_grid_shows_where_it_moves() -> None:
    height, width = 128, 160
    still, moved = texture(height, width), texture(32, 200, seed=1)
    frames = np.repeat(still[None], 20, axis=0)
    for k in range(20):
        frames[k, 64:96, 96:128] = moved[:, 3 * k : 3 * k + 32]
    for motion in (encoded(i420(frames)), farneback_motion(i420(frames))):
        mean = motion.grid.mean(0)
        assert np.unravel_index(mean.argmax(), mean.shape) == (2, 3)
        elsewhere = np.delete(mean.ravel(), 2 * 5 + 3)
        assert mean[2, 3] > 3 * elsewhere.max()


def test_magnitude_is_the_area_weighted_mean_of_what_the_stream_holds() -> None:
    mp4 = encode_h264(panning(14, step=3), fps=25, qp=26, gop=12)
    motion = encoder_motion(mp4)
    with av.open(io.BytesIO(mp4), mode="r") as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}  # with the loop filter
        frames = list(container.decode(stream))
    for k in (1, 6, 11, 13):
        vectors = frames[k].side_data.get("MOTION_VECTORS").to_ndarray()  # type: ignore[union-attr]
        total = sum(float(v["w"]) * v["h"] * np.hypot(v["motion_x"] / 4, v["motion_y"] / 4) for v in vectors)
        assert motion.magnitude[k] == pytest.approx(total / (96 * 128), rel=1e-5)


def test_key_frames_are_interpolated_and_the_first_frame_takes_the_seconds_motion() -> None:
    frames = np.concatenate([panning(12, step=1), panning(12, step=4)])
    motion = encoded(frames)
    assert motion.magnitude[0] == motion.magnitude[1] > 0
    assert motion.magnitude[12] == pytest.approx((motion.magnitude[11] + motion.magnitude[13]) / 2)
    assert (motion.grid[0] == motion.grid[1]).all()


def test_a_cut_is_not_motion() -> None:
    motion = encoded(np.concatenate([panning(6, step=1), 255 - panning(12, step=1, seed=3)]))
    assert motion.magnitude[6] == pytest.approx((motion.magnitude[5] + motion.magnitude[7]) / 2)


@pytest.mark.parametrize(("frames", "gop"), [(1, 12), (5, 1)])
def test_without_a_single_vector_nothing_moves(frames: int, gop: int) -> None:
    motion = encoded(panning(frames, step=4), gop=gop)
    assert motion.magnitude.tolist() == [0] * frames
    assert not motion.grid.any()


def test_a_still_video_does_not_move() -> None:
    motion = encoded(np.repeat(panning(1, step=0), 20, axis=0))
    assert not motion.magnitude.any()


def test_the_grids_bytes_saturate() -> None:
    frames = panning(14, step=18)
    assert encoded(frames).grid.max() == 255


@pytest.mark.real
def test_vectors_rank_windows_of_real_videos_as_flow_does(shared_data: Path) -> None:
    videos = sorted((shared_data / "ut_interaction").rglob("*.avi"))[::24]
    vectors, flow = [], []
    for video in videos:
        frames = decode_all(video, short_side=128, fps=25.0)
        vectors.append(window_means(encoded(frames).magnitude)[::8])
        flow.append(window_means(farneback_motion(frames).magnitude)[::8])
    assert spearmanr(np.concatenate(vectors), np.concatenate(flow)).statistic > 0.94


# Windows and draws ---------------------------------------------------------------------------------------------------


def test_window_means() -> None:
    assert window_means([1, 2, 3, 6], span=2).tolist() == [1.5, 2.5, 4.5]
    assert window_means([1, 2, 3, 6], span=9).tolist() == [3.0]


def test_quantiles_are_of_windows_not_of_frames() -> None:
    spike = np.zeros(160)
    spike[80] = 16
    assert quantiles(spike) == pytest.approx((0, 0, 0, 0, 1))
    assert quantiles(np.arange(116)) == pytest.approx((17.5, 32.5, 57.5, 82.5, 97.5))


def test_windows_are_drawn_in_proportion_to_their_motion() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([draw_window([0, 0, 2, 2, 4], span=2, rng=rng) for _ in range(4000)], minlength=4)
    assert counts[0] == 0
    assert counts[1:] / 4000 == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=0.03)


def test_windows_of_a_still_video_are_drawn_uniformly() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([draw_window(np.zeros(6), span=3, rng=rng) for _ in range(4000)])
    assert counts / 4000 == pytest.approx(np.full(4, 1 / 4), abs=0.03)


@pytest.mark.parametrize("number", [0, 5])
def test_more_than_there_is_cannot_be_drawn(number: int) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=rf"span: {number} .* 4 frames"):
        draw_window(np.ones(4), span=number, rng=rng)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000), height=st.sampled_from([0.2, 0.5, 0.63, 1.0]), width=st.sampled_from([0.1, 0.47, 0.8])
)
def test_no_other_place_for_the_patch_has_more_motion(seed: int, height: float, width: float) -> None:
    grid = np.random.default_rng(seed).integers(0, 256, (3, 4, 5), dtype=np.uint8)
    top, left = busiest_patch(grid, height=height, width=width)
    assert 0 <= top <= 1 and 0 <= left <= 1
    pixels = np.kron(grid.sum(0, dtype=np.float64), np.ones((100, 80)))  # 400 x 400
    high, wide = round(400 * height), round(400 * width)
    sums = np.pad(pixels.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    found = inside[round(top * (400 - high)), round(left * (400 - wide))]
    assert found >= 0.999 * inside.max()


def test_a_still_window_has_its_patch_in_the_middle() -> None:
    assert busiest_patch(np.zeros((2, 4, 5), dtype=np.uint8), height=0.6, width=0.5) == (0.5, 0.5)


@pytest.mark.parametrize("size", [(0, 0.5), (0.5, 1.1)])
def test_a_patch_is_a_share_of_the_frame(size: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shares of the frame"):
        busiest_patch(np.zeros((1, 4, 5), dtype=np.uint8), height=size[0], width=size[1])
