"""Starts a program with arguments that no list of processes shows, for a secret that it takes in no other way.

Linux shows the arguments of every process to every user (/proc/PID/cmdline), and its environment to its owner. Above
both, in memory, is the path of the program, which is shown nowhere. So the program is started by a path with leading
slashes, which mean nothing, and stops before its first instruction (ptrace). The secrets are written over the slashes,
and the program's pointers to its arguments are set to them; lists go on showing the words that are in `argv`.
"""

import ctypes
import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_TRACE_ME, _DETACH = 0, 17
_STACK, _ENVIRONMENT_END = 28, 51
"""Fields of /proc/PID/stat (proc_pid_stat(5)): where the number of arguments is, and where the environment ends."""

_libc = ctypes.CDLL(None, use_errno=True)


class CannotHideError(Exception):
    """The system lets no process write to one that it starts."""


def popen(
    argv: Sequence[str], *, hidden: Mapping[str, str], log: BinaryIO, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, with its output in a log.

    Args:
        argv: the absolute path of the program, and its arguments as lists of processes show them.
        hidden: what is shown to what the program gets in its place.
        log: file for its output.
        env: its whole environment; this process's by default.

    Raises:
        CannotHideError: the system does not allow it; nothing was started.
        OSError: the program cannot be started.
    """
    texts = {shown: text.encode() + b"\0" for shown, text in hidden.items()}
    padding = "/" * sum(len(text) for text in texts.values())
    try:
        child = subprocess.Popen(
            list(argv),
            executable=padding + argv[0],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(env) if env is not None else None,
            start_new_session=True,
            restore_signals=False,  # as rushes.processes
            preexec_fn=_ask_to_be_traced,
        )
    except subprocess.SubprocessError as error:
        raise CannotHideError(f"ptrace is refused ({error})") from error
    try:
        os.waitpid(child.pid, 0)  # until it has stopped
        _replace(child.pid, argv, texts, path=(padding + argv[0]).encode())
        _ptrace(_DETACH, child.pid)
    except BaseException as error:
        child.kill()
        child.wait()
        if isinstance(error, OSError | ValueError):
            raise CannotHideError(f"the memory of a child is closed ({error})") from error
        raise
    return child


def _replace(pid: int, argv: Sequence[str], texts: Mapping[str, bytes], *, path: bytes) -> None:
    """Writes the texts where the program's path is, after its short form, and sets the arguments' pointers to them.

    On the stack are the number of arguments and then the pointers, of 8 bytes each.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    stack, free = int(fields[_STACK - 3]), int(fields[_ENVIRONMENT_END - 3])
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        if _read(memory, free, len(path)) != path or _read(memory, stack, 8) != struct.pack("Q", len(argv)):
            raise ValueError("it is not laid out as on Linux")
        free += _write(memory, free, argv[0].encode() + b"\0")
        for shown, text in texts.items():
            _write(memory, stack + 8 * (1 + list(argv).index(shown)), struct.pack("Q", free))
            free += _write(memory, free, text)


def _read(memory: BinaryIO, address: int, length: int) -> bytes:
    memory.seek(address)
    return memory.read(length)


def _write(memory: BinaryIO, address: int, data: bytes) -> int:
    memory.seek(address)
    return memory.write(data)


def _ask_to_be_traced() -> None:
    """Runs in the child: it stops when its program is loaded, and goes on when the parent says so, or ends."""
    _ptrace(_TRACE_ME, 0)


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), None, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
