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


class StoppedError(RushesError):
    """SIGTERM ended the work, which is saved: the same command goes on from there (EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75


class OutrunError(RushesError):
    """Another process finished the same work first and removed its files: the output is in the store."""


_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def disk_error(error: Exception) -> str | None:
    """What went wrong and what to do, where the disk is full, not writable or without locks; None for other errors."""
    remedy = "free space, or set RUSHES_HOME, RUSHES_STORE or TMPDIR to another folder"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        path = f" at {error.filename}" if error.filename else ""
        return f"{error.strerror}{path}: {remedy}"
    # flock names no file; a hard link (an exclusive record of the store) names two.
    link = isinstance(error, OSError) and error.filename2 is not None
    if isinstance(error, OSError) and error.errno in (_NO_LOCKS | {errno.EPERM} if link else _NO_LOCKS):
        path = f" at {error.filename2}" if link else ""
        return (
            f"{error.strerror}{path}: this storage has no file locks or no hard links, which homes, caches and stores "
            "need: set RUSHES_HOME (and RUSHES_STORE, RUSHES_CACHE, TMPDIR) to folders on a local disk"
        )
    # Libraries (safetensors, sqlite, a loader's worker) wrap the system's error in one of their own.
    full = os.strerror(errno.ENOSPC)
    return f"{full}: {remedy}" if full in str(error) else None
