"""A database of another MLflow: one line with the command that helps, before any server starts."""

import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rushes import processes
from rushes.errors import UserError
from rushes.tracking import database
from rushes.tracking.database import check_database, database_file, database_url
from rushes.tracking.server import NAME, start_mlflow


@pytest.fixture(scope="module")
def revisions() -> list[str]:
    """Those of the installed MLflow, oldest first, as Alembic itself orders them."""
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def made(home: Path, revision: str) -> Path:
    """A database of MLflow's own making, at a revision."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config, create_sqlalchemy_engine
    from mlflow.store.tracking.dbmodels.initial_models import Base

    database_file(home).parent.mkdir(parents=True)
    engine = create_sqlalchemy_engine(database_url(home))  # type: ignore[no-untyped-call]
    Base.metadata.create_all(engine)
    engine.dispose()
    command.upgrade(_get_alembic_config(database_url(home)), revision)  # type: ignore[no-untyped-call]
    return home


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, revisions: list[str]) -> Path:
    return made(tmp_path_factory.mktemp("older"), revisions[-4])


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind((processes.LOOPBACK, 0))
        port = probe.getsockname()[1]
    yield port


def test_the_revisions_are_those_that_alembic_finds(revisions: list[str]) -> None:
    assert database._revisions() == (revisions[-1], set(revisions))


def test_a_home_without_a_database_is_fine(tmp_path: Path) -> None:
    check_database(tmp_path)
    database_file(tmp_path).parent.mkdir()
    database_file(tmp_path).touch()
    check_database(tmp_path)
    for name, sign in (("what?", "'\\?'"), ("p%41", "'%'")):
        with pytest.raises(UserError, match=f"holds {sign}, which means something else in a database's URL: set"):
            check_database(tmp_path / name)


@pytest.mark.servers
def test_an_older_database_is_refused_with_the_command_that_upgrades_it(
    older: Path, tmp_path: Path, revisions: list[str], free_port: int
) -> None:
    home = tmp_path / "it's mine; $5 (ü)"
    shutil.copytree(older, home)
    with pytest.raises(UserError) as caught:
        start_mlflow(home=home, port=free_port)
    assert processes.status(name=NAME, home=home) is None
    message = str(caught.value)
    assert "\n" not in message and f"(schema {revisions[-4]}, expected {revisions[-1]})" in message
    command = re.search(r"then run: (.*)", message)
    assert command is not None
    subprocess.run(shlex.split(command[1]), check=True, capture_output=True)
    try:
        assert start_mlflow(home=home, port=free_port).ports == {"http": free_port}
    finally:
        processes.stop(name=NAME, home=home)


def test_a_newer_database_and_one_that_is_none_are_refused(older: Path, tmp_path: Path) -> None:
    shutil.copytree(older, tmp_path / "newer")
    file = database_file(tmp_path / "newer")
    with sqlite3.connect(file) as connection:
        connection.execute("update alembic_version set version_num = 'ffffffffffff'")
    connection.close()
    with pytest.raises(
        UserError, match=r"newer than MLflow .* \(schema ffffffffffff\): run: .*pip install --upgrade mlflow"
    ):
        check_database(tmp_path / "newer")
    file.write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match=r"mlflow\.db cannot be read as a database \(file is not a database\): restore"):
        check_database(tmp_path / "newer")
