"""Runs the compiled pipeline on this machine: `python -m rushes.orchestration.local RUN_FOLDER`.

A process of its own, started by `rushes run`: what kfp prints goes to the run's log, and Ctrl-C ends it and the step
it runs together. The very file that a cluster runs is executed; there is no second runner.
"""

import json
import sys
from pathlib import Path

import yaml

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
    components.load_component_from_text(for_one_machine(compiled_pipeline().read_text()))(**arguments)


def for_one_machine(compiled: str) -> str:
    """The compiled pipeline as one machine is to run it.

    Nothing is tried again, since a person is looking on, and models train one after the other. kfp.local itself leaves
    out what only a cluster knows.
    """
    documents = list(yaml.safe_load_all(compiled))
    components = [documents[0]["root"], *documents[0]["components"].values()]
    for task in (task for component in components for task in component.get("dag", {}).get("tasks", {}).values()):
        task.pop("retryPolicy", None)
        if "parameterIterator" in task:
            task["iteratorPolicy"] = {"parallelismLimit": 1}
    return yaml.safe_dump_all(documents, sort_keys=False)


if __name__ == "__main__":
    execute(Path(sys.argv[1]))
