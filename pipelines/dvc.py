"""dvc.yaml, made from the steps' commands: the pipeline's chain for one model, with the demo's recipe.

    python -m pipelines.dvc            writes dvc.yaml
    python -m pipelines.dvc --check    fails where it differs from what is committed

DVC versions the pointers (kilobytes); whether work is done again is the store's to say, so every stage depends on the
whole package and a stage that DVC runs without need costs a second.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import yaml

from rushes.cli import COMMANDS
from rushes.steps import STEPS

ROOT = Path(__file__).parents[1]
DVC_YAML = ROOT / "dvc.yaml"
MODEL, SIZE, VIDEOS, ENDPOINT = "pace-r2plus1d", "cpu", "data/demo", "demo"
HEAD = "# Written by `python -m pipelines.dvc` from the steps' commands; do not edit.\n"
LOOKS_EACH_TIME = ("pin", "register", "promote", "deploy")
"""Stages whose result hangs on the world outside the workspace."""
WRITER = {
    "pin": "pin",
    "footage": "sample",
    "backbone": "pretrain",
    "classifier": "finetune",
    "baseline": "finetune-random",
    "evaluation": "evaluate",
    "bundle": "export",
    "version": "register",
    "decision": "promote",
}
"""The stage whose pointer a flag takes."""


def stages() -> dict[str, dict[str, Any]]:
    """A stage a step, fine-tuning also from random weights; of one model there is nothing to choose."""
    recipe = yaml.safe_load((ROOT / "models" / MODEL / "recipe.yaml").read_text())
    names = [name for step in STEPS if step != "choose" for name in _stages_of(step)]
    return {name: _stage(name, recipe) for name in names}


def render() -> str:
    """Text of dvc.yaml."""
    return HEAD + yaml.safe_dump({"stages": stages()}, sort_keys=False, width=100)


def _stages_of(step: str) -> list[str]:
    return ["finetune", "finetune-random"] if step == "finetune" else [step]


def _stage(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    step, _, init = name.partition("-")
    fields = [f.name for f in dataclasses.fields(COMMANDS[step])]
    words = ["rushes", step]
    if "recipe" in fields:
        words += [MODEL, "--size", SIZE]
    if init:
        words += ["--init", init]
    if "endpoint" in fields:
        words += ["--endpoint", ENDPOINT]
    if "videos" in fields:
        words += ["--videos", VIDEOS]
    inputs = {flag: f"artifacts/{WRITER[flag]}.json" for flag in fields if flag in WRITER}
    for flag, path in inputs.items():
        words += [f"--{flag}", path]
    stage: dict[str, Any] = {"cmd": " ".join([*words, "--out", f"artifacts/{name}.json"])}
    stage["deps"] = ["src/rushes", *([VIDEOS] if step == "pin" else []), *inputs.values()]
    if "recipe" in fields:
        stage["params"] = [{f"models/{MODEL}/recipe.yaml": _parameters(step, recipe)}]
    stage["outs"] = [f"artifacts/{name}.json"]
    if step in LOOKS_EACH_TIME:
        stage["always_changed"] = True
    return stage


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
