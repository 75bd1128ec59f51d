"""The decoder on files made here, whose truth is known, and on a few real ones (all of them: test_odd_videos.py)."""

import io
import itertools
import pickle
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest
from av.filter import Graph
from av.video.reformatter import Interpolation
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from rushes.video import decode
from rushes.video.decode import decode_i420, decode_timed
from rushes.video.frames import Frames
from rushes.video.probe import probe
from rushes.video.source import Limits, VideoError
from tests.decoding import decode_all


@pytest.mark.real
def test_bytes_decode_as_the_file_does(shared_data: Path) -> None:
    path = shared_data / "odd_videos" / "real" / "hmdb_nonutf8_metadata.avi"
    whole = decode_all(path, short_side=64, fps=25.0)
    assert np.array_equal(whole, decode_all(path.read_bytes(), short_side=64, fps=25.0))


@pytest.mark.real
def test_rotation_turns_the_picture_counterclockwise_as_the_matrix_says(shared_data: Path) -> None:
    folder = shared_data / "odd_videos" / "derived"
    upright = decode_all(folder / "base_h264.mp4", short_side=128, fps=None)[0]
    turned = decode_all(folder / "rot90_meta.mp4", short_side=128, fps=None)[0]
    assert np.array_equal(turned[:170], np.rot90(upright[:128]))
    chroma = upright[128:].reshape(2, 64, 85)
    assert np.array_equal(turned[170:].reshape(2, 85, 64), np.rot90(chroma, axes=(1, 2)))


def numbered(
    times: list[float],
    *,
    suffix: str = "mp4",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
) -> bytes:
    """A video whose frame k, shown at `times[k]`, is a flat grey of 16 + 4 * k."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format={"mp4": "mp4", "mkv": "matroska"}[suffix]) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.options = {"qp": "10", "bf": "0", "g": "5", "x264-params": "scenecut=0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for k, t in enumerate(times):
            grey = np.full((size[1] * 3 // 2, size[0]), 128, dtype=np.uint8)
            grey[: size[1]] = 16 + 4 * k
            frame = av.VideoFrame.from_ndarray(grey, format="yuv420p").reformat(format=pixels)
            frame.pts, frame.time_base = round(t * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def numbers(frames: list[Frames] | Frames) -> list[int]:
    return [round((float(frame[:16].mean()) - 16) / 4) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_becomes_constant_by_timestamps(suffix: str) -> None:
    video = numbered([0.0, 0.1, 0.5, 0.6, 0.7], suffix=suffix)
    frames = decode_all(video, short_side=16, fps=10.0)
    assert numbers(frames)[:8] == [0, 1, 1, 1, 1, 2, 3, 4]


def test_a_higher_rate_repeats_and_a_lower_rate_drops() -> None:
    video = numbered([k / 10 for k in range(20)])
    assert numbers(decode_all(video, short_side=16, fps=20.0)) == sorted([*range(20), *range(20)])
    assert numbers(decode_all(video, short_side=16, fps=5.0)) == list(range(0, 20, 2))
    assert numbers(decode_all(video, short_side=16, fps=None)) == list(range(20))


def test_a_single_frame_is_a_frame_at_any_rate() -> None:
    assert numbers(decode_all(numbered([0.0]), short_side=16, fps=5.0)) == [0]


def test_a_first_timestamp_beyond_zero_is_the_beginning() -> None:
    assert numbers(decode_all(numbered([5 + k / 10 for k in range(6)], suffix="mkv"), short_side=16, fps=10.0)) == [
        *range(6)
    ]


def test_a_frame_stands_for_up_to_an_hour_and_times_after_a_longer_gap_stay_true() -> None:
    video = numbered([0.0, 0.1, 100.0, 100.1, 7300.0, 7300.1, 7301.1])
    timed = list(decode_timed(video, short_side=16, fps=1.0))
    assert [round(t) for t, frame in timed if numbers([frame]) == [3]] == list(range(100, 3700))
    assert [round(t) for t, _ in timed] == [*range(3700), 7300, 7301], "not two hours of one frame"
    for start in (100.0, 7300.0):
        after = list(decode_timed(video, short_side=16, fps=1.0, start=start))
        assert [t for t, _ in after] == [t for t, _ in timed if t >= start]


def test_spans_partition_the_frames_even_between_grid_points() -> None:
    video = numbered([k / 30 for k in range(50)])
    cuts = [0.0, 0.333, 0.667, 1.0, 1.2, None]
    spans = [
        list(decode_i420(video, short_side=16, fps=25.0, start=start or 0.0, end=end))
        for start, end in itertools.pairwise(cuts)
    ]
    joined = np.concatenate([np.stack(span) for span in spans])
    assert np.array_equal(joined, decode_all(video, short_side=16, fps=25.0))
    thirds = [list(decode_i420(video, short_side=16, fps=30.0, start=a, end=b)) for a, b in ((0.333, 0.667),)]
    assert numbers(thirds[0]) == list(range(10, 20)), "labels written to the millisecond are exact to the frame"


@pytest.mark.parametrize("pixels", ["yuv444p", "yuv422p", "yuv420p10le", "yuvj420p"])
def test_every_pixel_format_becomes_limited_range_4_2_0(pixels: str) -> None:
    (frame,) = decode_all(numbered([0.0], pixels=pixels, size=(128, 96)), short_side=96, fps=None)
    assert frame.shape == (144, 128)
    assert abs(float(frame[:96].mean()) - 16) <= 1, "black is 16 whatever the source's range"
    assert abs(float(frame[96:].mean()) - 128) <= 1


@pytest.mark.parametrize("matrix", [1, 6, 9], ids=["bt709", "bt601", "bt2020"])
def test_colours_come_out_in_bt601_whatever_the_source_matrix(matrix: int) -> None:
    rgb = np.zeros((96, 128, 3), dtype=np.uint8)
    rgb[:] = (200, 40, 60)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.options = {"qp": "4"}
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        space = {1: "ITU709", 6: "ITU601", 9: "BT2020"}[matrix]
        frame = frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=1)
        frame.colorspace = matrix
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (out,) = decode_all(buffer.getvalue(), short_side=96, fps=None)
    u, v = out[96:].reshape(2, -1).mean(axis=1)
    # BT.601 limited, by hand: Y = 16 + .257 R + .504 G + .098 B, and so on.
    expected = (16 + 0.257 * 200 + 0.504 * 40 + 0.098 * 60, 128 - 0.148 * 200 - 0.291 * 40 + 0.439 * 60)
    assert abs(float(out[:96].mean()) - expected[0]) < 2.5
    assert abs(float(u) - expected[1]) < 2.5
    assert abs(float(v) - (128 + 0.439 * 200 - 0.368 * 40 - 0.071 * 60)) < 2.5


def test_each_limit_has_its_reason(tmp_path: Path) -> None:
    video = numbered([k / 10 for k in range(30)])
    for limits, reason in (
        (Limits(max_bytes=100), "too_large"),
        (Limits(max_pixels=64 * 48 - 1), "too_many_pixels"),
        (Limits(max_seconds=1.0), "too_long"),
        (Limits(decode_seconds=0.0), "timeout"),
    ):
        with pytest.raises(VideoError) as caught:
            decode_all(video, short_side=16, fps=10.0, limits=limits)
        assert caught.value.reason == reason
    path = tmp_path / "absent.mp4"
    with pytest.raises(VideoError, match=r"absent\.mp4") as caught:
        probe(path)
    assert caught.value.reason == "unreadable"


def test_packets_that_do_not_decode_are_on_the_clock_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_packets", lambda video, clock: iter([None, None]))
    for seconds, reason in ((60.0, "decode_error"), (0.0, "timeout")):
        with pytest.raises(VideoError) as caught:
            decode_all(numbered([0.0, 0.1]), short_side=16, fps=10.0, limits=Limits(decode_seconds=seconds))
        assert caught.value.reason == reason


def test_a_sliver_is_refused_instead_of_scaled_to_a_wall() -> None:
    with pytest.raises(VideoError) as caught:
        decode_all(numbered([0.0], size=(320, 16)), short_side=128, fps=None)
    assert caught.value.reason == "odd_shape"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{secret}'\n",
    ],
    ids=["hls", "concat"],
)
def test_a_playlist_cannot_make_us_read_another_file(tmp_path: Path, text: str) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(numbered([0.0, 0.1]))
    playlist = tmp_path / "innocent.mp4"
    playlist.write_text(text.format(secret=secret.name))
    with pytest.raises(VideoError) as caught:
        probe(playlist)
    assert caught.value.reason == "not_a_video"


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(VideoError("too_long", "a.mp4: 9 s")))
    assert (error.reason, str(error)) == ("too_long", "a.mp4: 9 s")


# Interlaced ----------------------------------------------------------------------------------------------------------


def through(frame: av.VideoFrame, *filters: tuple[str, dict[str, str]]) -> av.VideoFrame:
    """`frame` through FFmpeg's filters."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    nodes = [graph.add(name, **settings) for name, settings in filters]
    graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def flagged(frames: list[Frames], interlaced: list[bool]) -> bytes:
    """A lossless video of I420 frames of 64 x 48 at 25 fps that carry these flags, the top field first."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"flags": "+ilme+ildct", "g": "1"}
        for k, (planes, flag) in enumerate(zip(frames, interlaced, strict=True)):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame = through(frame, ("setfield", {"mode": "tff" if flag else "prog"}))
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def edge(x: int) -> Frames:
    planes = np.full((72, 64), 128, dtype=np.uint8)
    planes[:48] = 60
    planes[:48, :x] = 200
    return planes


def moving_edge(frames: int) -> tuple[list[Frames], list[Frames]]:
    """A vertical edge that moves two pixels per field: the interlaced frames, and the frames of their first fields."""
    first = [edge(4 + 4 * k) for k in range(frames)]
    woven = [planes.copy() for planes in first]
    for k, planes in enumerate(woven):
        planes[1:48:2] = edge(6 + 4 * k)[1:48:2]
    return woven, first


def combing(planes: Frames) -> float:
    """Mean difference, in grey levels, between a line and the mean of its neighbours."""
    luma = planes[: len(planes) * 2 // 3].astype(float)
    return float(np.abs(luma[1:-1] - (luma[:-2] + luma[2:]) / 2).mean())


def test_interlaced_frames_lose_their_combs_and_keep_their_first_field_and_time() -> None:
    woven, first = moving_edge(10)
    times, found = zip(*decode_timed(flagged(woven, [True] * 10), short_side=48, fps=None), strict=True)
    assert np.allclose(times, np.arange(10) / 25, atol=1e-3)
    assert min(combing(planes) for planes in woven) > 3
    assert max(combing(planes) for planes in found) < 0.1
    for planes, expected in zip(found, first, strict=True):
        assert np.array_equal(planes[:48:2], expected[:48:2])
        assert np.abs(planes.astype(int) - expected).mean() < 0.1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_interlaced_frame_comes_out_once(count: int) -> None:
    woven, _ = moving_edge(count)
    assert len(decode_all(flagged(woven, [True] * count), short_side=48, fps=None)) == count


def test_frames_not_flagged_interlaced_are_left_alone() -> None:
    woven, _ = moving_edge(6)
    video = flagged(woven, [False, False, True, True, False, False])
    found = decode_all(video, short_side=48, fps=None)
    assert [np.array_equal(a, b) for a, b in zip(found, woven, strict=True)] == [True, True, False, False, True, True]


def test_a_span_of_interlaced_and_progressive_frames_is_its_part_of_the_whole() -> None:
    noise = np.random.default_rng(0).integers(16, 236, (120, 72, 64), dtype=np.uint8)
    # Every frame is a key frame, and half a second is decoded before a span: less than a run of one kind.
    video = flagged(list(noise), [k % 40 >= 20 for k in range(120)])
    whole = decode_all(video, short_side=48, fps=25.0)
    for first in range(14, 116, 3):
        span = list(decode_i420(video, short_side=48, fps=25.0, start=first / 25, end=(first + 5) / 25))
        assert np.array_equal(np.stack(span), whole[first : first + 5]), f"from frame {first}"


def test_interlaced_frames_may_change_their_size() -> None:
    buffer = io.BytesIO()  # an elementary stream goes on with another header
    for width, height in ((64, 48), (32, 24)):
        encoder = av.CodecContext.create("mpeg2video", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base, encoder.options = Fraction(1, 25), {"flags": "+ilme+ildct"}
        for k in range(5):
            grey = np.full((height * 3 // 2, width), 100 + 10 * k, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="yuv420p")
            frame = through(frame, ("setfield", {"mode": "tff"}))
            frame.pts, frame.time_base = k, Fraction(1, 25)
            buffer.writelines(bytes(packet) for packet in encoder.encode(frame))
        buffer.writelines(bytes(packet) for packet in encoder.encode(None))
    with av.open(io.BytesIO(buffer.getvalue()), "r") as container:
        plain = list(container.decode(video=0))
    assert {(frame.width, frame.interlaced_frame) for frame in plain} == {(64, True), (32, True)}
    found = decode_all(buffer.getvalue(), short_side=48, fps=None)
    for planes, frame in zip(found, plain, strict=True):
        assert np.abs(planes.astype(int) - np.asarray(frame.planes[0])[0]).max() <= 2


def captured(pixels: str, *, tag: int, interlaced: bool, full: bool) -> bytes:
    """One uncompressed HD frame of a flat colour, tagged `tag` (H.273)."""
    planes = np.full((1080, 1280), 100, dtype=np.uint8)
    planes[720:900], planes[900:] = 90, 170
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 2 if full else 1
        stream.codec_context.field_order = 2 if interlaced else 1
        container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p").reformat(format=pixels)))
    return buffer.getvalue()


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("tag", [1, 2, 6, 8])
@pytest.mark.parametrize("pixels", ["yuv422p", "uyvy422"])
def test_deinterlacing_leaves_the_colours_as_they_are(pixels: str, tag: int, full: bool) -> None:
    """FFmpeg has to convert the second format for the filter."""
    videos = [captured(pixels, tag=tag, interlaced=interlaced, full=full) for interlaced in (True, False)]
    with av.open(io.BytesIO(videos[0]), "r") as container:
        assert [(frame.interlaced_frame, frame.colorspace) for frame in container.decode(video=0)] == [(True, tag)]
    filtered, plain = (decode_all(video, short_side=48, fps=None).astype(int) for video in videos)
    assert np.abs(filtered - plain).max() <= 2


@pytest.mark.real
def test_a_real_interlaced_video_comes_closer_to_the_progressive_one_that_it_was_made_of(shared_data: Path) -> None:
    folder = shared_data / "odd_videos" / "derived"
    # Frame k was woven of frames 2k and 2k + 1. The lines of the first are kept, so the others tell.
    source = decode_all(folder / "base_h264.mp4", short_side=240, fps=None)[::2, 1:240:2].astype(int)
    found = decode_all(folder / "interlaced_tff.mp4", short_side=240, fps=None)[:, 1:240:2]
    with av.open(str(folder / "interlaced_tff.mp4")) as container:
        woven = [np.asarray(frame.planes[0]).reshape(240, -1)[1::2, :320] for frame in container.decode(video=0)]
    assert np.abs(found - source).mean() < 0.7 * np.abs(np.stack(woven) - source).mean()


# Orientation ---------------------------------------------------------------------------------------------------------


def with_display_matrix(video: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """An MP4 file's bytes with another (a, b, c, d) in its only track's header."""
    at = video.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    return video[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + video[at + 36 :]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
        ((0, -1, 1, 0), lambda p: np.rot90(p)),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((0, 1, 1, 0), lambda p: p.T),
        ((0, -1, -1, 0), lambda p: p[::-1, ::-1].T),
    ],
    ids=["as is", "clockwise", "half turn", "counterclockwise", "mirrored", "flipped", "transposed", "transversed"],
)
def test_the_display_matrix_turns_and_mirrors(matrix: tuple[int, int, int, int], expected: Any) -> None:
    """A pixel at (x, y) is shown at (a x + c y, b x + d y), y pointing down."""
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.options = {"qp": "4"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    (upright,) = decode_all(buffer.getvalue(), short_side=48, fps=None)
    turned = with_display_matrix(buffer.getvalue(), matrix)
    (found,) = decode_all(turned, short_side=48, fps=None)
    luma, blue, red = (expected(plane) for plane in (upright[:48], *upright[48:].reshape(2, 24, 32)))
    assert np.array_equal(found, np.concatenate([luma.ravel(), blue.ravel(), red.ravel()]).reshape(found.shape))
    assert (probe(turned).height, probe(turned).width) == luma.shape


# Colour --------------------------------------------------------------------------------------------------------------

ACCURATE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
BARS = np.array([(200, 40, 60), (30, 180, 70), (50, 60, 220), (220, 210, 40), (128, 128, 128)], dtype=np.uint8)


def bars(size: tuple[int, int], *, encoded: str, tag: int, full: bool, interlaced: bool = False) -> bytes:
    """One frame of coloured bars, converted by the matrix `encoded`, tagged `tag` (H.273; 2 is no tag)."""
    width, height = size
    rgb = np.broadcast_to(BARS.repeat(-(-width // 5), axis=0)[:width], (height, width, 3))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        fields = {"x264-params": "tff=1"} if interlaced else {}
        stream.codec_context.options = {"qp": "4", "preset": "ultrafast"} | fields
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, 2 if full else 1
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace=encoded, dst_color_range=2 if full else 1, interpolation=ACCURATE
        )
        frame.colorspace = tag
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def shown(frame: Frames) -> Frames:
    """RGB `[5, 3]` of the bars' middles in a BT.601 limited range frame."""
    rgb = av.VideoFrame.from_ndarray(frame, format="yuv420p").reformat(
        format="rgb24", src_colorspace="ITU601", src_color_range="MPEG", interpolation=ACCURATE
    )
    width = rgb.width
    return rgb.to_ndarray()[rgb.height // 2, [(2 * k + 1) * width // 10 for k in range(5)]].astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "encoded", "tag"),
    [
        ((1280, 720), "ITU709", 2),
        ((720, 1280), "ITU709", 2),
        ((720, 576), "ITU601", 2),
        ((1280, 720), "ITU601", 6),
        ((320, 240), "ITU709", 1),
        ((320, 240), "BT2020", 9),
        ((1280, 720), "ITU709", 8),
        ((320, 240), "ITU601", 12),
    ],
    ids=["HD", "HD upright", "SD", "HD tagged 601", "SD tagged 709", "2020", "HD unusual", "SD unusual"],
)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("interlaced", [False, True], ids=["progressive", "interlaced"])
def test_colours_are_those_that_were_encoded(
    size: tuple[int, int], encoded: str, tag: int, full: bool, interlaced: bool
) -> None:
    video = bars(size, encoded=encoded, tag=tag, full=full, interlaced=interlaced)
    (found,) = decode_all(video, short_side=96, fps=None)
    assert np.abs(shown(found).astype(int) - BARS).max() <= 6, "another matrix or range is 15 to 50 away"


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
def test_conversion_is_that_of_ffmpegs_scale_filter(full: bool) -> None:
    tagged = bars((1280, 720), encoded="ITU709", tag=1, full=full)
    with av.open(io.BytesIO(tagged), "r") as container:
        frame = next(container.decode(video=0))
    scaled = through(
        frame,
        (
            "scale",
            {
                "width": "170",
                "height": "96",
                "flags": "bilinear",
                "in_color_matrix": "bt709",
                "out_color_matrix": "smpte170m",
                "in_range": "full" if full else "limited",
                "out_range": "limited",
            },
        ),
        ("format", {"pix_fmts": "yuv420p"}),
    )
    (found,) = decode_all(tagged, short_side=96, fps=None)
    assert np.abs(found.astype(int) - scaled.to_ndarray()).max() <= 1
    untagged = bars((1280, 720), encoded="ITU709", tag=2, full=full)
    assert np.array_equal(found, decode_all(untagged, short_side=96, fps=None)[0])


# URLs ----------------------------------------------------------------------------------------------------------------


class CountedFile(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        if CountedSystem.breaks_at is not None and end > CountedSystem.breaks_at:
            raise ConnectionError("the bucket has gone")
        CountedSystem.fetched += end - start
        return CountedSystem.objects[self.path][start:end]


class CountedSystem(AbstractFileSystem):  # type: ignore[misc]
    """An object store that counts the bytes it hands out, and may break at a place."""

    protocol = "counted"
    objects: dict[str, bytes]
    opened: list[CountedFile]
    fetched: int
    breaks_at: int | None

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **settings: Any) -> CountedFile:
        settings.pop("autocommit", None)
        CountedSystem.opened.append(CountedFile(self, path, mode, **settings))
        return CountedSystem.opened[-1]


@pytest.fixture
def counted() -> Iterator[type[CountedSystem]]:
    fsspec.register_implementation("counted", CountedSystem, clobber=True)
    CountedSystem.objects, CountedSystem.opened = {}, []
    CountedSystem.fetched, CountedSystem.breaks_at = 0, None
    yield CountedSystem
    assert CountedSystem.opened and all(file.closed for file in CountedSystem.opened), "closed after use"


@pytest.fixture(scope="module", params=["+faststart", "0"], ids=["index first", "index last"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Noise at 25 fps with a key frame every ten, more than 20 MB of MP4."""
    path = tmp_path_factory.mktemp("large") / "noise.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": request.param}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.options = {"preset": "ultrafast", "qp": "1", "g": "10"}
        for _ in range(200):
            noise = rng.integers(0, 256, (360, 320), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="yuv420p")))
        container.mux(stream.encode())
    return path.read_bytes()


def test_a_url_decodes_as_the_file_does() -> None:
    video = numbered([k / 10 for k in range(20)])
    fsspec.filesystem("memory").pipe("/archive/a.mp4", video)
    url = "memory://archive/a.mp4"
    assert probe(url) == probe(video)
    for start in (0.0, 1.2):
        found, expected = (list(decode_i420(s, short_side=16, fps=10.0, start=start)) for s in (url, video))
        assert np.array_equal(np.stack(found), np.stack(expected))


def test_probing_a_large_object_reads_little_of_it_and_decoding_reads_it_once(
    counted: type[CountedSystem], large: bytes
) -> None:
    counted.objects["bucket/a.mp4"] = large
    assert len(large) > 20e6
    probe("counted://bucket/a.mp4")
    assert counted.fetched <= 4 << 20
    counted.fetched = 0
    assert len(list(decode_i420("counted://bucket/a.mp4", short_side=16, fps=None, start=6.0, end=6.4))) == 10
    assert counted.fetched < len(large) / 2, "a span is sought, not read up to"
    counted.fetched = 0
    assert len(list(decode_i420("counted://bucket/a.mp4", short_side=16, fps=None))) == 200
    assert counted.fetched < 1.15 * len(large)


def test_a_url_that_stops_answering_is_unreadable_not_a_short_video(counted: type[CountedSystem], large: bytes) -> None:
    counted.objects |= {"a.mp4": large, "b.mp4": numbered([0.0, 0.1])}
    counted.breaks_at = 10 << 20
    with pytest.raises(VideoError, match=r"counted://a\.mp4: cannot be read \(the bucket has gone\)") as caught:
        decode_all("counted://a.mp4", short_side=16, fps=None)
    assert caught.value.reason == "unreadable"
    counted.breaks_at = None
    assert len(decode_all("counted://b.mp4", short_side=16, fps=None)) == 2, "the next video is not to blame"


def test_a_url_that_cannot_be_sought_is_unreadable(
    counted: type[CountedSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    def seek(*_: int) -> int:
        raise ValueError("the server streams")

    counted.objects["a.mp4"] = numbered([0.0])
    monkeypatch.setattr(CountedFile, "seek", seek)
    with pytest.raises(VideoError, match="the server streams") as caught:
        probe("counted://a.mp4")
    assert caught.value.reason == "unreadable"


def test_a_url_that_is_no_longer_wanted_is_closed(counted: type[CountedSystem]) -> None:
    counted.objects["a.mp4"] = numbered([k / 10 for k in range(20)])
    frames = decode_i420("counted://a.mp4", short_side=16, fps=None)
    next(frames)
    frames.close()  # type: ignore[attr-defined]  # the fixture sees the rest


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "lfs_pointer"),
        (b"# a text\n" * 500, "not_a_video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "not_a_video"),
        (bytes(2000), "too_large"),
    ],
    ids=["empty", "lfs", "text", "playlist", "large"],
)
def test_an_object_that_cannot_be_used_says_why(counted: type[CountedSystem], content: bytes, reason: str) -> None:
    counted.objects["a.mp4"] = content
    limits = Limits(max_bytes=1000 if reason == "too_large" else 1 << 20)
    with pytest.raises(VideoError, match=r"counted://a\.mp4") as caught:
        decode_all("counted://a.mp4", short_side=16, fps=None, limits=limits)
    assert caught.value.reason == reason


@pytest.mark.parametrize("url", ["memory://absent.mp4", "nosuchstore://a.mp4"])
def test_an_object_that_cannot_be_reached_is_unreadable(url: str) -> None:
    with pytest.raises(VideoError, match=url) as caught:
        probe(url)
    assert caught.value.reason == "unreadable"


def test_a_header_that_promises_more_than_the_file_can_hold_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "liar.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(50):
            frame = np.full((72, 64), 16 + 4 * n, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    place = data.index(b"strh") + 8 + 32  # dwLength
    assert int.from_bytes(data[place : place + 4], "little") == 50
    data[place : place + 4] = (25 * 3600 * 40).to_bytes(4, "little")
    path.write_bytes(data)
    assert probe(path).seconds == pytest.approx(2.0)
