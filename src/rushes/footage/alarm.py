"""A time limit that a hung decoder cannot miss: the process is ended by a signal."""

import signal

GRACE = 30.0
"""Seconds between a decoder's own time limit and the end of a process that does not stop at it."""


def alarm(seconds: float) -> None:
    """Ends this process after `seconds` unless called again before; 0 cancels it.

    The last resort against a decoder that does not return: Python's own checks never run then.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
