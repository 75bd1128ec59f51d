"""One step alone: `rushes sample`, `rushes pretrain`, ..."""

import importlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes.console import console, watching
from rushes.steps import STEPS


def run_alone(step: str, arguments: Mapping[str, Any]) -> int:
    """Runs a step in this process, drawing its progress; names the step that comes next."""
    function = getattr(importlib.import_module(f"rushes.steps.{step}"), step)
    with tempfile.TemporaryDirectory(prefix="rushes-events-") as folder:
        events = Path(folder) / "progress.jsonl"
        os.environ["RUSHES_PROGRESS"] = str(events)
        try:
            with watching(events):
                function(**arguments)
        finally:
            os.environ.pop("RUSHES_PROGRESS", None)  # the folder is removed; a later call in this process has none
    following = STEPS[STEPS.index(step) + 1 :]
    console.print(f"Wrote {arguments['out']}.", markup=False)
    if following:
        console.print(f"Next: rushes {following[0]} --help", markup=False)
    return 0
