"""The errors that Rushes raises on purpose.

A message says the field, the value received, and what is allowed or what to do. The command line prints it as one
line and exits with `exit_code`; everything else that escapes is a bug and keeps its traceback (in the run's log).
"""

import errno
import os


class RushesError(Exception):
    """Root of all deliberate errors."""

    exit_code = 1


class UserError(RushesError):
    """The input or the set-up is at fault, and the message says what to do about it."""

    exit_code = 2


class ServiceError(RushesError):
    """A server that a step depends on (MLflow, Triton) did not do what was asked of it."""


class OutrunError(RushesError):
    """Another process ended the very same work first, and tidied up: its output is in the store."""


def no_place(error: Exception) -> str | None:
    """What to do where the disk is full or not writable; None where the error is another."""
    remedy = "free space or give RUSHES_HOME, RUSHES_STORE or TMPDIR another place"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        place = f" at {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}: {remedy}"
    # Libraries (safetensors, sqlite, a loader's worker) wrap the system's error in one of their own.
    full = os.strerror(errno.ENOSPC)
    return f"{full}: {remedy}" if full in str(error) else None
