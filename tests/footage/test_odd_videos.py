"""Every odd video has one right outcome, decided by looking at the file: its packets, timestamps and size, or its lack
of them. Lengths at 25 fps are (last timestamp - first + last step) * 25, or frames / rate where AVI stores no times."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rushes.serving.request import LIMITS
from rushes.video.decode import decode_timed
from rushes.video.probe import probe
from rushes.video.source import Limits, VideoError, open_video
from tests.decoding import decode_all

pytestmark = pytest.mark.real


@dataclass(frozen=True)
class Holds:
    """What a file that can be used holds."""

    frames: int
    at_25_fps: int
    size: tuple[int, int] = (64, 86)
    """(H, W) upright at short side 64; 4:3 unless said."""


HD = (64, 114)  # 16:9
SQUARE = (64, 64)
ODD_VIDEOS: dict[str, Holds | str] = {
    "derived/anim.gif": Holds(90, 75),  # 3 s, its steps 30 and 40 ms
    "derived/audio_only.mp4": "no_video_stream",
    "derived/base_h264.mp4": Holds(240, 200),
    "derived/corrupt_bitflips.mp4": Holds(240, 200),  # concealed by the decoder: 80 frames are marked corrupt
    "derived/corrupt_no_moov.mp4": "not_a_video",
    "derived/corrupt_truncated.avi": Holds(121, 101),  # 240 by the header
    "derived/corrupt_truncated_faststart.mp4": Holds(139, 116),  # 140 packets, of which the last is cut
    "derived/four_frames.mp4": Holds(4, 3),
    "derived/gray.mp4": Holds(240, 200),
    "derived/hevc.mp4": Holds(240, 200),
    "derived/interlaced_tff.mp4": Holds(120, 200),  # one frame a pair of fields
    "derived/lfs_pointer.mp4": "lfs_pointer",
    "derived/mjpeg.avi": Holds(240, 200),
    "derived/mpeg2.mpg": Holds(240, 200),
    "derived/one_frame.mp4": Holds(1, 1),
    "derived/random_bytes.mp4": "not_a_video",
    "derived/rot90_meta.mp4": Holds(240, 200, (86, 64)),
    "derived/text_named.mp4": "not_a_video",
    "derived/tiny_8x6.avi": Holds(60, 50),
    "derived/vfr.mp4": Holds(144, 200),  # 8.008 s by its timestamps, though the header says 7.608
    "derived/vp8.webm": Holds(240, 200),
    "derived/vp9.webm": Holds(240, 200),
    "derived/zero_bytes.mp4": "empty",
    "real/av1.mkv": Holds(125, 125, HD),
    "real/bikes.mp4": Holds(250, 250, (64, 150)),
    "real/carphone_distorted.mp4": Holds(120, 100),  # 176x144 with pixels of 128:117
    "real/carphone_pristine.mp4": Holds(120, 100),
    "real/h264_10bit.mp4": Holds(30, 25, SQUARE),
    "real/h264_2video_streams_2audio.mp4": Holds(390, 325, HD),  # the larger of 320x180 (325 frames) and 480x270
    "real/h264_SAR64_51.mp4": Holds(280, 250, (64, 106)),  # 340x256 shown as 427x256
    "real/h264_dog.mp4": Holds(345, 345, HD),
    "real/h264_fullrange_720p.mp4": Holds(30, 25, HD),
    "real/h264_in_avi_1080p.avi": Holds(72, 60, HD),
    "real/h264_yuv444p.mp4": Holds(72, 75, HD),
    "real/h264_yuv444p_audio.mp4": Holds(280, 350, HD),
    "real/hevc_10bit.mp4": Holds(30, 25, SQUARE),
    "real/hevc_10frames.mp4": Holds(10, 25, SQUARE),
    "real/hmdb_divx_bframes_nonmonotonic_pts.avi": Holds(48, 40, (64, 116)),  # 49 packets, one a byte that is no frame
    "real/hmdb_nonutf8_metadata.avi": Holds(83, 69),  # likewise: 84 packets
    "real/mkv_h264_pts_start33ms.mkv": Holds(65, 54),
    "real/short_20frames.mp4": Holds(20, 50, HD),
    "real/short_9frames_1080p.mp4": Holds(9, 38, HD),
    "real/ucf_xvid_bframes_audio.avi": Holds(164, 164),
    "real/vfr_h264_yuv444p_128.mp4": Holds(300, 374, SQUARE),  # steps of 33 to 533 ms
    "real/webcam_jitter_vfr_audio.mp4": Holds(150, 127),
}
USABLE = {name: holds for name, holds in ODD_VIDEOS.items() if isinstance(holds, Holds)}
REFUSED = {name: reason for name, reason in ODD_VIDEOS.items() if isinstance(reason, str)}


@pytest.fixture
def odd(shared_data: Path) -> Path:
    return shared_data / "odd_videos"


def test_the_table_names_every_odd_video(odd: Path) -> None:
    assert sorted(ODD_VIDEOS) == sorted(path.relative_to(odd).as_posix() for path in odd.rglob("*.*"))
    assert len(ODD_VIDEOS) == 45


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_video_is_refused_with_its_reason(odd: Path, name: str) -> None:
    path = odd / name
    for source in (path, path.read_bytes(), path.as_uri()):
        with pytest.raises(VideoError) as probed:
            probe(source)
        with pytest.raises(VideoError) as decoded:
            decode_all(source, short_side=64, fps=None)
        assert probed.value.reason == decoded.value.reason == REFUSED[name]
        assert isinstance(source, bytes) or path.name in str(probed.value)


@pytest.mark.parametrize("name", USABLE)
def test_what_is_a_video_decodes_in_full_upright_and_at_its_length(odd: Path, name: str) -> None:
    path, holds = odd / name, USABLE[name]
    height, width = holds.size
    probed = probe(path)
    assert abs(probed.width / probed.height - width / height) < 0.04, "as it is displayed"
    whole = list(decode_timed(path, short_side=64, fps=None))
    times = [t for t, _ in whole]
    assert {frame.shape for _, frame in whole} == {(height * 3 // 2, width)}
    assert len(whole) == holds.frames
    assert times[0] == 0 and bool(np.all(np.diff(times) > 0))
    assert sum(1 for _ in decode_timed(path, short_side=16, fps=25.0)) == holds.at_25_fps
    start, end = 0.85 * times[-1], 0.95 * times[-1]
    span = list(decode_timed(path, short_side=64, fps=None, start=start, end=end))
    part = [(t, frame) for t, frame in whole if start - 1e-3 <= t < end - 1e-3]
    assert [t for t, _ in span] == pytest.approx([t for t, _ in part])
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(span, part, strict=True))


def test_of_a_request_that_is_no_video_only_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = [0]

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read[0] += len(data)
            return data

    monkeypatch.setattr("io.BytesIO", Counting)
    for limits, most in ((Limits(), 4 << 20), (LIMITS, 1 << 18)):
        read[0] = 0
        with pytest.raises(VideoError, match="not a video"), open_video(bytes(4 << 20), limits):
            pass
        assert limits.probe_bytes <= read[0] <= most


@pytest.mark.parametrize("name", USABLE)
def test_a_request_is_recognised_by_its_beginning_as_footage_is(odd: Path, name: str) -> None:
    data = (odd / name).read_bytes()
    with open_video(data) as whole, open_video(data, LIMITS) as request:
        assert request.formats == whole.formats


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("real/hmdb_divx_bframes_nonmonotonic_pts.avi", 30),
        ("real/hmdb_nonutf8_metadata.avi", 30),
        ("real/ucf_xvid_bframes_audio.avi", 25),
    ],
)
def test_frames_of_avi_are_timed_in_the_order_of_decoding(odd: Path, name: str, rate: int) -> None:
    times = [t for t, _ in decode_timed(odd / name, short_side=16, fps=None)]
    assert times == pytest.approx(np.arange(len(times)) / rate), "the timestamps go back and forth"
