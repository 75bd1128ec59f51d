"""dvc.yaml, made from the steps' signatures: the pipeline's chain for one model, with the demo's recipe.

    python -m pipelines.dvc            writes dvc.yaml
    python -m pipelines.dvc --check    fails where the committed file differs

DVC versions the pointers (kilobytes). The store knows what is already done, so every stage depends on the whole
package, and a stage that DVC runs without need costs a second.
"""

import argparse
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

import yaml

from rushes.steps import STEP_TRAITS, STEPS

ROOT = Path(__file__).parents[1]
DVC_YAML = ROOT / "dvc.yaml"
MODEL, SIZE, VIDEOS, ENDPOINT = "pace-r2plus1d", "cpu", "data/demo", "demo"
HEAD = "# Written by `python -m pipelines.dvc` from the steps' signatures; do not edit.\n"
LEFT_OUT = ("choose",)
"""Steps that this chain of one model does not need."""
WRITER = {traits.output: step for step, traits in STEP_TRAITS.items()} | {"baseline": "finetune-random"}
"""The stage that writes the pointer of each name."""


def stages() -> dict[str, dict[str, Any]]:
    """One stage per step; fine-tuning also from random weights."""
    recipe = yaml.safe_load((ROOT / "models" / MODEL / "recipe.yaml").read_text())
    names = [name for step in STEPS if step not in LEFT_OUT for name in _stages_of(step)]
    return {name: _stage(name, recipe) for name in names}


def render() -> str:
    """Text of dvc.yaml."""
    return HEAD + yaml.safe_dump({"stages": stages()}, sort_keys=False, width=100)


def _stages_of(step: str) -> list[str]:
    return ["finetune", "finetune-random"] if step == "finetune" else [step]


def _stage(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    step, _, init = name.partition("-")
    taken = inspect.signature(getattr(importlib.import_module(f"rushes.steps.{step}"), step)).parameters
    words = ["rushes", step]
    if "recipe" in taken:
        words += [MODEL, "--size", SIZE]
    if init:
        words += ["--init", init]
    if "endpoint" in taken:
        words += ["--endpoint", ENDPOINT]
    if "data" in taken:
        words += ["--videos", VIDEOS]
    inputs = {key: f"artifacts/{WRITER[key]}.json" for key in taken if key in WRITER}
    for key, path in inputs.items():
        words += [f"--{key}", path]
    stage: dict[str, Any] = {"cmd": " ".join([*words, "--out", f"artifacts/{name}.json"])}
    stage["deps"] = ["src/rushes", *([VIDEOS] if "data" in taken else []), *inputs.values()]
    if "recipe" in taken:
        stage["params"] = [{f"models/{MODEL}/recipe.yaml": _parameters(step, recipe)}]
    stage["outs"] = [f"artifacts/{name}.json"]
    if STEP_TRAITS[step].looks_outside:
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
    sys.stderr.write(f"{DVC_YAML} does not match the steps: run `make compile` and commit it\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
