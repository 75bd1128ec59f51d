"""Limits of a process that decodes hostile files, which its decoder cannot miss.

    limit_memory(2**30)     # an allocation beyond it fails, and with it the file
    deadline(30.0)          # ends the process, unless called again before

Python's own checks never run while a decoder does not return. Workers of `sample` (`rushes.footage.workers`) and the
decoders of an endpoint (`rushes.serving.decoder`) both use these.
"""

import resource
import signal

GRACE = 30.0
"""Seconds between a decoder's own time limit and the end of a process that does not stop at it."""


def limit_memory(size: int) -> None:
    """Limits this process's memory to `size` bytes, for good; 0 sets no limit."""
    if size:
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def deadline(seconds: float) -> None:
    """Ends this process by SIGALRM after `seconds` unless called again before; 0 cancels it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
