"""dvc.yaml, made from the compiled pipeline: the same steps, the same edges, the demo's recipe.

    python -m pipelines.dvc            writes dvc.yaml
    python -m pipelines.dvc --check    fails where it differs from what is committed

DVC versions the pointers (kilobytes); whether work is done again is the store's to say, so every stage depends on the
whole package and a stage that DVC runs without need costs a second.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.pipeline import COMPILED

ROOT = Path(__file__).parents[1]
DVC_YAML = ROOT / "dvc.yaml"
MODEL, SIZE, VIDEOS, ENDPOINT = "pace-r2plus1d", "cpu", "data/demo", "demo"
HEAD = "# Written by `python -m pipelines.dvc` from pipelines/pipeline.yaml; do not edit.\n"
LOOKS_EACH_TIME = ("pin", "register", "promote", "deploy")
"""Stages whose result hangs on the world outside the workspace."""


def stages() -> dict[str, dict[str, Any]]:
    """A stage a task of the compiled pipeline, in its order."""
    pipeline = next(yaml.safe_load_all(COMPILED.read_text()))
    tasks: dict[str, Any] = pipeline["root"]["dag"]["tasks"]
    names = {task: _stage_name(record) for task, record in tasks.items()}
    recipe = yaml.safe_load((ROOT / "models" / MODEL / "recipe.yaml").read_text())
    ordered = sorted(tasks, key=lambda task: _depth(task, tasks))
    return {names[task]: _stage(names[task], tasks[task], names, recipe) for task in ordered}


def render() -> str:
    """Text of dvc.yaml."""
    return HEAD + yaml.safe_dump({"stages": stages()}, sort_keys=False, width=100)


def _stage(name: str, task: dict[str, Any], names: dict[str, str], recipe: dict[str, Any]) -> dict[str, Any]:
    step = task["componentRef"]["name"].removeprefix("comp-").split("-")[0]
    inputs = {
        flag: f"artifacts/{names[source['taskOutputArtifact']['producerTask']]}.json"
        for flag, source in task["inputs"].get("artifacts", {}).items()
    }
    parameters = task["inputs"].get("parameters", {})
    words = ["rushes", step]
    if "recipe" in parameters:
        words += [MODEL, "--size", SIZE]
    if "init" in parameters:
        words += ["--init", parameters["init"]["runtimeValue"]["constant"]]
    if "endpoint" in parameters:
        words += ["--endpoint", ENDPOINT]
    if step == "pin":
        words += ["--videos", VIDEOS]
    for flag, path in inputs.items():
        words += [f"--{flag}", path]
    stage: dict[str, Any] = {"cmd": " ".join([*words, "--out", f"artifacts/{name}.json"])}
    stage["deps"] = ["src/rushes", *([VIDEOS] if step == "pin" else []), *inputs.values()]
    if "recipe" in parameters:
        stage["params"] = [{f"models/{MODEL}/recipe.yaml": _parameters(step, recipe)}]
    stage["outs"] = [f"artifacts/{name}.json"]
    if step in LOOKS_EACH_TIME:
        stage["always_changed"] = True
    return stage


def _stage_name(task: dict[str, Any]) -> str:
    step: str = task["componentRef"]["name"].removeprefix("comp-").split("-")[0]
    init = task["inputs"].get("parameters", {}).get("init", {}).get("runtimeValue", {}).get("constant")
    return f"{step}-{init}" if init == "random" else step


def _depth(task: str, tasks: dict[str, Any]) -> int:
    producers = [
        source["taskOutputArtifact"]["producerTask"] for source in tasks[task]["inputs"].get("artifacts", {}).values()
    ]
    return 1 + max((_depth(producer, tasks) for producer in producers), default=0)


def _parameters(step: str, recipe: dict[str, Any]) -> list[str]:
    found = [step] if step in recipe else []
    return found + ([f"sizes.{SIZE}.{step}"] if step in recipe["sizes"][SIZE] else []) or ["name"]


def main() -> int:
    """Writes or checks dvc.yaml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    if not parser.parse_args().check:
        DVC_YAML.write_text(render())
        return 0
    if render() == DVC_YAML.read_text():
        return 0
    sys.stderr.write(f"{DVC_YAML} is not what the pipeline makes: run `make compile` and commit it\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
