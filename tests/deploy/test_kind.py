"""deploy/kind, of which nothing can be applied here: its files say so, render, and agree with what they name.

The script runs with stand-ins for kind, kubectl and `rushes`, which note how they are called.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import psutil
import pytest
import yaml

from deploy.kind.upload import upload
from rushes.cli import parse
from rushes.kubeflow.profile import read_profile
from rushes.orchestration.image import tag
from tests.deploy.manifests import REPOSITORY, RULES, Resource, kubectl, named, rendered
from tests.deploy.test_kubernetes import RUNBOOK, fit
from tests.integration.conftest import free_ports
from tests.kubeflow import test_conformance

KIND = REPOSITORY / "deploy" / "kind"
FILES = sorted(path for path in KIND.rglob("*") if path.suffix in (".sh", ".py", ".yaml", ".md"))
SCRIPT = KIND / "cluster.sh"
TEXT = SCRIPT.read_text()
UPSTREAM = re.compile(r"(?m)^  - github\.com/\S+\?ref=\d+\.\d+\.\d+\n")
STUB = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in
  *" get secret "*) exit 1 ;;
  *" exec "*|*"--filename -"*) cat >> "$CALLS" ;;
  *" create "*) echo "kind: made" ;;
  kustomize*) echo "image: rushes/python:this-code" ;;
  *port-forward*) port=$(sed -E 's/.* ([0-9]+):.*/\\1/' <<< "$*")
    exec "$PYTHON" -S -c "import socket, time; s = socket.create_server(('127.0.0.1', $port)); time.sleep(300)" ;;
  *orchestration.image) echo 0.1.0-abc ;;
esac
"""


def local(folder: str) -> list[Resource]:
    """What a kustomization makes, without what it takes from elsewhere, and with this code's tag."""
    argv = [kubectl(), "kustomize", str(KIND / folder)]
    found = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    return [resource for resource in yaml.safe_load_all(found.replace(":this-code", f":{tag()}")) if resource]


@pytest.fixture
def kubeflow(tmp_path: Path) -> list[Resource]:
    """What is added to Kubeflow Pipelines."""
    shutil.copytree(REPOSITORY / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "deploy" / "kind" / "kubeflow" / "kustomization.yaml"
    text, removed = UPSTREAM.subn("", file.read_text())
    assert removed == 1, "the release of Kubeflow Pipelines"
    file.write_text(text)
    argv = [kubectl(), "kustomize", str(file.parent)]
    found = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout
    return [resource for resource in yaml.safe_load_all(found) if resource]


def test_every_file_says_first_that_it_was_not_tried() -> None:
    assert len(FILES) >= 7
    for path in FILES:
        first = path.read_text().splitlines()[0]
        assert re.match(r'(# |""")Not tried on a cluster', first), path


def test_all_that_others_make_is_pinned() -> None:
    for path in FILES:
        for url in re.findall(r"github\.com/[^\s'\"]+", path.read_text()):
            assert re.search(r"\?ref=\d+\.\d+\.\d+$", url), f"{path}: {url}"
    (node,) = yaml.safe_load((KIND / "kind.yaml").read_text())["nodes"]
    assert re.fullmatch(r"kindest/node:v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", node["image"])
    images = [line for path in FILES for line in path.read_text().splitlines() if re.search(r"\bimage: .*:", line)]
    assert len(images) == 1, "kind's; the others come by kustomizations"


def test_what_is_added_to_kubeflow_pipelines_fits_and_is_what_the_profile_refers_to(kubeflow: list[Resource]) -> None:
    fit(kubeflow)
    assert {resource["metadata"]["namespace"] for resource in kubeflow} == {"kubeflow"}
    profile = read_profile(str(KIND / "profile.yaml"))
    settings = named(kubeflow, "ConfigMap", profile.settings.name)["data"]
    assert set(profile.settings.keys) <= set(settings) <= {*profile.settings.keys, *profile.settings.optional}
    (claim,) = profile.volumes
    size = named(kubeflow, "PersistentVolumeClaim", claim)["spec"]["resources"]["requests"]["storage"]
    assert float(settings["RUSHES_CACHE_GB"]) < float(size.removesuffix("Gi")) * 1.07
    assert settings["RUSHES_CACHE"] == profile.volumes[claim]
    for secret in profile.secrets:
        assert all(f"secret generic {secret.name} " in TEXT and f"={key}=" in TEXT for key in secret.keys)
    assert profile.gpu.count == 0 and profile.image == "rushes/python"


@pytest.mark.parametrize("rule", [name for name in RULES if name != "every_pod_has_its_policy"])
def test_our_namespace_keeps_to_the_rules(rule: str) -> None:
    assert RULES[rule](local("rushes")) == []


def test_our_namespace_fits_and_reaches_the_store_as_the_pipelines_do(kubeflow: list[Resource]) -> None:
    resources = local("rushes")
    fit(resources)
    assert RULES["every_pod_has_its_policy"](resources) == []
    ours, theirs = (named(made, "ConfigMap", "rushes-settings")["data"] for made in (resources, kubeflow))
    assert {key: ours[key] for key in ours.keys() & theirs.keys()} == {
        key: theirs[key] for key in ours.keys() & theirs.keys()
    }
    url = urlsplit(ours["AWS_ENDPOINT_URL"])
    assert url.hostname == "seaweedfs.kubeflow.svc"
    (out,) = named(resources, "NetworkPolicy", "object-store")["spec"]["egress"]
    policy = named(kubeflow, "NetworkPolicy", "rushes-object-store")
    (into,) = policy["spec"]["ingress"]
    assert out["ports"] == into["ports"] == [{"port": url.port, "protocol": "TCP"}]
    assert out["to"][0]["podSelector"] == policy["spec"]["podSelector"]
    assert into["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "rushes"}
    plain = {(r["kind"], r["metadata"]["name"]) for r in rendered("small")}
    assert {(r["kind"], r["metadata"]["name"]) for r in resources} == plain


def test_the_script_has_the_profiles_port_and_the_runbooks_secrets_and_policy() -> None:
    ports = dict(re.findall(r"(\w+)=(3\d{4})", TEXT))
    host = read_profile(str(KIND / "profile.yaml")).host
    assert host == f"http://127.0.0.1:{ports['api']}" and len(set(ports.values())) == 3
    (patch,) = re.findall(r"COMPILED_PIPELINE_SPEC_PATCH='[^']+'", TEXT)
    assert patch in RUNBOOK
    for secret, key in re.findall(r"create secret generic (\S+) --from-literal=(\w+)=", RUNBOOK):
        assert re.search(rf"secret generic {secret} [^\n]*--from-literal={key}=", TEXT.replace("\\\n", " ")), secret
    name = yaml.safe_load((KIND / "kind.yaml").read_text())["name"]
    assert set(re.findall(r"--context kind-(\S+)", TEXT)) == {name}
    assert set(re.findall(r"RUSHES_TEST_\w+", TEXT)) == set(
        re.findall(r"RUSHES_TEST_\w+", test_conformance.__doc__ or "")
    )


@pytest.mark.parametrize("checker", [["bash", "-n"], ["shellcheck"]])
def test_the_script_is_one_by(checker: list[str]) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is absent")
    done = subprocess.run([*checker, str(SCRIPT)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


class Shell:
    """The script in a folder of its own, at free ports, among stand-ins."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self.folder, self.calls = folder, folder / "calls"
        (folder / "deploy" / "kind").mkdir(parents=True)
        text = re.sub(r"\b(api|s3|probes)=3\d{4}", lambda match: f"{match[1]}={ports[match[1]]}", TEXT)
        (folder / "deploy" / "kind" / "cluster.sh").write_text(text)
        (folder / "bin").mkdir()
        for name in ("kind", "kubectl", "rushes", "python"):
            (folder / "bin" / name).write_text(STUB)
            (folder / "bin" / name).chmod(0o755)

    def __call__(self, verb: str) -> tuple[int, list[str]]:
        """Exit status, and what was called."""
        bin_folder = self.folder / "bin"
        environment = os.environ | {"BIN": str(bin_folder), "CALLS": str(self.calls), "PYTHON": sys.executable}
        environment["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
        argv = ["bash", str(self.folder / "deploy" / "kind" / "cluster.sh"), verb]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return done.returncode, lines

    def left(self) -> list[list[str]]:
        """Processes that are still there."""
        running = [process.info for process in psutil.process_iter(["cmdline", "environ"])]
        return [one["cmdline"] for one in running if (one["environ"] or {}).get("CALLS") == str(self.calls)]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, dict(zip(("api", "s3", "probes"), free_ports(3), strict=True)))


def position(calls: list[str], pattern: str) -> int:
    found = [number for number, line in enumerate(calls) if re.search(pattern, line)]
    assert found, f"{pattern} in {calls}"
    return found[0]


def test_up_installs_all_in_order_and_runs_the_demo(shell: Shell) -> None:
    status, calls = shell("up")
    assert status == 0, calls
    order = [
        r"^kind create cluster --config deploy/kind/kind.yaml",
        r"^kind load docker-image --name rushes rushes/python:0.1.0-abc rushes/triton:0.1.0-abc$",
        r"^kubectl .* apply .* --kustomize github\.com/.*/cluster-scoped-resources\?ref=",
        r"^kubectl .* apply .* --kustomize deploy/kind/kubeflow$",
        r"^kubectl .* set env deployment/ml-pipeline",
        r"^s3.bucket.create --name rushes$",
        r"^rushes pipeline compile --profile deploy/kind/profile.yaml",
        r"^kubectl kustomize deploy/kind/rushes$",
        r"^image: rushes/python:0.1.0-abc$",
        r"^rushes demo-videos",
        r"^rushes pipeline submit pace-r2plus1d .*--wait$",
        r"^kubectl .* rollout status deployment/triton",
    ]
    found = [position(calls, pattern) for pattern in order]
    assert found == sorted(found), list(zip(order, found, strict=True))
    keys = {line.split("-secret_key ")[1].split()[0] for line in calls if line.startswith("s3.configure")}
    stored = [line for line in calls if "--from-literal=AWS_SECRET_ACCESS_KEY=" in line]
    assert len(keys) == 2 and {line.split("AWS_SECRET_ACCESS_KEY=")[1].split()[0] for line in stored} == keys
    assert not [line for line in calls if "this-code" in line]
    for line in calls:
        if line.startswith("rushes "):
            assert parse(line.split()[1:]), line
        if line.startswith("kubectl ") and "kustomize deploy/kind/rushes" not in line:
            assert line.startswith("kubectl --context kind-rushes --namespace "), "another cluster is left alone"
    assert shell.left() == []


def test_the_tests_are_pointed_at_what_was_brought_up(shell: Shell) -> None:
    status, calls = shell("test")
    assert status == 0 and shell.left() == []
    forwarded = sorted(re.findall(r"port-forward (\S+) \d+:(\d+)", "\n".join(calls)))
    assert forwarded == [
        ("service/ml-pipeline", "8888"),
        ("service/seaweedfs", "8333"),
        ("service/triton-replicas", "8080"),
    ]
    (tests,) = [line for line in calls if "-m pytest" in line]
    assert tests == "python -m pytest tests/kubeflow/test_conformance.py"
    assert (REPOSITORY / tests.split()[-1]).is_file()


def test_down_removes_this_cluster_and_nothing_is_done_by_mistake(shell: Shell) -> None:
    assert shell("down") == (0, ["kind delete cluster --name rushes"])
    shell.calls.unlink()
    assert shell("dwon") == (2, [])


def test_the_makefile_says_and_calls_each() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    for target, verb in {"cluster": "up", "cluster-test": "test", "cluster-down": "down"}.items():
        assert re.search(rf"(?m)^#.*\bmake {target}\b", text)
        assert re.search(rf"(?m)^{target}:[^\n]*\n\tbash deploy/kind/cluster\.sh {verb}$", text)


def test_a_folder_is_copied_with_the_names_of_its_files(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "labels.csv", ".state.json"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_text(name)
    assert upload(tmp_path / "videos", "memory://kind/demo") == 2
    files = fsspec.filesystem("memory")
    assert sorted(files.find("/kind/demo")) == ["/kind/demo/a/1.mp4", "/kind/demo/labels.csv"]
    assert files.cat_file("/kind/demo/a/1.mp4") == b"a/1.mp4"
