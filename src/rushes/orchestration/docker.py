"""Steps in containers on this machine: `python -m rushes.orchestration.local RUN_FOLDER --runner docker`.

kfp.local's DockerRunner runs the compiled pipeline's own images on this machine's engine. A step has what it would have
as a process: the home, the store and the videos (read-only) under their own paths, the servers on the loopback
interface, and this machine's process IDs, by which servers are known. It runs as the caller, since the image's own user
could not write into the caller's folders.
"""

import contextlib
import inspect
import os
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rushes.errors import UserError
from rushes.home import home_folder, open_store
from rushes.orchestration.image import with_tag, yaml_documents
from rushes.processes import start_time

PASSED = ("RUSHES_", "MLFLOW_", "AWS_", "OMP_")
"""Prefixes of the environment variables that are passed to a container."""
LABEL = "rushes.run"
"""Label of each container: the folder of its run."""
RUNNER = "rushes.runner"
"""Label of each container: process ID and start time of its runner."""
SHARED_MEMORY = "2g"
"""Upper bound of /dev/shm, through which loader workers pass batches; memory is taken only as it is used."""


def docker_runner(arguments: Mapping[str, Any], *, folder: Path) -> Any:
    """kfp.local's DockerRunner with what the steps of one run need.

    Replaces kfp's function that runs a container, which may take a failure for a success, and makes SIGTERM and Ctrl-C
    end the run's containers too, which are not children of this process.

    Args:
        arguments: the pipeline's parameters; files and folders that they name are mounted, read-only.
        folder: the run's folder, under the home.

    Raises:
        UserError: this release of kfp runs containers in another way.
    """
    from docker.types import Mount
    from kfp import local

    _replace_kfps_own()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_end, folder))
    return local.DockerRunner(
        mounts=[
            Mount(target=str(path), source=str(path), type="bind", read_only=read_only)
            for path, read_only in mounts(arguments).items()
        ],
        environment=environment(),
        labels={LABEL: str(folder), RUNNER: f"{os.getpid()} {start_time(os.getpid())}"},
        working_dir=str(Path.cwd()),
        user=f"{os.getuid()}:{os.getgid()}",
        network_mode="host",
        pid_mode="host",
        shm_size=SHARED_MEMORY,
    )


def require_docker(compiled: Path) -> None:
    """Checks that a Docker engine answers and has the images of a compiled pipeline.

    Raises:
        UserError: it does not; the message has the remedy.
    """
    from docker.errors import DockerException, ImageNotFound

    try:
        with _engine() as client:
            client.ping()
            for image in images(compiled):
                try:
                    client.images.get(image)
                except ImageNotFound as error:
                    raise UserError(f"runner: the image {image} is absent: build it with `make image`") from error
    except DockerException as error:
        raise UserError(
            f"runner: no Docker engine answers ({error}): start one, or run the steps as processes"
        ) from error


def images(compiled: Path) -> list[str]:
    """The images that a compiled pipeline's steps run in."""
    executors = yaml_documents(with_tag(compiled.read_text()))[0]["deploymentSpec"]["executors"].values()
    return sorted({executor["container"]["image"] for executor in executors if "container" in executor})


def mounts(arguments: Mapping[str, Any]) -> dict[Path, bool]:
    """Paths that a step needs, each with whether it is read-only; makes the folders that steps write into.

    Args:
        arguments: every text in them that names a file or folder counts; if it is in a git repository, the repository
            is mounted, from which `pin` reads the commit.
    """
    home, cache = home_folder(), os.environ.get("RUSHES_CACHE")
    folders = (open_store().local, Path(cache).absolute() if cache else None)
    written = [home, *(folder for folder in folders if folder and not folder.is_relative_to(home))]
    for folder in written:
        folder.mkdir(parents=True, exist_ok=True)
    return dict.fromkeys(_named(arguments), True) | dict.fromkeys(written, False)


def environment() -> dict[str, str]:
    """Environment variables of a container."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    # The caller's uid has neither a home nor a name in the image, and libraries ask for both.
    return {"HOME": "/tmp", "USER": "rushes", **passed, "RUSHES_HOME": str(home_folder())}  # noqa: S108


def run_container(
    client: Any, image: str, command: list[str], volumes: dict[str, Any], **container_run_args: Any
) -> int:
    """Runs a container to its end, prints its output, removes it, and returns its exit status.

    kfp 2.17 lets the engine remove the container, and counts one that is gone before its status was read as a success
    (kubeflow/pipelines#13332).
    """
    from docker.errors import APIError

    container = client.containers.create(image=image, command=command, volumes=volumes, **container_run_args)
    try:
        container.start()
        for piece in container.logs(stream=True, follow=True):
            print(piece.decode(errors="replace"), end="")  # noqa: T201 - kfp indents what is printed
        return int(container.wait()["StatusCode"])
    finally:
        with contextlib.suppress(APIError):  # its status is known, or a worse error is being raised
            container.remove(force=True, v=True)


def end_containers(folder: Path) -> None:
    """Ends and removes the containers of a run."""
    from docker.errors import APIError

    with _engine() as client:
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={folder}"}, ignore_removed=True):
            with contextlib.suppress(APIError):  # it may be ending by itself
                container.remove(force=True)


def end_orphans() -> None:
    """Ends and removes this home's containers whose runner is gone: one killed by SIGKILL leaves them."""
    from docker.errors import APIError

    with _engine() as client:
        for container in client.containers.list(all=True, filters={"label": [LABEL, RUNNER]}, ignore_removed=True):
            pid, _, started = container.labels[RUNNER].partition(" ")
            ours = Path(container.labels[LABEL]).is_relative_to(home_folder())
            if ours and start_time(int(pid)) != started:
                with contextlib.suppress(APIError):  # another runner may be removing it
                    container.remove(force=True)


def _end(folder: Path, number: int, _frame: object) -> None:
    end_containers(folder)
    os._exit(128 + number)  # not by an exception, which would wait for kfp's threads


def _replace_kfps_own() -> None:
    import kfp
    from kfp.local import docker_task_handler

    theirs = getattr(docker_task_handler, "run_docker_container", None)
    if theirs is None or [*inspect.signature(theirs).parameters] != [*inspect.signature(run_container).parameters]:
        raise UserError(
            f"runner: kfp {kfp.__version__} runs containers in a way that is not known here: install kfp 2.17, or run "
            "the steps as processes"
        )
    docker_task_handler.run_docker_container = run_container


@contextlib.contextmanager
def _engine() -> Iterator[Any]:
    import docker

    client = docker.from_env()
    try:
        yield client
    finally:
        client.close()


def _named(value: Any) -> Iterator[Path]:
    """Absolute paths that exist on this machine, of the texts in a parameter."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _named(item)
    elif isinstance(value, str) and value:
        path = Path(value).absolute()
        with contextlib.suppress(OSError, ValueError):  # not a path: too long, or with a null byte
            repository = next((folder for folder in (path, *path.parents) if (folder / ".git").exists()), None)
            # With a revision, the folder need not be in the working tree.
            if path.exists() or (repository and value.startswith("/")):
                yield repository or path
