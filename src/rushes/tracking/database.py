"""The schema of the local MLflow server's database, against the one that the installed MLflow reads.

MLflow refuses another schema only when its server starts, at the end of a long traceback.
"""

import contextlib
import re
import shlex
import sqlite3
import sys
from importlib import metadata, util
from pathlib import Path

from rushes.errors import UserError

_LINKS = re.compile(r"^revision\s*=\s*\W(\w+).*?^down_revision\s*=\s*\W?(\w+)", re.DOTALL | re.MULTILINE)


def database_file(home: Path) -> Path:
    """The database of a home's MLflow server; it need not exist."""
    return home / "mlflow" / "mlflow.db"


def database_url(home: Path) -> str:
    """Its URL, as MLflow takes it."""
    return f"sqlite:///{database_file(home)}"


def check_database(home: Path) -> None:
    """Checks that the installed MLflow reads the database of a home; one that is not there yet will be made.

    Raises:
        UserError: it is of an older MLflow, with the command that upgrades it; of a newer one; no database; or would
            lie elsewhere than in its home.
    """
    file = database_file(home)
    if odd := [sign for sign in "?%" if sign in str(file)]:
        raise UserError(
            f"mlflow: the folder {str(home)!r} holds {odd[0]!r}, which means something else in a database's URL: set "
            "RUSHES_HOME to one without it"
        )
    if not file.is_file() or not file.stat().st_size:
        return
    found, (newest, known) = _revision(file), _revisions()
    if found is None or found == newest:
        return
    installed = f"MLflow {metadata.version('mlflow')}"
    if found in known:
        command = f"{shlex.quote(sys.executable)} -m mlflow db upgrade {shlex.quote(database_url(home))}"
        raise UserError(
            f"mlflow: {file} was written by an MLflow older than {installed} here (schema {found}, expected "
            f"{newest}): copy the file as a backup, then run: {command}"
        )
    command = f"{shlex.quote(sys.executable)} -m pip install --upgrade mlflow"
    raise UserError(
        f"mlflow: {file} was written by an MLflow newer than {installed} here (schema {found}): run: {command} "
        "(or set RUSHES_HOME to another folder, to begin anew)"
    )


def _revision(file: Path) -> str | None:
    """The revision that Alembic notes in the database; None in one that MLflow has not filled yet."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if not connection.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchone():
                return None
            row = connection.execute("select version_num from alembic_version").fetchone()
            return str(row[0]) if row else None
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"mlflow: {file} cannot be read as a database ({error}): restore it, or move it away"
        ) from error


def _revisions() -> tuple[str, set[str]]:
    """The revision that the installed MLflow reads, and all that it knows.

    Read from the texts of its scripts: Alembic would execute them, which takes seconds.
    """
    package = util.find_spec("mlflow")
    assert package is not None and package.origin is not None, "mlflow is an installed distribution"
    scripts = (Path(package.origin).parent / "store" / "db_migrations" / "versions").glob("*.py")
    matches = (_LINKS.search(path.read_text()) for path in scripts)
    follows = {match[1]: match[2] for match in matches if match}
    (newest,) = follows.keys() - follows.values()
    return newest, set(follows)
