"""Small records that are damaged are named, whatever their bytes are; and so is storage that cannot hold them."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rushes.cli import main
from rushes.errors import UserError, disk_error
from rushes.journal import Journal
from rushes.ledger import Ledger
from rushes.serving.routing import FILE, Routing
from rushes.store import Manifest, Store

plain = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))
damaged = st.one_of(st.binary(max_size=60), plain.map(lambda value: json.dumps(value).encode()))


@given(content=damaged)
@example(content=b"")
@example(content=b"{}")
@example(content=b"[" * 100_000)
@example(content=b"\xff\xfe")
def test_a_damaged_record_is_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    base = tmp_path_factory.getbasetemp()
    store = Store(str(base / "store"))
    store.write("ledger/e/000001.json", content)
    store.write("runs/r/1-pin.json", content)
    (base / FILE).write_bytes(content)
    for name, read in (
        ("ledger/e/000001.json", Ledger(store, "e").last),
        ("ledger/e/000001.json", Ledger(store, "e").entries),
        (FILE, lambda: Routing.read(base / FILE)),
        (FILE, lambda: Manifest.read(base / FILE)),
    ):
        with pytest.raises(UserError, match=name):
            read()
    try:
        assert all(isinstance(event, dict) for event in Journal(store, "r").events())
    except UserError as error:
        assert "runs/r/1-pin.json" in str(error)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_storage_without_locks_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def refuses(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)  # no file system here refuses locks
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    assert main(["down"]) == 2
    line = " ".join(capsys.readouterr().err.split())
    assert line.startswith(f"rushes: {os.strerror(number)}: this storage has no file locks") and "RUSHES_HOME" in line


def test_storage_without_hard_links_is_named() -> None:
    error = OSError(errno.EPERM, "Operation not permitted", "/mnt/a", None, "/mnt/b")
    assert "at /mnt/b: this storage has no file locks or no hard links" in str(disk_error(error))
    assert disk_error(OSError(errno.EPERM, "Operation not permitted", "/mnt/a")) is None


@pytest.mark.skipif(os.getuid() != 0, reason="another user's id takes root")
def test_a_user_without_a_home_and_without_an_entry_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    code = (
        "import os, pwd\nfrom rushes.errors import UserError\n"
        "from rushes.serving.environment import environment_folder\n"
        "os.setgid(54321); os.setuid(54321)  # after the imports: Python itself may be root's\n"
        "try:\n    environment_folder()\nexcept UserError as error:\n    print(error)\n"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tmp_path)
    said = "HOME: not set, and user 54321 has no entry in passwd: set HOME to a folder that it may write to"
    assert done.stdout.strip() == said, done.stderr[-2000:]
