"""Which track of a file is the film, and which way up it is, where the file says it oddly."""

import io
import itertools
import math
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given, settings
from hypothesis import strategies as st

from rushes.video.frames import Frames
from rushes.video.probe import probe
from rushes.video.source import VideoError, demuxed
from tests.decoding import decode_all

FORMATS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "avi": "avi", "ts": "mpegts"}
CODECS = {"h264": "libx264", "hevc": "libx265", "mjpeg": "mjpeg"}
FILM, STILL = (64, 48), (256, 256)


def grey(size: tuple[int, int], level: int) -> av.VideoFrame:
    planes = np.full((size[1] * 3 // 2, size[0]), 128, dtype=np.uint8)
    planes[: size[1]] = level
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


def two_tracks(
    *, suffix: str, codec: str, frames: int = 30, stills: int = 1, first: bool = False, default: bool = False
) -> bytes:
    """A film of `frames` flat frames, frame k of level 40 + 4 k, and a larger track of white frames.

    Args:
        suffix: of the container.
        codec: of the larger track.
        frames: of the film.
        stills: frames of the larger track, spread over the film.
        first: whether the larger track comes first.
        default: whether the larger track alone is flagged as the default.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=FORMATS[suffix]) as container:
        names = ["still", "film"] if first else ["film", "still"]
        streams: dict[str, Any] = {
            name: container.add_stream(CODECS[codec] if name == "still" else "libx264", rate=30) for name in names
        }
        for name, stream in streams.items():
            stream.width, stream.height = STILL if name == "still" else FILM
            stream.pix_fmt = "yuvj420p" if stream.codec_context.name == "mjpeg" else "yuv420p"
            stream.codec_context.options = (
                {"x265-params": "log-level=none:frame-threads=1:pools=none:bframes=0"}
                if name == "still" and codec == "hevc"
                else {}
            )
        if default:
            streams["still"].disposition, streams["film"].disposition = Disposition.default, Disposition(0)
        for k in range(frames):
            shown = [("film", grey(FILM, 40 + 4 * k % 200))]
            if k * stills // frames != (k - 1) * stills // frames:
                shown.append(("still", grey(STILL, 235)))
            for name, frame in shown:
                frame.pts, frame.time_base = k, Fraction(1, 30)
                if name == "still" and codec == "mjpeg":
                    frame = frame.reformat(format="yuvj420p")
                container.mux(streams[name].encode(frame))
        for stream in streams.values():
            container.mux(stream.encode())
    return buffer.getvalue()


def check_film(video: bytes | Path, *, frames: int) -> None:
    found = decode_all(video, short_side=48, fps=None)
    assert found.shape == (frames, 72, 64)
    assert [round(float(frame[:48].mean()) - 40) // 4 for frame in found[:20]] == list(range(min(20, frames)))


CASES = [
    (suffix, codec)
    for suffix, codec in itertools.product(FORMATS, CODECS)
    if (suffix, codec) not in {("ts", "mjpeg"), ("avi", "hevc"), ("mp4", "hevc"), ("mov", "hevc")}
]


@pytest.mark.parametrize(("suffix", "codec"), CASES)
@pytest.mark.parametrize("first", [False, True], ids=["film first", "thumbnail first"])
@pytest.mark.parametrize("default", [False, True], ids=["alike", "thumbnail is default"])
def test_a_larger_track_of_one_frame_is_not_the_film(suffix: str, codec: str, first: bool, default: bool) -> None:
    video = two_tracks(suffix=suffix, codec=codec, first=first, default=default)
    check_film(video, frames=30)
    assert (probe(video).width, probe(video).height) == FILM


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize("stills", [2, 5])
def test_a_phones_track_of_a_few_large_frames_is_not_the_film(suffix: str, stills: int) -> None:
    check_film(two_tracks(suffix=suffix, codec="hevc", frames=60, stills=stills, first=True), frames=60)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_shortest_film_is_the_film(suffix: str) -> None:
    check_film(two_tracks(suffix=suffix, codec="h264", frames=6, first=True), frames=6)


@pytest.mark.real
def test_a_thumbnail_track_of_an_editor_is_not_the_film(shared_data: Path) -> None:
    path = shared_data.parent / "reports" / "thumbnail_track_larger_than_film" / "31c_mjpeg_track_not_flagged.mp4"
    if not path.exists():
        pytest.skip("the reported files are not here")
    assert decode_all(path, short_side=240, fps=None).shape == (90, 360, 320)
    assert probe(path).seconds == pytest.approx(3.0)


# Orientation ---------------------------------------------------------------------------------------------------------


def corners() -> tuple[bytes, Frames]:
    """A video whose four quarters differ, and its upright frame."""
    planes = np.full((72, 64), 128, dtype=np.uint8)
    planes[:24, :32], planes[:24, 32:], planes[24:48, :32], planes[24:48, 32:] = 200, 150, 100, 50
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *FILM, "yuv420p"
        stream.codec_context.options = {"qp": "4"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
    (upright,) = decode_all(buffer.getvalue(), short_side=48, fps=None)
    return buffer.getvalue(), upright


VIDEO, UPRIGHT = corners()


def with_matrix(values: tuple[int, ...], box: bytes = b"tkhd") -> bytes:
    """The video with these nine numbers in the header of its track, or of the film (b"mvhd")."""
    at = VIDEO.index(box) + 4 + {b"tkhd": 40, b"mvhd": 36}[box]
    return VIDEO[:at] + struct.pack(">9i", *values) + VIDEO[at + 36 :]


def quarters(values: tuple[int, ...]) -> Frames:
    frame: Frames = decode_all(with_matrix(values), short_side=48, fps=None)[0]
    return frame


ONE, W = 1 << 16, 1 << 30


@pytest.mark.parametrize("box", [b"tkhd", b"mvhd"])
@pytest.mark.parametrize(
    "values",
    [
        (0,) * 9,
        (0, 0, 0, 0, 0, 0, 0, 0, W),
        (ONE, 0, 0, 0, 0, 0, 0, 0, W),
        (0, 0, 0, 0, ONE, 0, 0, 0, W),
        (ONE, ONE, 0, 0, 0, 0, 0, 0, W),
        (ONE, 0, 0, 0, ONE, 0, 5 * ONE, -7 * ONE, W),
    ],
    ids=["zeros", "zeros but w", "no height", "no width", "flat", "shifted"],
)
def test_a_matrix_that_tells_no_direction_leaves_the_film_upright(values: tuple[int, ...], box: bytes) -> None:
    (found,) = decode_all(with_matrix(values, box), short_side=48, fps=None)
    assert np.array_equal(found, UPRIGHT)


@pytest.mark.parametrize("degrees", [-44, -10, 1, 44])
@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_an_odd_angle_is_the_nearest_quarter(degrees: int, quarter: int, mirrored: bool) -> None:
    def matrix(angle: float) -> tuple[int, ...]:
        c, s = (round(value * ONE) for value in (math.cos(math.radians(angle)), math.sin(math.radians(angle))))
        a, b, x, y = (c, s, s, -c) if mirrored else (c, s, -s, c)
        return (a, b, 0, x, y, 0, 0, 0, W)

    assert np.array_equal(quarters(matrix(90 * quarter + degrees)), quarters(matrix(90 * quarter)))


def quarter_levels(luma: Frames) -> list[float]:
    """The means of the four quarters, ascending."""
    return sorted(float(part.mean()) for half in np.array_split(luma, 2) for part in np.array_split(half, 2, axis=1))


ODD = st.one_of(st.sampled_from([0, ONE, -ONE, 2**31 - 1, -(2**31)]), st.integers(-W, W))


@given(values=st.tuples(*[ODD] * 9))
@settings(max_examples=40, deadline=None)
def test_any_matrix_turns_or_flips_and_does_nothing_else(values: tuple[int, ...]) -> None:
    try:
        found = quarters(values)
    except VideoError as error:
        assert error.reason == "odd_shape", "stretched beyond eight to one"
        return
    assert np.allclose(quarter_levels(found[: found.shape[0] * 2 // 3]), quarter_levels(UPRIGHT[:48]), atol=8)


@pytest.mark.real
def test_a_browsers_matrix_of_zeros_leaves_the_film_upright(shared_data: Path) -> None:
    path = shared_data.parent / "reports" / "zero_display_matrix" / "47g_zero.mp4"
    if not path.exists():
        pytest.skip("the reported files are not here")
    assert (probe(path).width, probe(path).height) == (320, 240)
    with av.open(str(path)) as container:
        plain = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert plain[8, 8].argmax() == 0, "its upper left corner is red"
    frame = decode_all(path, short_side=240, fps=None)[0]
    shown = av.VideoFrame.from_ndarray(frame, format="yuv420p").to_ndarray(format="rgb24")
    assert np.abs(shown[8, 8].astype(int) - plain[8, 8]).max() < 30


class Growing:
    """A container of FFmpeg's in which a stream appears while it is read: PyAV fails at its first packet."""

    def __init__(self, container: Any, *, after: int) -> None:
        self.container, self.after = container, after

    def demux(self, streams: Any) -> Any:
        for number, packet in enumerate(self.container.demux(streams)):
            if number == self.after:
                self.after = -1
                raise IndexError("list index out of range")
            yield packet


@pytest.mark.parametrize("after", [1, 10, 29, 30])
def test_a_stream_that_appears_later_does_not_end_the_film(after: int) -> None:
    with av.open(io.BytesIO(two_tracks(suffix="ts", codec="h264"))) as container:
        streams = [container.streams.video[0]]
        found = demuxed(Growing(container, after=after), streams)  # type: ignore[arg-type]
        assert sum(packet.size > 0 for packet in found) == (30 if after == 30 else 29)
