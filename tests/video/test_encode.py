"""The encoder: same bytes every time, exact groups of pictures, and no trace of time in a still video."""

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushes.video.encode import encode_h264
from rushes.video.frames import Frames
from rushes.video.probe import probe
from tests.decoding import decode_all


def textured(height: int, width: int, *, seed: int, kind: str) -> Frames:
    """One I420 frame with detail at every scale the encoder could lose."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: height * 3 // 2, :width]
    if kind == "noise":
        noise: Frames = rng.integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)
        return noise
    waves = 60 * np.sin(columns / rng.uniform(1.5, 12)) * np.cos(rows / rng.uniform(1.5, 12))
    return np.asarray(128 + waves + 20 * np.sin(rows * columns / 50)).astype(np.uint8)


def moving(frames: int, height: int = 64, width: int = 80) -> Frames:
    base = textured(height, width + 2 * frames, seed=1, kind="waves")
    return np.stack([np.ascontiguousarray(base[:, 2 * k : 2 * k + width]) for k in range(frames)])


def raw_frames(mp4: bytes) -> tuple[Frames, list[int]]:
    with av.open(io.BytesIO(mp4), mode="r") as container:
        frames = list(container.decode(video=0))
    return np.stack([f.to_ndarray() for f in frames]), [k for k, f in enumerate(frames) if f.key_frame]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["noise", "waves"]),
    qp=st.sampled_from([0, 10, 18, 22, 26, 26, 30, 36, 44, 51]),
    size=st.sampled_from([(64, 80), (128, 170), (170, 128), (98, 102), (128, 228)]),
    gop=st.sampled_from([1, 5, 12]),
)
def test_still_video_decodes_to_identical_frames(
    seed: int, kind: str, qp: int, size: tuple[int, int], gop: int
) -> None:
    frame = textured(*size, seed=seed, kind=kind)
    decoded, _ = raw_frames(encode_h264([frame] * 14, fps=25, qp=qp, gop=gop))
    assert decoded.shape == (14, *frame.shape)
    assert (decoded == decoded[0]).all()


def test_a_pause_in_a_moving_video_is_still_too() -> None:
    frames = moving(10)
    frames = np.concatenate([frames[:7], np.repeat(frames[7:8], 9, axis=0), frames[7:]])
    decoded, _ = raw_frames(encode_h264(frames, fps=25, qp=30, gop=8))
    assert (decoded[8:16] == decoded[8]).all(), "within the group of pictures after the key frame at 8"
    assert (decoded[:7] != decoded[1:8]).any(axis=(1, 2)).all(), "what moves is not frozen"


def test_key_frames_fall_on_multiples_of_the_gop_whatever_happens_in_the_picture() -> None:
    cuts = np.concatenate([moving(12), 255 - moving(12), moving(4)])
    _, keys = raw_frames(encode_h264(cuts, fps=25, qp=26, gop=7))
    assert keys == [0, 7, 14, 21]


def test_bytes_repeat() -> None:
    frames = moving(15)
    assert encode_h264(frames, fps=29.97, qp=26, gop=12) == encode_h264(iter(frames), fps=29.97, qp=26, gop=12)


def test_quality_follows_the_quantiser_and_zero_is_lossless() -> None:
    frames = moving(12)
    errors, sizes = [], []
    for qp in (0, 20, 35):
        mp4 = encode_h264(frames, fps=25, qp=qp, gop=12)
        errors.append(float(np.abs(raw_frames(mp4)[0].astype(int) - frames).mean()))
        sizes.append(len(mp4))
    assert errors[0] == 0 < errors[1] < errors[2]
    assert sizes == sorted(sizes, reverse=True)


def test_the_file_shows_the_picture_without_the_padding_to_whole_macroblocks() -> None:
    frames = moving(5, height=98, width=102)
    mp4 = encode_h264(frames, fps=25, qp=10, gop=12)
    found = probe(mp4)
    assert (found.width, found.height, found.fps, found.frames) == (102, 98, 25.0, 5)
    with av.open(io.BytesIO(mp4), mode="r") as container:
        stream = container.streams.video[0]
        assert (stream.sample_aspect_ratio or 1) == 1, "a header with another size would stretch it"
        assert not any(frame.pts is None for frame in container.decode(stream))
    assert np.abs(raw_frames(mp4)[0].astype(int) - frames).mean() < 4


def test_our_own_files_pass_the_decoder_unchanged() -> None:
    mp4 = encode_h264(moving(6), fps=25, qp=26, gop=12)
    assert np.array_equal(decode_all(mp4, short_side=64, fps=25.0), raw_frames(mp4)[0])


def test_no_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="none given"):
        encode_h264([], fps=25, qp=26, gop=12)
