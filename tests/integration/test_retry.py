"""A step that is killed in the middle is tried again by the pipeline's own retry policy, and goes on where it was."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.pipeline import compile_to
from rushes.kubeflow.profile import Retry, read_profile
from rushes.processes import end_group
from rushes.progress import read_events
from rushes.strict import to_record
from tests.integration.conftest import QUICK, Cli

FLAGS = (
    *QUICK,
    "--pretrain.samples_per_epoch",
    "160",
    "--pretrain.batch",
    "8",
    "--pretrain.epochs",
    "4",
    "--pretrain.checkpoint_seconds",
    "0",
)
RUN = """
import json, sys
from kfp import components, local
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root="outputs", raise_on_error=True)
components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[2]))
"""
"""kfp.local as it is, with the retry policy that a cluster would follow."""


def arguments(videos: Path) -> dict[str, Any]:
    from rushes.cli import parse
    from rushes.cli.workflow import Run

    command = parse(["run", "pace-r2plus1d", "--size", "cpu", "--videos", str(videos), *FLAGS])
    assert isinstance(command, Run)
    models = [to_record(recipe) for recipe in command.models]
    return {"videos": str(videos), "models": models, "endpoint": "killed", "partitions": 2}


def kill_pretrain(process: psutil.Process, events: Path, *, after: int) -> None:
    """Kills the step, and not its parent, once it has done so many batches."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        seen, _ = read_events(events)
        done = [event["done"] for event in seen if event["event"] == "bar" and event["step"] == "pretrain"]
        if done and done[-1] >= after:
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "pretrain" in child.cmdline():
                        child.kill()
            return
        time.sleep(0.02)
    raise AssertionError("pretrain never got that far")


def wait_for_finetune(process: subprocess.Popen[bytes], events: Path, log: Path) -> None:
    """Until the step after pretraining has begun; what follows does not know of the kill."""
    deadline = time.monotonic() + 400
    while not any(event["event"] == "start" and event["step"] == "finetune" for event in read_events(events)[0]):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


@pytest.mark.soak  # by kfp.local's own retries; test_launcher.py has a step that is killed by Argo's
def test_a_pretrain_pod_that_is_killed_goes_on_with_the_same_weights(videos: Path, tmp_path: Path) -> None:
    profile = dataclasses.replace(read_profile("cpu"), retry=Retry(count=2, wait="1s"))
    compile_to(tmp_path / "pipeline.yaml", profile)
    killed = Cli(tmp_path / "home", tmp_path, {"RUSHES_STORE": str(tmp_path / "store")})
    events = tmp_path / "progress.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "pipeline.yaml", json.dumps(arguments(videos))],
        cwd=tmp_path,
        env=killed.environment | {"RUSHES_PROGRESS": str(events)},
        start_new_session=True,
        stdout=(tmp_path / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        kill_pretrain(psutil.Process(process.pid), events, after=45)
        wait_for_finetune(process, events, tmp_path / "log")
    finally:
        end_group(process)
    seen, _ = read_events(events)
    starts = [n for n, event in enumerate(seen) if event["event"] == "start" and event["step"] == "pretrain"]
    assert len(starts) == 2
    bars = [e["done"] for e in seen[starts[1] :] if e["event"] == "bar" and e["step"] == "pretrain"]
    assert 40 <= next(done for done in bars if done) < 80  # of 80: from its last checkpoint, not from the beginning
    whole = Cli(tmp_path / "home", tmp_path, {"RUSHES_STORE": str(tmp_path / "whole")})
    model = ("pace-r2plus1d", "--size", "cpu", *FLAGS)
    whole.ok("pin", "--videos", videos, "--out", "pin.json")
    whole.ok("sample", *model, "--pin", "pin.json", "--out", "footage.json")
    whole.ok("pretrain", *model, "--footage", "footage.json", "--out", "backbone.json")
    expected = json.loads((tmp_path / "backbone.json").read_text())
    (found,) = (tmp_path / "store" / "steps" / "pretrain").glob("*.json")
    assert found.stem == expected["digest"]
    assert json.loads(found.read_text())["files"]["weights.safetensors"] == expected["files"]["weights.safetensors"]
