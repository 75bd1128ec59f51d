"""Frames of a request, encoded as footage is: the same bytes that evaluation reads, whatever is asked for."""

import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rushes.errors import UserError
from rushes.video import reencode
from rushes.video.coding import Encoding
from rushes.video.encode import encode_h264
from rushes.video.file_clips import video_clips
from rushes.video.frames import Frames
from rushes.video.reencode import Reencoder

FPS = 25.0


def drawn(rng: np.random.Generator, *, frames: int, height: int, width: int) -> list[Frames]:
    """Noise that drifts, cuts, and now and then stands still."""
    found: list[Frames] = []
    while len(found) < frames:
        base = rng.uniform(20, 230, (height * 3 // 2, width))
        for _ in range(rng.integers(1, 20)):
            base = base + rng.normal(0, 8, base.shape) * (rng.random() < 0.7)
            found.append(base.clip(0, 255).astype(np.uint8))
    return found[:frames]


def decoded(mp4: bytes) -> list[Frames]:
    with av.open(io.BytesIO(mp4), mode="r") as container:
        return [frame.to_ndarray().astype(np.uint8) for frame in container.decode(video=0)]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_frames_are_those_that_a_segment_of_footage_decodes_to(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000), label="seed"))
    count = data.draw(st.integers(1, 60), label="frames")
    height, width = (data.draw(st.integers(8, 36), label=side) * 2 for side in ("height", "width"))
    encoding = Encoding(
        codec="h264",
        short_side=min(height, width),
        qp=data.draw(st.integers(0, 51), label="qp"),
        gop=data.draw(st.integers(1, 25), label="gop"),
    )
    frames = drawn(rng, frames=count, height=height, width=width)
    expected = decoded(encode_h264(frames, fps=data.draw(st.floats(1, 120)), qp=encoding.qp, gop=encoding.gop))
    numbers = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1), label="numbers"))
    held = data.draw(st.integers(0, count * frames[0].nbytes), label="bytes held")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reencode, "_HELD", held)
        coded = Reencoder(encoding)
        for frame in frames:
            coded.add(frame)
        found = [frame.to_ndarray() for frame in coded.frames(numbers)]
    assert np.array_equal(np.stack(found), np.stack([expected[number] for number in numbers]))


def test_a_long_video_is_held_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frames = drawn(rng, frames=120, height=32, width=48)
    monkeypatch.setattr(reencode, "_HELD", 24 * frames[0].nbytes)
    coded = Reencoder(Encoding(codec="h264", short_side=32, qp=26, gop=12))
    for frame in frames:
        coded.add(frame)
        assert coded.held_bytes <= (24 + 12) * frames[0].nbytes
    assert len(list(coded.frames(range(120)))) == 120


def test_only_the_groups_that_hold_wanted_frames_are_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def counted(frames: list[Frames], *, fps: float, qp: int, gop: int) -> bytes:
        encoded.append(len(frames))
        return encode_h264(frames, fps=fps, qp=qp, gop=gop)

    monkeypatch.setattr(reencode, "encode_h264", counted)
    coded = Reencoder(Encoding(codec="h264", short_side=32, qp=26, gop=12))
    for frame in drawn(np.random.default_rng(0), frames=100, height=32, width=48):
        coded.add(frame)
    assert len(list(coded.frames([0, 1, 50, 99]))) == 4
    assert encoded == [2, 3, 4]


def test_without_the_encoder_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reencode.ENCODERS, "h264", "libx264_left_out")
    encoding = Encoding(codec="h264", short_side=32, qp=26, gop=12)
    with pytest.raises(UserError, match=r"encoded as h264 \(qp 26\).*lacks libx264_left_out: serve where"):
        Reencoder(encoding)
    mp4 = encode_h264(drawn(np.random.default_rng(0), frames=20, height=32, width=48), fps=FPS, qp=20, gop=12)
    assert video_clips(mp4, short_side=32, fps=FPS, clips=2, clip_frames=4, crop=32).shape == (2, 4, 48, 32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"codec": "h265"}, "encoding.codec: 'h265' is not known here, only h264"),
        ({"short_side": 31}, "encoding.short_side: 31"),
        ({"qp": 52}, "encoding.qp: 52"),
        ({"gop": 0}, "encoding.gop: 0"),
    ],
)
def test_a_bad_encoding_is_refused_by_field(changed: dict[str, int], message: str) -> None:
    fields: dict[str, object] = {"codec": "h264", "short_side": 32, "qp": 26, "gop": 12} | changed
    with pytest.raises(UserError, match=message):
        Encoding(**fields)  # type: ignore[arg-type]
