"""The errors that Rushes raises on purpose.

A message says the field, the value received, and what is allowed or what to do. The command line prints it as one
line and exits with `exit_code`; everything else that escapes is a bug and keeps its traceback (in the run's log).
"""


class RushesError(Exception):
    """Root of all deliberate errors."""

    exit_code = 1


class UserError(RushesError):
    """The input or the set-up is at fault, and the message says what to do about it."""

    exit_code = 2


class ServiceError(RushesError):
    """A server that a step depends on (MLflow, Triton) did not do what was asked of it."""
