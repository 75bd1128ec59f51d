"""The process that decodes an endpoint's videos: its limits, and that it is there again after each of them."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import _bombs
from rushes.errors import UserError
from rushes.serving.bundle import CONTRACT, Bundle
from rushes.serving.decoder import BusyError, Decoder
from rushes.serving.request import (
    LIMITS,
    MEMORY_VARIABLE,
    PIXELS_VARIABLE,
    SECONDS_VARIABLE,
    decoder_memory,
    request_clips,
    request_limits,
)
from rushes.video.source import VideoError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an endpoint needs Linux")


@pytest.fixture
def contract(five_actions: Bundle) -> Path:
    return five_actions.folder / CONTRACT


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Decoder]]:
    decoders = []

    def started() -> Decoder:
        decoders.append(Decoder(name=str(tmp_path), long_videos=1))
        return decoders[-1]

    yield started
    for decoder in decoders:
        decoder.close()


def family() -> list[psutil.Process]:
    """Decoders' processes that were started from here: not those of a Triton that other tests have up."""
    servers = [child for child in psutil.Process().children() if "serving.decoder" in _argv(child)]
    return [process for server in servers for process in (server, *_children(server))]


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.Error:
        return []


def _argv(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def worker() -> psutil.Process:
    """The process that decodes, once it is there."""
    while not (found := [process for process in family() if process.parent() != psutil.Process()]):
        time.sleep(0.01)
    return found[0]


def cpu_seconds() -> float:
    """Of the decoder's processes that live; seconds of a clock say nothing on a machine under load."""
    return float(sum(sum(process.cpu_times()[:2]) for process in family()))


def end_while_it_decodes(process: psutil.Process, number: signal.Signals) -> None:
    """Sends a signal once the process has worked for a while: not before its request has reached it."""
    before = sum(process.cpu_times()[:2])
    while sum(process.cpu_times()[:2]) < before + 0.3:
        time.sleep(0.01)
    process.send_signal(number)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120  # of a machine under load
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_it_decodes_as_the_same_code_does_here(
    start: Callable[[], Decoder], five_actions: Bundle, contract: Path, make_video: Callable[..., bytes]
) -> None:
    decoder = start()
    for options in ({"seed": 5}, {"seed": 6, "frames": 90, "fps": 60.0}, {"seed": 7, "frames": 3, "height": 80}):
        video = make_video(**options)
        assert np.array_equal(decoder.clips(video, contract), request_clips(video, five_actions.contract))


def test_a_refused_video_says_why_and_the_next_one_is_decoded(
    start: Callable[[], Decoder], contract: Path, video: bytes
) -> None:
    decoder = start()
    bad = {b"": "empty", b"not a video" * 99: "not_a_video", bytes((64 << 20) + 1): "too_large"}
    bad |= {draw(): "impossible_table" for draw in _bombs.TABLES.values()}
    bad |= {_bombs.wide_film(seconds=200, width=1024, height=1024): "too_many_decoded_pixels"}
    for data, reason in bad.items():
        with pytest.raises(VideoError) as caught:
            decoder.clips(data, contract)
        assert caught.value.reason == reason
        assert len(decoder.clips(video, contract)) == 3


def test_a_crash_a_hang_and_too_much_memory_cost_their_video_only(
    start: Callable[[], Decoder], contract: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MEMORY_VARIABLE, "0.3")
    monkeypatch.setenv(PIXELS_VARIABLE, "100")
    decoder = start()
    long_film = _bombs.wide_film(seconds=200, width=2560, height=1440)  # ten seconds of a core
    for number in (signal.SIGSEGV, signal.SIGKILL):
        assert len(decoder.clips(video, contract)) == 3
        threading.Thread(target=end_while_it_decodes, args=(worker(), number)).start()
        refused(decoder, long_film, contract, reason="decoder_crash")
    assert len(decoder.clips(video, contract)) == 3
    before = cpu_seconds()
    with pytest.raises(VideoError):
        decoder.clips(_bombs.repeated_edits(), contract)
    assert cpu_seconds() - before < 30
    assert len(decoder.clips(video, contract)) == 3
    decoder.close()
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    hurried = start()
    refused(hurried, long_film, contract, reason="timeout")
    assert len(hurried.clips(video, contract)) == 3


def refused(decoder: Decoder, video: bytes, contract: Path, *, reason: str) -> None:
    with pytest.raises(VideoError) as caught:
        decoder.clips(video, contract)
    assert caught.value.reason == reason, str(caught.value)


def test_a_stopped_decoder_is_replaced(
    start: Callable[[], Decoder], contract: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECONDS_VARIABLE, "1")
    decoder = start()
    assert len(decoder.clips(video, contract)) == 3
    for process in family():
        process.suspend()
    with pytest.raises(VideoError, match="more than 1 s"):
        decoder.clips(video, contract)
    assert len(decoder.clips(video, contract)) == 3
    for process in family():
        process.kill()
    assert len(decoder.clips(video, contract)) == 3


def test_no_process_and_no_memory_stays(start: Callable[[], Decoder], contract: Path, video: bytes) -> None:
    decoder = start()
    decoder.clips(video, contract)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        decoder.close()
        assert len(decoder.clips(video, contract)) == 3
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
    decoder.close()
    eventually(lambda: not family())


def test_of_several_long_videos_some_are_put_off_and_short_ones_are_not(
    start: Callable[[], Decoder], contract: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIXELS_VARIABLE, "100")
    monkeypatch.setenv(SECONDS_VARIABLE, "300")  # on a machine under load, with a low priority
    long_film = _bombs.wide_film(seconds=20, width=2560, height=1440)  # seconds of a core
    first, second = start(), start()
    with ThreadPoolExecutor(1) as pool:
        decoding = pool.submit(first.clips, long_film, contract)
        eventually(lambda: any(process.nice() > os.nice(0) for process in family()))
        with pytest.raises(BusyError, match="1 long videos are being decoded already: send it again later"):
            second.clips(long_film, contract)
        assert len(second.clips(video, contract)) == 3 and not decoding.done()
        assert len(decoding.result()) == 3
    assert len(second.clips(long_film, contract)) == 3, "now it is its turn"
    eventually(lambda: {process.nice() for process in family()} == {os.nice(0)})


@pytest.mark.parametrize("draw", [_bombs.wide_film, _bombs.wide_stream])
def test_a_long_video_that_is_put_off_costs_next_to_nothing(
    start: Callable[[], Decoder], contract: Path, video: bytes, draw: Callable[..., bytes]
) -> None:
    long_film = draw(seconds=14)
    first, second = start(), start()
    second.clips(video, contract)
    server = next(process for process in family() if process.pid == second._process.pid)  # type: ignore[union-attr]
    with ThreadPoolExecutor(1) as pool:
        decoding = pool.submit(first.clips, long_film, contract)
        eventually(lambda: any(process.nice() > os.nice(0) for process in family()))
        (child,) = server.children()
        before = child.cpu_times().user
        for _ in range(3):
            with pytest.raises(BusyError):
                second.clips(long_film, contract)
        assert server.children() == [child], "its priority is not lowered, so that it need not be replaced"
        assert child.cpu_times().user - before < 0.5, "found out by decoding, each takes half a second of CPU"
        assert not decoding.done()
        worker_of_first = [process for process in family() if process.nice() > os.nice(0)]
        for process in worker_of_first:
            process.kill()  # what it finds does not matter
        with pytest.raises(VideoError, match="crashes the decoder"):
            decoding.result()


def test_a_contract_that_is_missing_is_no_fault_of_the_video(
    start: Callable[[], Decoder], video: bytes, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="not a contract"):
        start().clips(video, tmp_path / "absent.json")


def test_limits_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert request_limits() == LIMITS and decoder_memory() == 2**30
    monkeypatch.setenv(PIXELS_VARIABLE, "0.5")
    monkeypatch.setenv(SECONDS_VARIABLE, "7")
    monkeypatch.setenv(MEMORY_VARIABLE, "2.5")
    assert (request_limits().max_decoded_pixels, request_limits().decode_seconds) == (500_000_000, 7.0)
    assert decoder_memory() == 2.5 * 2**30
    for text in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(PIXELS_VARIABLE, text)
        with pytest.raises(UserError, match=f"{PIXELS_VARIABLE}: '{text}' is not allowed: a number above 0"):
            request_limits()


def test_the_budget_of_pixels_is_that_of_a_request(
    five_actions: Bundle, make_video: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = make_video(frames=100)
    monkeypatch.setenv(PIXELS_VARIABLE, str(64 * 48 * 100 / 1e9))
    assert len(request_clips(video, five_actions.contract)) == 3
    monkeypatch.setenv(PIXELS_VARIABLE, str(64 * 48 * 99 / 1e9))
    with pytest.raises(VideoError, match="send a shorter or smaller video"):
        request_clips(video, five_actions.contract)
