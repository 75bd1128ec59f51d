"""Decodes the videos of requests in a process that may be ended: within limits of memory and time, whatever the bytes.

    with Decoder(name="actions", long_videos=2) as decoder:
        clips = decoder.clips(video, contract)     # as `request_clips`

A server process imports what decoding needs and forks a worker, which answers request after request. A video that
crashes the worker, or exceeds its memory or its time, is refused, and the next worker is there in milliseconds.

A video that takes half a second of CPU, or has so many pixels that it may, counts as long: it has a low priority, and
half of an endpoint's decoders take long videos at a time; others are refused (`BusyError`), to be sent again. So
long videos take neither all decoders nor all cores. Standard library, numpy and av only; Linux.
"""

import ctypes
import dataclasses
import gc
import hashlib
import itertools
import json
import mmap
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rushes.errors import ServiceError, UserError
from rushes.serving.contract import Contract
from rushes.serving.request import BUSY, decoder_memory, request_clips, request_limits
from rushes.video.frames import Frames
from rushes.video.guard import deadline, limit_memory
from rushes.video.source import VideoError

_START_SECONDS = 120.0
"""Within which the server process must have imported what it needs."""
_GRACE = 2.0
"""Seconds after a worker's deadline at which it is killed from outside."""
_LONG = 0.5
"""Seconds of CPU after which a video counts as long."""
_LONG_PIXELS = 150_000_000
"""Pixels of all frames together from which a video is long before it is decoded: .2 to 1.4 s of a core."""
_PRIORITY = 15
"""Added to the niceness for a long video."""
_SPENT_MEMORY = 256 << 20
"""A worker that has held more bytes is replaced, which returns them."""
_CLOSED = 3
"""Exit code of a worker whose endpoint has gone."""
_MESSAGE = 1 << 16
_START = "import sys; sys.path.insert(0, sys.argv[1]); from rushes.serving.decoder import serve; serve(sys.argv[2])"


class BusyError(ServiceError):
    """A long video, while as many are being decoded as may be at a time."""


@dataclass(frozen=True, kw_only=True)
class _Channel:
    """What the endpoint and its decoder share: file descriptors and limits."""

    socket: int
    """Messages, whole or not at all."""
    video: int
    """Memory with the request's bytes."""
    reply: int
    """Memory with the clips."""
    name: str
    long_videos: int


class Decoder:
    """The endpoint's side.

    Args:
        name: of the endpoint, unique on this machine; decoders of one name share `long_videos`.
        long_videos: so many of them are decoded at a time.
    """

    def __init__(self, *, name: str, long_videos: int) -> None:
        self.name, self.long_videos = hashlib.sha256(name.encode()).hexdigest()[:16], long_videos
        self.seconds = request_limits().decode_seconds
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._start()

    def clips(self, video: bytes, contract: Path) -> Frames:
        """Decodes a request by the contract at a path: uint8 `[clips, T, crop * 3/2, crop]`.

        Raises:
            VideoError: it cannot be decoded, exceeds the limits, or crashes the decoder.
            BusyError: it is long, and others are being decoded.
            UserError: what the contract asks for cannot be done here.
            ServiceError: the decoder fails by a fault of its own.
        """
        limits = request_limits()
        if len(video) > limits.max_bytes:
            message = f"video of {len(video)} bytes: at most {limits.max_bytes} are allowed"
            raise VideoError("too_large", message)
        answer = self._ask(video, contract) or self._ask(video, contract)
        if answer is None:
            raise ServiceError("the decoder does not stay alive")
        if "shape" in answer:
            return self._read(answer["shape"])
        if "ended" in answer:
            raise VideoError(*_ending(len(video), int(answer["ended"]), self.seconds))
        if "busy" in answer:
            raise BusyError(f"{self.long_videos} {BUSY}")
        if "impossible" in answer:
            raise UserError(answer["impossible"])
        if "refused" in answer:
            raise VideoError(answer["refused"], answer["message"])
        raise ServiceError(answer["message"])

    def close(self) -> None:
        """Ends the decoder's processes."""
        if self._process is None:
            return
        self._socket.close()
        for descriptor in (self._video, self._reply):
            os.close(descriptor)
        self._process.kill()  # its worker ends with it
        self._process.wait()
        self._process, self._ready = None, False

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._video, self._reply = os.memfd_create("video"), os.memfd_create("clips")
        with theirs:
            channel = _Channel(
                socket=theirs.fileno(),
                video=self._video,
                reply=self._reply,
                name=self.name,
                long_videos=self.long_videos,
            )
            package = str(Path(__file__).parents[2])
            self._process = subprocess.Popen(
                [_python(), "-c", _START, package, json.dumps(dataclasses.asdict(channel))],
                stdin=subprocess.DEVNULL,
                pass_fds=(channel.socket, channel.video, channel.reply),
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    def _ask(self, video: bytes, contract: Path) -> dict[str, Any] | None:
        """The answer; None if the decoder had ended before, and has been started again."""
        number = next(self._numbers)
        if self._process is None:
            self._start()
        _write(self._video, video)
        message = {"number": number, "size": len(video), "contract": str(contract)}
        try:
            if not self._ready:
                self._answer(0, time.monotonic() + _START_SECONDS)
                self._ready = True
            until = time.monotonic() + self.seconds + _GRACE
            self._socket.send(json.dumps(message).encode())
            return self._answer(number, until)
        except TimeoutError:
            self.close()
            return {"ended": -signal.SIGALRM}
        except OSError:
            self.close()
            return None
        finally:
            if self._process is not None:
                os.ftruncate(self._video, 0)

    def _answer(self, number: int, until: float) -> dict[str, Any]:
        """The answer to one request; late ones to others are passed over."""
        while True:
            self._socket.settimeout(max(0.001, until - time.monotonic()))
            data = self._socket.recv(_MESSAGE)
            if not data:
                raise ConnectionResetError("the decoder has ended")
            answer: dict[str, Any] = json.loads(data)
            if answer["number"] == number:
                return answer

    def _read(self, shape: list[int]) -> Frames:
        size = int(np.prod(shape))
        data = os.pread(self._reply, size, 0)
        os.ftruncate(self._reply, 0)
        if len(data) != size:
            raise ServiceError(f"the decoder gave {len(data)} bytes of {size}")
        return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _ending(size: int, code: int, seconds: float) -> tuple[str, str]:
    """Reason and message for a video that ended its worker."""
    if code == -signal.SIGALRM:
        return "timeout", f"video of {size} bytes: decoding took more than {seconds:g} s"
    return "decoder_crash", f"video of {size} bytes: it crashes the decoder (exit {code})"


def _python() -> str:
    """The interpreter; a process that embeds Python, as Triton's stub does, is another program."""
    name = Path(sys.executable or "").name
    return sys.executable if name.startswith("python") else shutil.which("python3") or "python3"


def _write(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    view, offset = memoryview(data), 0
    while offset < len(view):
        offset += os.pwrite(descriptor, view[offset:], offset)


# The decoder's side --------------------------------------------------------------------------------------------------


def serve(settings: str) -> None:
    """The server process: forks workers, one after the other, until the endpoint has gone."""
    channel = _Channel(**json.loads(settings))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    in_hand = mmap.mmap(-1, 8)  # the number of the worker's request, 0 between requests
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=channel.socket) as link:
        link.send(json.dumps({"number": 0}).encode())  # from now on, time counts
        while True:
            worker = os.fork()
            if worker == 0:
                _work(_Worker(channel, link, in_hand))
            _, status = os.waitpid(worker, 0)
            code = os.waitstatus_to_exitcode(status)
            number = int.from_bytes(in_hand[:8], "little")
            in_hand[:8] = bytes(8)
            if code == _CLOSED:
                return
            try:
                if number and code:
                    link.send(json.dumps({"number": number, "ended": code}).encode())
            except OSError:
                return


def _work(worker: "_Worker") -> NoReturn:
    """Runs a worker in a process that was forked for it."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the server process
        limit_memory(decoder_memory())
        code = worker.run()
    finally:
        os._exit(code)


def _give_back() -> None:
    """Gives freed memory back to the system: of a large video, glibc keeps tens of megabytes between small pieces."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Worker:
    """Answers requests until one was costly."""

    def __init__(self, channel: _Channel, link: socket.socket, in_hand: mmap.mmap) -> None:
        self.channel, self.link, self.in_hand = channel, link, in_hand
        self.long = self.interrupted = False
        self.slot: socket.socket | None = None

    def run(self) -> int:
        """Returns the exit code."""
        signal.signal(signal.SIGPROF, self._interrupt)
        seconds = request_limits().decode_seconds
        while True:
            data = self.link.recv(_MESSAGE)
            if not data:
                return _CLOSED
            request = json.loads(data)
            self.in_hand[:8] = int(request["number"]).to_bytes(8, "little")
            deadline(seconds)
            signal.setitimer(signal.ITIMER_PROF, _LONG)
            try:
                answer = self._answer(request)
            except BusyError:
                answer = {"busy": True}
            signal.setitimer(signal.ITIMER_PROF, 0)
            deadline(0)
            if self.slot is not None:
                self.slot.close()  # before the answer, after which the next long video may come
            self.link.send(json.dumps(answer | {"number": request["number"]}).encode())
            self.in_hand[:8] = bytes(8)
            _give_back()
            if self._is_spent():
                return 0

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            video = os.pread(self.channel.video, int(request["size"]), 0)
            contract = Contract.read(Path(request["contract"]))
            clips = request_clips(video, contract, admit=self._admit)
            _write(self.channel.reply, clips.tobytes())
            return {"shape": clips.shape}
        except BusyError:
            return {"busy": True}
        except VideoError as error:
            answer = {"refused": error.reason, "message": str(error)[:2000]}
        except UserError as error:
            answer = {"impossible": str(error)[:2000]}
        except MemoryError:
            size = request["size"]
            answer = {"refused": "decode_error", "message": f"video of {size} bytes: it takes more memory than allowed"}
        except Exception as error:
            answer = {"message": f"{type(error).__name__}: {error}"[:2000]}
        return {"busy": True} if self.interrupted else answer

    def _is_spent(self) -> bool:
        # A low priority cannot be taken back.
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return self.long or self.interrupted or held > _SPENT_MEMORY

    def _admit(self, pixels: int) -> None:
        if pixels > _LONG_PIXELS:
            self._go_on_as_long()

    def _interrupt(self, *_: object) -> None:
        self.interrupted = True  # whatever becomes of the error on its way out of the decoder
        self._go_on_as_long()
        self.interrupted = False

    def _go_on_as_long(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        if not self._take_slot():
            raise BusyError(BUSY)
        self.long = True
        os.nice(_PRIORITY)

    def _take_slot(self) -> bool:
        """Whether this is one of the long videos that are decoded at a time.

        Names without a file, which the system frees when their process ends, however it ends.
        """
        for number in range(self.channel.long_videos):
            slot = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                slot.bind(f"\0rushes-{os.getuid()}-{self.channel.name}-{number}")
            except OSError:
                slot.close()
                continue
            self.slot = slot
            return True
        return False
