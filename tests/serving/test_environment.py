"""Triton's environment: where it can be, what it needs of this package, and that nothing half-made counts."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rushes.errors import ServiceError, UserError
from rushes.serving import environment, server
from rushes.serving.environment import can_run_triton, ensure_environment, is_ready, site_packages

SERVED = "import rushes.serving.request, rushes.serving.routing, rushes.serving.contract, rushes.errors; "


def test_it_can_be_switched_off_for_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_NO_TRITON", "1")
    assert can_run_triton() == "switched off by RUSHES_NO_TRITON"


@pytest.mark.parametrize(
    ("system", "machine", "libc", "python", "words"),
    [
        ("darwin", "arm64", ("", ""), (3, 11), "needs Linux on x86-64"),
        ("linux", "aarch64", ("glibc", "2.36"), (3, 11), "needs Linux on x86-64"),
        ("linux", "x86_64", ("glibc", "2.31"), (3, 11), "needs glibc >= 2.35, this system has glibc 2.31"),
        ("linux", "x86_64", ("", ""), (3, 11), "this system has another libc"),
        ("linux", "x86_64", ("glibc", "2.39"), (3, 14), "needs Python 3.11 or 3.12, this is 3.14"),
        ("linux", "x86_64", ("glibc", "2.35"), (3, 12), None),
    ],
)
def test_the_reason_names_what_is_needed_and_what_is_here(
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    libc: tuple[str, str],
    python: tuple[int, int],
    words: str | None,
) -> None:
    class Version(tuple[int, ...]):
        major, minor = python

    monkeypatch.delenv("RUSHES_NO_TRITON", raising=False)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(sys, "version_info", Version(python))
    reason = can_run_triton()
    assert reason is None if words is None else reason is not None and words in reason


def test_what_triton_imports_of_this_package_needs_numpy_and_av_only() -> None:
    heavy = "{'torch', 'pyarrow', 'fsspec', 'yaml', 'onnxruntime', 'scipy', 'rich', 'tenacity'}"
    code = f"import sys; {SERVED} print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


@pytest.mark.servers
def test_the_environment_imports_this_package_through_one_link(triton_possible: None, tmp_path: Path) -> None:
    (tmp_path / "rushes").symlink_to(Path(environment.__file__).parents[1])
    python = ensure_environment() / "bin" / "python"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {SERVED}"
    code += "import onnxruntime, numpy; print(numpy.__version__)"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert found.startswith("1.26")


@pytest.mark.servers
def test_a_python_process_that_lacks_a_library_is_noticed_before_triton_waits_for_it(
    triton_possible: None, tmp_path: Path
) -> None:
    """As with a Python that was built without libpython; here it is another library, which it has elsewhere."""
    tritonserver = site_packages(ensure_environment()) / "pytriton" / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = tritonserver / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, tmp_path)
    server._check_stub(stub, server._environment(ensure_environment()))
    with pytest.raises(UserError, match=r"cannot start \(libcudart\S+: cannot open .*libpython3.*RUSHES_NO_TRITON=1"):
        server._check_stub(tmp_path / stub.name, {"PATH": "/bin"})


@pytest.mark.servers
def test_an_environment_that_could_not_be_made_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / "broken.lock"
    lock.write_text(f"absent @ file://{tmp_path}/absent.whl --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(environment, "lock_file", lambda: lock)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ServiceError, match=r"(?s)Triton's environment: pip failed.*absent"):
        ensure_environment()
    assert not is_ready()
    assert [path.name for path in (tmp_path / "cache" / "rushes").iterdir() if path.is_dir()] == []
