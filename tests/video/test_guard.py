"""Files that are dear to open or to decode are refused before they cost anything."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import _bombs
from rushes.video.probe import probe
from rushes.video.source import Limits, VideoError
from rushes.video.tables import impossible_table
from tests.decoding import decode_all

OPEN = """
import re, sys
from pathlib import Path
from rushes.video.guard import deadline, limit_memory
from rushes.video.probe import probe
from rushes.video.source import VideoError
limit_memory(int(sys.argv[2])), deadline(float(sys.argv[3]))
try:
    print(probe(Path(sys.argv[1])).frames)
except VideoError as error:
    print(error.reason)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10)
"""


def opened(path: Path, *, memory: int, seconds: float) -> tuple[str, int]:
    """What a process with these limits says of a file, and the most MiB that it held.

    Not getrusage's figure: that begins with the size of the process that started it.
    """
    argv = [sys.executable, "-c", OPEN, str(path), str(memory), str(seconds)]
    process = subprocess.run(argv, capture_output=True, text=True, check=False)
    if process.returncode:
        return f"exit {process.returncode}", 0
    answer, peak = process.stdout.split()
    return answer, int(peak)


@pytest.mark.parametrize("kind", _bombs.TABLES)
def test_a_table_of_samples_that_the_file_cannot_hold_is_refused_before_it_is_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_bombs.TABLES[kind]())
    assert path.stat().st_size < 10_000
    answer, peak = opened(path, memory=0, seconds=60)
    assert answer == "impossible_table" and peak < 300
    for source in (path, path.read_bytes()):
        with pytest.raises(VideoError, match="60,000,000 samples, more than") as caught:
            probe(source)
        assert caught.value.reason == "impossible_table"


@given(samples=st.integers(200_000, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_any_impossible_number_of_samples_is_seen(samples: int) -> None:
    for draw in _bombs.TABLES.values():
        video = draw(samples)
        words = impossible_table(io.BytesIO(video), len(video))
        assert words is not None and f"{samples:,} samples" in words


@pytest.mark.parametrize("suffix", ["mp4", "mov", "fragments", "avi", "matroska", "mpegts"])
def test_a_sound_film_promises_nothing_impossible(suffix: str) -> None:
    buffer = io.BytesIO()
    options = {"movflags": "frag_every_frame+empty_moov"} if suffix == "fragments" else {}
    with av.open(buffer, "w", format="mp4" if suffix == "fragments" else suffix, options=options) as container:
        film = container.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("pcm_s16le" if suffix in ("mov", "avi") else "mp2", rate=44100)
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 4 * 2 * 44100), np.int16), format="s16", layout="stereo")
        quiet.sample_rate = 44100
        for _ in range(100):
            grey = av.VideoFrame.from_ndarray(np.full((72, 64), 128, dtype=np.uint8), format="yuv420p")
            container.mux(film.encode(grey))
        for packets in (sound.encode(quiet), film.encode(), sound.encode()):
            container.mux(packets)
    video = buffer.getvalue()
    assert impossible_table(io.BytesIO(video), len(video)) is None
    assert len(decode_all(video, short_side=16, fps=None)) in (99, 100)


@given(data=st.binary(max_size=400), cut=st.integers(0, 4000))
@settings(max_examples=100, deadline=None)
def test_tables_of_any_bytes_are_looked_at_without_harm(data: bytes, cut: int) -> None:
    video = _bombs.promised_sizes()
    for hostile in (data, video[:cut], video[:cut] + data, b"\0\0\0\0moov" * 50 + data):
        file = io.BytesIO(hostile)
        impossible_table(file, len(hostile))
        assert file.tell() == 0


def test_what_tables_do_not_show_ends_at_the_memory_limit(tmp_path: Path) -> None:
    """Edits that show a film a hundred thousand times: FFmpeg's index of it grows and grows."""
    path = tmp_path / "a.mp4"
    path.write_bytes(_bombs.repeated_edits(100_000))
    unlimited, dear = opened(path, memory=0, seconds=60)
    limited, cheap = opened(path, memory=300 << 20, seconds=60)
    assert unlimited == "200" and dear > 400 > cheap, (unlimited, dear, limited, cheap)


def test_a_decoder_that_does_not_return_ends_at_its_deadline(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_bombs.repeated_edits(500_000))
    assert opened(path, memory=1 << 30, seconds=0.3)[0] == "exit -14"


# Pixels --------------------------------------------------------------------------------------------------------------


def test_more_pixels_than_a_request_may_cost_are_refused_by_the_header() -> None:
    film = _bombs.wide_film(seconds=2, width=256, height=144)
    limits = Limits(max_decoded_pixels=256 * 144 * 49)
    with pytest.raises(VideoError, match=r"50 frames by the header.*send a shorter or smaller video") as caught:
        decode_all(film, short_side=16, fps=None, limits=limits)
    assert caught.value.reason == "too_many_decoded_pixels"
    assert len(decode_all(film, short_side=16, fps=None, limits=Limits(max_decoded_pixels=256 * 144 * 50))) == 50


def test_more_pixels_than_the_header_says_are_refused_while_decoding() -> None:
    stream = _bombs.wide_stream(seconds=2, width=256, height=144)
    with pytest.raises(VideoError, match="decoded so far") as caught:
        decode_all(stream, short_side=16, fps=None, limits=Limits(max_decoded_pixels=256 * 144 * 30))
    assert caught.value.reason == "too_many_decoded_pixels"


def test_a_header_that_cannot_be_true_is_left_to_decoding() -> None:
    """A film of four frames, whose header says that it lasts an hour."""
    film = bytearray(_bombs.sound_film(frames=4))
    at = film.index(b"mdhd") + 4 + 16
    film[at : at + 4] = (3600 * int.from_bytes(film[at - 4 : at], "big")).to_bytes(4, "big")
    assert len(decode_all(bytes(film), short_side=16, fps=None, limits=Limits(max_decoded_pixels=64 * 48 * 4))) == 4
