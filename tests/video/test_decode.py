"""The decoder: every awkward file has a known outcome, and any span equals its part of the whole."""

import io
import itertools
import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rushes.video.decode import Frames, Limits, VideoError, decode_all, decode_i420, decode_timed, probe

# File: frames decoded, frames at 25 fps, (H, W) at short side 128. Or the reason why not.
OUTCOMES: dict[str, tuple[int, int, tuple[int, int]] | str] = {
    "derived/anim.gif": (90, 75, (128, 170)),
    "derived/audio_only.mp4": "no_video_stream",
    "derived/base_h264.mp4": (240, 200, (128, 170)),
    "derived/corrupt_bitflips.mp4": (240, 200, (128, 170)),
    "derived/corrupt_no_moov.mp4": "not_a_video",
    "derived/corrupt_truncated.avi": (121, 101, (128, 170)),
    "derived/corrupt_truncated_faststart.mp4": (139, 116, (128, 170)),
    "derived/four_frames.mp4": (4, 3, (128, 170)),
    "derived/gray.mp4": (240, 200, (128, 170)),
    "derived/hevc.mp4": (240, 200, (128, 170)),
    "derived/interlaced_tff.mp4": (120, 200, (128, 170)),
    "derived/lfs_pointer.mp4": "lfs_pointer",
    "derived/mjpeg.avi": (240, 200, (128, 170)),
    "derived/mpeg2.mpg": (240, 200, (128, 170)),
    "derived/one_frame.mp4": (1, 1, (128, 170)),
    "derived/random_bytes.mp4": "not_a_video",
    "derived/rot90_meta.mp4": (240, 200, (170, 128)),
    "derived/text_named.mp4": "not_a_video",
    "derived/tiny_8x6.avi": (60, 50, (128, 170)),
    "derived/vfr.mp4": (144, 200, (128, 170)),
    "derived/vp8.webm": (240, 200, (128, 170)),
    "derived/vp9.webm": (240, 200, (128, 170)),
    "derived/zero_bytes.mp4": "empty",
    "real/av1.mkv": (125, 125, (128, 228)),
    "real/bikes.mp4": (250, 250, (128, 302)),
    "real/carphone_distorted.mp4": (120, 100, (128, 172)),
    "real/carphone_pristine.mp4": (120, 100, (128, 172)),
    "real/h264_10bit.mp4": (30, 25, (128, 128)),
    "real/h264_2video_streams_2audio.mp4": (390, 325, (128, 228)),
    "real/h264_SAR64_51.mp4": (280, 250, (128, 214)),
    "real/h264_dog.mp4": (345, 345, (128, 228)),
    "real/h264_fullrange_720p.mp4": (30, 25, (128, 228)),
    "real/h264_in_avi_1080p.avi": (72, 60, (128, 228)),
    "real/h264_yuv444p.mp4": (72, 75, (128, 228)),
    "real/h264_yuv444p_audio.mp4": (280, 350, (128, 228)),
    "real/hevc_10bit.mp4": (30, 25, (128, 128)),
    "real/hevc_10frames.mp4": (10, 25, (128, 128)),
    "real/hmdb_divx_bframes_nonmonotonic_pts.avi": (48, 40, (128, 230)),
    "real/hmdb_nonutf8_metadata.avi": (83, 69, (128, 170)),
    "real/mkv_h264_pts_start33ms.mkv": (65, 54, (128, 170)),
    "real/short_20frames.mp4": (20, 50, (128, 228)),
    "real/short_9frames_1080p.mp4": (9, 38, (128, 228)),
    "real/ucf_xvid_bframes_audio.avi": (164, 164, (128, 170)),
    "real/vfr_h264_yuv444p_128.mp4": (300, 374, (128, 128)),
    "real/webcam_jitter_vfr_audio.mp4": (150, 127, (128, 170)),
}
pytestmark = pytest.mark.real


def test_the_table_names_every_odd_video(shared_data: Path) -> None:
    odd = shared_data / "odd_videos"
    assert sorted(OUTCOMES) == sorted(p.relative_to(odd).as_posix() for p in odd.rglob("*.*"))


@pytest.mark.parametrize("name", OUTCOMES)
def test_odd_video(shared_data: Path, name: str) -> None:
    path = shared_data / "odd_videos" / name
    expected = OUTCOMES[name]
    if isinstance(expected, str):
        for use in (probe, lambda p: decode_all(p, short_side=128, fps=25.0)):
            with pytest.raises(VideoError, match=path.name) as caught:
                use(path)
            assert caught.value.reason == expected
        return
    count, resampled, (height, width) = expected
    found = probe(path)
    assert abs(found.width / found.height - width / height) < 0.03, "promised as it will be shown"
    whole = decode_all(path, short_side=128, fps=25.0)
    assert whole.shape == (resampled, height * 3 // 2, width)
    assert sum(1 for _ in decode_i420(path, short_side=16, fps=None)) == count
    for start, end in ((1.0, 2.5), (3.0, 4.0)):
        span = list(decode_i420(path, short_side=128, fps=25.0, start=start, end=end))
        part = whole[round(start * 25) : int(end * 25 + 0.5)]
        assert len(span) == len(part), "what is sought is what is there"
        assert all(np.array_equal(a, b) for a, b in zip(span, part, strict=True))


def test_bytes_decode_as_the_file_does(shared_data: Path) -> None:
    path = shared_data / "odd_videos" / "real" / "hmdb_nonutf8_metadata.avi"
    whole = decode_all(path, short_side=64, fps=25.0)
    assert np.array_equal(whole, decode_all(path.read_bytes(), short_side=64, fps=25.0))


def test_rotation_turns_the_picture_counterclockwise_as_the_matrix_says(shared_data: Path) -> None:
    folder = shared_data / "odd_videos" / "derived"
    upright = decode_all(folder / "base_h264.mp4", short_side=128, fps=None)[0]
    turned = decode_all(folder / "rot90_meta.mp4", short_side=128, fps=None)[0]
    assert np.array_equal(turned[:170], np.rot90(upright[:128]))
    chroma = upright[128:].reshape(2, 64, 85)
    assert np.array_equal(turned[170:].reshape(2, 85, 64), np.rot90(chroma, axes=(1, 2)))


# Files made here, whose truth is known -------------------------------------------------------------------------------


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


def test_a_long_gap_is_left_out_and_times_after_it_stay_true() -> None:
    video = numbered([0.0, 0.1, 100.0, 100.1])
    timed = list(decode_timed(video, short_side=16, fps=10.0))
    assert len(timed) < 110, "not a hundred seconds of one frame"
    assert [round(t, 3) for t, frame in timed if numbers([frame]) == [2]] == [100.0]
    after = list(decode_timed(video, short_side=16, fps=10.0, start=100.0))
    assert [round(t, 3) for t, _ in after] == [round(t, 3) for t, _ in timed if t > 99.99]


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
