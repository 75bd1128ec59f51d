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
    """Another process finished the same work first and removed its files: the output is in the store."""


def disk_error(error: Exception) -> str | None:
    """What went wrong and what to do, where the disk is full or not writable; None for any other error."""
    remedy = "free space, or set RUSHES_HOME, RUSHES_STORE or TMPDIR to another folder"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        path = f" at {error.filename}" if error.filename else ""
        return f"{error.strerror}{path}: {remedy}"
    # Libraries (safetensors, sqlite, a loader's worker) wrap the system's error in one of their own.
    full = os.strerror(errno.ENOSPC)
    return f"{full}: {remedy}" if full in str(error) else None
