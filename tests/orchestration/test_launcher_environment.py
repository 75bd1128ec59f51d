"""The launcher of Kubeflow Pipelines shares a step's environment, and finds no credentials of ours in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.pipeline import COMPARISON, COMPILED, compile_to
from rushes.kubeflow.profile import read_profile
from rushes.orchestration.image import yaml_documents
from tests.s3 import S3

STEP = """
import os
from rushes.steps.base import reported
@reported("pin")
def step(): ...
step()
import fsspec
fsspec.filesystem("s3").mkdir("bucket")
from rushes.home import open_store
store = open_store()
store.write("record", b"a record")
print(store.read("record").decode(), os.environ["AWS_ACCESS_KEY_ID"])
"""


def variables(path: Path) -> dict[str, dict[str, str]]:
    """Each task's variables, and the keys that they are taken from."""
    _, platform = yaml_documents(path.read_text())
    found = {}
    for name, settings in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items():
        sources = [*settings.get("secretAsEnv", []), *settings.get("configMapAsEnv", [])]
        keys = [key for source in sources for key in source["keyToEnv"]]
        found[name] = {key["envVar"]: key.get("secretKey") or key.get("configMapKey") for key in keys}
    return found


@pytest.mark.parametrize("path", [COMPILED, COMPARISON], ids=lambda path: path.stem)
def test_no_pod_has_what_the_launcher_would_take_for_its_own(path: Path) -> None:
    for taken in variables(path).values():
        assert not [name for name in taken if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "MINIO_", "S3_"))]
        assert {name: key for name, key in taken.items() if key.startswith("AWS_")} == {
            f"RUSHES_{key}": key
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
        }


def test_a_profile_of_ones_own_is_compiled_likewise(tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text("secrets: [{name: mine, keys: [AWS_SESSION_TOKEN, OTHER]}]\n")
    compile_to(tmp_path / "pipeline.yaml", read_profile(str(profile)))
    taken = variables(tmp_path / "pipeline.yaml")["exec-pin"]
    assert (taken["RUSHES_AWS_SESSION_TOKEN"], taken["OTHER"]) == ("AWS_SESSION_TOKEN", "OTHER")


def test_a_step_reaches_the_store_by_them_whatever_the_pod_has_besides(s3_server: S3, tmp_path: Path) -> None:
    ours = {f"RUSHES_{name}": value for name, value in s3_server.environment.items()}
    theirs = {"AWS_ACCESS_KEY_ID": "of the launcher", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RUSHES_"))}
    environment |= ours | theirs | {"RUSHES_HOME": str(tmp_path), "RUSHES_STORE": "s3://bucket/store"}
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == f"a record {s3_server.environment['AWS_ACCESS_KEY_ID']}\n", done.stderr
