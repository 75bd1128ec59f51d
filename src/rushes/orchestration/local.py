"""Runs the compiled pipeline on this machine: `python -m rushes.orchestration.local RUN_FOLDER [--runner docker]`.

`rushes run` starts it as a process of its own: what kfp prints goes to the run's log, and Ctrl-C ends it together with
the step that it runs. It executes the same file as a cluster.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from rushes.errors import UserError
from rushes.orchestration.image import with_tag, yaml_documents
from rushes.resources import bundled

Runner = Literal["subprocess", "docker"]
"""Whether steps run in processes of this Python, or in containers of the pipeline's images."""


def compiled_pipeline() -> Path:
    """Path of the committed pipeline."""
    return bundled("pipelines/pipeline.yaml")


def compiled_comparison() -> Path:
    """Path of the committed comparison, for `rushes compare --runner cluster`."""
    return bundled("pipelines/comparison.yaml")


def execute(folder: Path, *, runner: Runner, compiled: Path) -> None:
    """Runs a compiled pipeline with the arguments in `<folder>/arguments.json`; raises where a step fails."""
    from kfp import components, local

    arguments = json.loads((folder / "arguments.json").read_text())
    outputs, workspace = folder / "outputs", folder / "workspace"
    for made in (outputs, workspace):
        made.mkdir(exist_ok=True)  # otherwise a Docker engine makes them, as root
    local.init(
        runner=_runner(runner, arguments, folder, compiled),
        pipeline_root=str(outputs),
        workspace_root=str(workspace),
        raise_on_error=True,
    )
    components.load_component_from_text(for_one_machine(with_tag(compiled.read_text())))(**arguments)


def for_one_machine(compiled: str) -> str:
    """The compiled pipeline, changed for one machine.

    There are no retries, since a person is watching, and models train one after the other. kfp.local itself ignores
    the settings for Kubernetes.
    """
    pipeline, *settings = yaml_documents(compiled)
    components = [pipeline["root"], *pipeline["components"].values()]
    for task in (task for component in components for task in component.get("dag", {}).get("tasks", {}).values()):
        task.pop("retryPolicy", None)
        if "parameterIterator" in task:
            task["iteratorPolicy"] = {"parallelismLimit": 1}
    return yaml.safe_dump_all([pipeline, *settings], sort_keys=False)


def _runner(name: Runner, arguments: Mapping[str, Any], folder: Path, compiled: Path) -> Any:
    if name == "docker":
        from rushes.orchestration.docker import docker_runner, end_orphans, require_docker

        require_docker(compiled)
        end_orphans()
        return docker_runner(arguments, folder=folder)
    from kfp import local

    return local.SubprocessRunner(use_venv=False)


def main() -> int:
    """Runs what the command line says; returns 2 if the runner is not available."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runner", choices=("subprocess", "docker"), default="subprocess")
    parser.add_argument("--pipeline", type=Path, default=compiled_pipeline())
    arguments = parser.parse_args()
    try:
        execute(arguments.folder.absolute(), runner=arguments.runner, compiled=arguments.pipeline)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
