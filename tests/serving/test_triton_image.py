"""The built triton image, run by a Docker engine as the Deployment runs it: what it loads, decodes and answers.

RUSHES_TEST_TRITON_IMAGE names it (`make image-triton`); its label says which PyAV it must have.
"""

import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from rushes.ledger import Champion
from rushes.serving.bundle import Bundle
from rushes.serving.client import predict
from tests.damage import drawn_videos
from tests.deploy.manifests import named, rendered
from tests.serving.test_decode_only import LOOK, ROOT, looked

IMAGE = os.environ.get("RUSHES_TEST_TRITON_IMAGE", "")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not IMAGE, reason="RUSHES_TEST_TRITON_IMAGE names no image"),
]
KEY = "of-the-test"


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    import docker

    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def pyav(engine: Any) -> str:
    """Where the image says that it has PyAV from."""
    return str(engine.images.get(IMAGE).labels["rushes.pyav"])


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    """The pod of the Deployment, as the overlay `small` has it."""
    spec: dict[str, Any] = named(rendered("small"), "Deployment", "triton")["spec"]["template"]["spec"]
    return spec


def confined(pod: dict[str, Any], container: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of user, file system, capabilities and memory, in Docker's words."""
    user, context = pod["securityContext"], container["securityContext"]
    limit = container["resources"]["limits"]["memory"]
    return {
        "user": f"{user['runAsUser']}:{user['runAsGroup']}",
        "read_only": context["readOnlyRootFilesystem"],
        "cap_drop": context["capabilities"]["drop"],
        "security_opt": [] if context["allowPrivilegeEscalation"] else ["no-new-privileges"],
        "mem_limit": limit.removesuffix("i").lower(),
        "tmpfs": {"/tmp": "size=1g,mode=1777"},
    }


def readable(folder: Path) -> Path:
    """The folder, for another user to read."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def test_it_decodes_as_here_and_loads_no_more_than_its_label_says(
    engine: Any, pod: dict[str, Any], pyav: str, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    assert len(drawn_videos(videos)) >= 10
    shutil.copy(ROOT / "src" / "rushes" / "serving" / "golden.mp4", videos)
    mounts = {str(readable(videos)): {"bind": "/videos", "mode": "ro"}}
    (container,) = pod["containers"]

    def within(*argv: str) -> str:
        given = confined(pod, container) | {"volumes": mounts, "network_mode": "none", "remove": True}
        printed: bytes = engine.containers.run(IMAGE, list(argv), **given)
        return printed.decode()

    found = json.loads(within("python3", "-c", LOOK, "/videos").splitlines()[-1])
    assert found["frames"] == looked(videos)["frames"]
    held = within("find", "/opt/rushes", "/opt/ffmpeg", "-name", "*x26[45]*so*").split()
    loaded = [path for path in found["loaded"] if re.search(r"x26[45]", path)]
    assert any("libavcodec" in path for path in found["loaded"])
    if pyav == "lgpl":
        assert (held, loaded, found["encoders"]) == ([], [], [])
        assert found["meta"]["license"].startswith("LGPL version 2.1")
        assert all(path.startswith("/opt/ffmpeg/") for path in found["loaded"] if "libavcodec" in path)
    else:
        assert pyav == "wheel" and held and loaded and "libx264" in found["encoders"]


@pytest.fixture
def replica(
    engine: Any, pod: dict[str, Any], promote: Callable[..., Champion], five_actions: Bundle, tmp_path: Path
) -> Iterator[tuple[Any, Any]]:
    """The reconciler's container and Triton's, in the kubelet's order, beside a store that is read only."""
    promote("plain", 1, five_actions.folder)
    home = tmp_path / "pod"
    home.mkdir()
    home.chmod(0o777)  # as `fsGroup` makes it
    (sidecar,), (triton,) = pod["initContainers"], pod["containers"]
    ports = {f"{port['containerPort']}/tcp": ("127.0.0.1", None) for c in (sidecar, triton) for port in c["ports"]}

    def start(container: dict[str, Any], **given: Any) -> Any:
        known = {"RUSHES_TRITON_KEY": KEY, "RUSHES_STORE": "/store"}
        env = {one["name"]: one.get("value", known.get(one["name"], "")) for one in container["env"]}
        argv = [word.replace("$(RUSHES_TRITON_KEY)", KEY) for word in container["command"]]
        (own,) = (mount for mount in container["volumeMounts"] if mount["name"] == "home")
        volumes = {
            str(home): {"bind": own["mountPath"], "mode": "ro" if own.get("readOnly") else "rw"},
            str(readable(tmp_path / "store")): {"bind": "/store", "mode": "ro"},
        }
        given |= {"environment": {name: value for name, value in env.items() if value}, "volumes": volumes}
        return engine.containers.run(IMAGE, argv, detach=True, **confined(pod, container), **given)

    started: list[Any] = []
    try:
        started.append(start(sidecar, ports=ports))
        eventually(lambda: asked(started[0], "/live") == 200, started)
        started.append(start(triton, network_mode=f"container:{started[0].id}", shm_size="1g"))
        yield started[0], started[1]
    finally:
        for container in reversed(started):
            container.remove(force=True)


def asked(sidecar: Any, path: str) -> int:
    """The status by which the sidecar answers; 0 if it does not."""
    try:
        with urllib.request.urlopen(f"http://{published(sidecar, 8080)}{path}", timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def published(container: Any, port: int) -> str:
    container.reload()
    (bound,) = container.ports[f"{port}/tcp"]
    return f"127.0.0.1:{bound['HostPort']}"


def eventually(probe: Callable[[], bool], containers: list[Any]) -> None:
    deadline = time.monotonic() + 180
    while not probe():
        said = "\n".join(container.logs().decode()[-3000:] for container in containers)
        assert time.monotonic() < deadline, said
        for container in containers:
            container.reload()
            assert container.status in ("created", "running"), said
        time.sleep(0.5)


def test_the_pod_answers_and_ends(
    replica: tuple[Any, Any], pod: dict[str, Any], five_actions: Bundle, video: bytes, pyav: str
) -> None:
    sidecar, triton = replica
    eventually(lambda: asked(sidecar, "/ready") == 200, [sidecar, triton])
    ports: dict[Literal["grpc", "http"], int] = {"grpc": 8001, "http": 8000}
    for protocol, port in ports.items():
        answer = predict(video, endpoint="plain", url=published(sidecar, port), protocol=protocol)
        assert (answer.version, answer.labels) == (1, five_actions.contract.labels)
    # Each process of the container that has FFmpeg loaded: Triton's decoders.
    loaded = triton.exec_run(["sh", "-c", "cat /proc/[0-9]*/maps"]).output.decode()
    assert "libavcodec" in loaded
    assert bool(re.search(r"libx26[45]", loaded)) == (pyav == "wheel")
    (container,) = pod["containers"]
    code, said = triton.exec_run(container["lifecycle"]["preStop"]["exec"]["command"])
    assert code == 0, said
    triton.stop(timeout=pod["terminationGracePeriodSeconds"])
    assert triton.wait()["StatusCode"] == 0, triton.logs().decode()[-3000:]
    sidecar.stop(timeout=30)
    assert sidecar.wait()["StatusCode"] in (0, 143), sidecar.logs().decode()[-3000:]
