"""A local Triton: `rushes up` starts it, it outlives the command, `rushes down` stops it.

It uses explicit model control (only the reconciler loads and unloads), the loopback interface only, and a key without
which nobody controls it (`rushes.serving.control_key`). Its `onnxruntime` backend is the Python one of `backends/`;
NVIDIA's container serves the same model repository.
"""

import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rushes import processes
from rushes.errors import UserError
from rushes.processes import LOOPBACK, Server
from rushes.progress import Progress
from rushes.serving.control_key import FLAGS, KEY_VARIABLE, closing_arguments, make_key, read_key
from rushes.serving.environment import OFF, can_run_triton, ensure_environment, environment_folder, site_packages
from rushes.serving.repository import BACKENDS, models_folder
from rushes.serving.shell_paths import check_triton_paths

NAME = "triton"
PORT = 8000
PORT_VARIABLE = "RUSHES_TRITON_PORT"
_LOOPBACK_NAMES = (LOOPBACK, "localhost")
_HIDDEN = [f"{flag}=(hidden)" for flag in FLAGS]
"""What the list of processes shows of the arguments with the key; Triton itself would refuse them."""
_LARGEST_REGION = 160 << 20
"""Bytes of the largest file that Triton may write: the memory that it shares with one decoder is one. Room for a
request, which is copied within it; a larger one is an error before it gets there.
"""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - Triton's, not a temporary file of ours


def default_port() -> int:
    """The first of Triton's three ports: from `RUSHES_TRITON_PORT`, or 8000.

    Raises:
        UserError: the variable is not a number.
    """
    text = os.environ.get(PORT_VARIABLE) or str(PORT)
    if not text.isdecimal():
        raise UserError(f"{PORT_VARIABLE}: {text!r} is not a port: give the first of three consecutive free ones")
    return int(text)


def start_triton(
    *, home: Path, port: int | None = None, progress: Progress | None = None, timeout: float = 60.0
) -> Server:
    """Starts Triton without models and waits until it is live; returns the running one if there is one.

    One that an earlier version started without a key is stopped first.

    Args:
        home: folder of servers, logs and the model repository.
        port: HTTP; gRPC and metrics take the next two.
        progress: where to report the making of Triton's environment, if that is still to be done.
        timeout: seconds until it must be live.

    Raises:
        UserError: Triton cannot run on this machine or in this folder, or a port is in use.
        ServiceError: it did not start; the message ends with the end of its log.
    """
    reason = can_run_triton()
    if reason is not None:
        raise UserError(f"triton: {reason}: answers come in process (`rushes predict --offline`)")
    check_triton_paths(home)
    home = home.resolve()
    first = port if port is not None else default_port()
    server = processes.start(
        name=NAME,
        argv=_argv(home, environment_folder(), first),
        home=home,
        ports={"http": first, "grpc": first + 1, "metrics": first + 2},
        ready=_is_live,
        env=_environment(environment_folder()),
        hidden=lambda: dict(zip(_HIDDEN, closing_arguments(make_key(home)), strict=True)),
        outdated=lambda server: not is_closed(server, home=home),
        change_ports=f"set {PORT_VARIABLE} to the first of three free ports",
        prepare=lambda: _prepare(home, ensure_environment(progress)),
        timeout=timeout,
    )
    _limit_files(server.pid)
    return server


def stop_triton(*, home: Path, grace: float = 20.0) -> bool:
    """Stops Triton with its stubs, waits until they are gone, and frees their shared memory. False if none ran."""
    stopped = processes.stop(name=NAME, home=home, grace=grace)
    if triton_status(home=home) is None:
        _free_shared_memory(home)
    return stopped


def triton_status(*, home: Path) -> Server | None:
    """The running Triton of this home, or None."""
    return processes.status(name=NAME, home=home)


def is_closed(server: Server, *, home: Path) -> bool:
    """Whether a running Triton demands the key of its home; those of earlier versions demand none."""
    return set(_HIDDEN) <= set(server.argv) and read_key(home) is not None


def key_for(address: str, *, home: Path) -> str | None:
    """The key of the Triton at gRPC `host:port`: this home's for its own, else that of RUSHES_TRITON_KEY, if any.

    Raises:
        UserError: the file is another user's.
    """
    host, _, port = address.rpartition(":")
    local = triton_status(home=home)
    if local is not None and host in _LOOPBACK_NAMES and port == str(local.ports["grpc"]):
        return read_key(home)
    return os.environ.get(KEY_VARIABLE) or None


def address(server: Server, protocol: str = "grpc") -> str:
    """`host:port` of one of its protocols."""
    return f"{LOOPBACK}:{server.ports[protocol]}"


def _limit_files(pid: int) -> None:
    """Limits the files of a Triton that survives it: one of an earlier version would end at the signal."""
    ignored = re.search(r"SigIgn:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    if ignored and int(ignored[1], 16) >> (signal.SIGXFSZ - 1) & 1:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_LARGEST_REGION, _LARGEST_REGION))


def _is_live(server: Server) -> bool:
    return processes.answers(f"{server.url('http')}/v2/health/live")


def _prepare(home: Path, environment: Path) -> None:
    """Writes the folders that Triton reads beside the models, and removes what a killed server left."""
    _free_shared_memory(home)
    triton = home / "triton"
    pytriton = site_packages(environment) / "pytriton" / "tritonserver"
    models_folder(home).mkdir(parents=True, exist_ok=True)
    python = triton / "backends" / "python"
    shutil.rmtree(triton / "backends", ignore_errors=True)
    python.mkdir(parents=True)
    # Copies (5 MB): Triton refuses a backend library that is a link to another folder.
    for source in (pytriton / "backends" / "python").glob("*.*"):
        shutil.copy2(source, python)
    stub = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}/triton_python_backend_stub"
    shutil.copy2(pytriton / stub, python)
    _check_stub(python / Path(stub).name, _environment(environment))
    shutil.copytree(
        BACKENDS / "onnxruntime", triton / "backends" / "onnxruntime", ignore=shutil.ignore_patterns("__pycache__")
    )
    # The endpoint's model.py imports this package through this link, and nothing else of this environment.
    library = triton / "lib"
    shutil.rmtree(library, ignore_errors=True)
    library.mkdir()
    (library / "rushes").symlink_to(Path(__file__).parents[1])


def _check_stub(stub: Path, variables: Mapping[str, str]) -> None:
    """Runs the program of Triton's Python processes; where it lacks a library, Triton would wait for it without end.

    Raises:
        UserError: it lacks one, which is libpython where Python was built without a shared library.
    """
    said = subprocess.run([str(stub)], env=dict(variables), capture_output=True, text=True, check=False)
    if said.returncode == 127:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(
            f"triton: its Python processes cannot start ({said.stderr.strip().rpartition('libraries: ')[2]}): install "
            f"Python {python} with its shared library (libpython{python}.so; pyenv builds it with --enable-shared), or "
            f"answer in process ({OFF}=1)"
        )


def _argv(home: Path, environment: Path, first: int) -> list[str]:
    pytriton = site_packages(environment) / "pytriton" / "tritonserver"
    return [
        str(pytriton / "bin" / "tritonserver"),
        f"--model-repository={models_folder(home)}",
        "--model-control-mode=explicit",
        f"--backend-directory={home / 'triton' / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={_shared_memory_prefix(home)}",
        "--disable-auto-complete-config",
        f"--http-address={LOOPBACK}",
        f"--grpc-address={LOOPBACK}",
        f"--metrics-address={LOOPBACK}",
        f"--http-port={first}",
        f"--grpc-port={first + 1}",
        f"--metrics-port={first + 2}",
        *_HIDDEN,
        # Browsers send it with every POST of a page, and Triton checks it nowhere: the endpoint's model refuses it.
        "--http-header-forward-pattern=(?i)origin",
        # Objects of requests that are kept keep the bytes of the largest they held.
        "--grpc-infer-allocation-pool-size=0",
        "--allow-gpu-metrics=false",
        "--metrics-config=summary_latencies=true",
        # A model whose stub was killed never finishes unloading: a stop then takes this long.
        "--exit-timeout-secs=5",
    ]


def _environment(environment: Path) -> Mapping[str, str]:
    libraries = site_packages(environment) / "nvidia_pytriton.libs"
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    }
    # The stub uses the environment of the first `python3` on PATH and ignores PYTHONPATH.
    return inherited | {
        "PATH": f"{environment / 'bin'}:{inherited.get('PATH', '')}",
        "LD_LIBRARY_PATH": str(libraries),
        # With an arena per thread, Triton keeps up to 256 MB of a large request that gRPC has received and freed.
        "MALLOC_ARENA_MAX": "1",
    }


def _shared_memory_prefix(home: Path) -> str:
    """Prefix of this home's shared memory regions, so that those of another server are not removed."""
    return f"rushes_{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}_"


def _free_shared_memory(home: Path) -> None:
    if _SHARED_MEMORY.is_dir():
        for region in _SHARED_MEMORY.glob(f"{_shared_memory_prefix(home)}*"):
            region.unlink(missing_ok=True)
