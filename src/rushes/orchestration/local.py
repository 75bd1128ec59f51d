"""Runs the compiled pipeline on this machine: `python -m rushes.orchestration.local RUN_FOLDER`.

A process of its own, started by `rushes run`: what kfp prints goes to the run's log, and Ctrl-C ends it and the step
it runs together. The very file that a cluster runs is executed; there is no second runner.
"""

import json
import sys
from pathlib import Path

from rushes.orchestration.resources import bundled


def compiled_pipeline() -> Path:
    """The committed compilation."""
    return bundled("pipeline.yaml")


def execute(folder: Path) -> None:
    """Runs the pipeline with the arguments in `<folder>/arguments.json`; raises where a step fails."""
    from kfp import components, local

    arguments = json.loads((folder / "arguments.json").read_text())
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "outputs"),
        workspace_root=str(folder / "workspace"),
        raise_on_error=True,
    )
    pipeline = components.load_component_from_file(str(compiled_pipeline()))
    pipeline(**arguments)


if __name__ == "__main__":
    execute(Path(sys.argv[1]))
