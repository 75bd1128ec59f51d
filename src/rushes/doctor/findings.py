"""What the doctor's checks have in common: the environment that they look at, and what they find.

A check is a small function that looks at one thing and says what it found and what to do about it. It may fail in any
way, or never return: `examine` turns that into a finding, too.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rushes.errors import RushesError, UserError, disk_error
from rushes.kubeflow.profile import Gpu, Profile, read_profile

CheckVerdict = Literal["ok", "warning", "failed"]
TIMEOUT = 5.0
"""Seconds that a server or a command has to answer."""
_UNEXPECTED = "Check that the server or folder can be reached, and that this user may use it."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check."""

    verdict: CheckVerdict
    found: str
    remedy: str = ""
    """A sentence; empty where there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where the doctor runs, and what it was given on the command line."""

    profile: str = ""
    """Name or file of a profile; empty where none is given."""
    host: str = ""
    """URL of Kubeflow Pipelines; empty where none is given."""
    triton: str = ""
    """URL of a Triton's HTTP port; empty where none is given."""
    devices: Path = Path("/dev")
    """Where the system's devices are."""
    limit: float = 60.0
    """Seconds that a check may take; importing torch on a busy machine takes half of them."""

    @property
    def cluster(self) -> Profile:
        """The profile; one without GPUs where none is given, or where it cannot be read."""
        with contextlib.suppress(UserError):
            if self.profile:
                return read_profile(self.profile)
        return Profile(gpu=Gpu(count=0))

    @property
    def in_pod(self) -> bool:
        """Whether this is a pod of a Kubernetes cluster."""
        return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


Check = Callable[[Environment], Finding]


def examine(check: Check, environment: Environment) -> Finding:
    """What the check finds; a check that raises, or exceeds its time limit, has failed. Never raises."""
    outcome: list[Finding] = []

    def run() -> None:
        try:
            outcome.append(check(environment))
        except RushesError as error:
            outcome.append(Finding(verdict="failed", found=str(error)))  # the message includes the remedy
        except Exception as error:  # a fault of one check must not hide the others
            found = disk_error(error) or f"{type(error).__name__}: {error}"
            outcome.append(Finding(verdict="failed", found=" ".join(found.split()), remedy=_UNEXPECTED))

    thread = threading.Thread(target=run, daemon=True)  # one that hangs must not keep the process from ending
    thread.start()
    thread.join(environment.limit)
    late = f"no answer within {environment.limit:g} s"
    return outcome[0] if outcome else Finding(verdict="failed", found=late, remedy=_UNEXPECTED)
