"""The local MLflow server: SQLite and a folder, on the loopback interface, closed to other pages in a browser.

For one machine; teams set MLFLOW_TRACKING_URI.
"""

import os
import sys
from importlib import metadata
from pathlib import Path

from rushes import processes
from rushes.errors import UserError
from rushes.processes import Server
from rushes.tracking.database import check_database, database_file, database_url
from rushes.tracking.same_origin import APP_NAME

NAME = "mlflow"
PORT = 5000
CLOSED = (f"--app-name={APP_NAME}", "--allowed-hosts=127.0.0.1,127.0.0.1:*,localhost,localhost:*")
"""No page of another origin (`rushes.tracking.same_origin`), and no name that another DNS server made this machine's.
Any port will do, since it may be forwarded.
"""
_SETTINGS = {
    # The job runner is for features that are not used here, and costs seconds and memory.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
}


def start_mlflow(*, home: Path, port: int | None = None) -> Server:
    """Starts the server and waits until it answers; a new database is migrated first, which takes tens of seconds.

    One that an earlier version started open to other pages is stopped first.

    Raises:
        UserError: the port is in use, the database is of another version of MLflow, or this package has to be
            installed again.
        ServiceError: it did not start.
    """
    port = port or int(os.environ.get("RUSHES_MLFLOW_PORT") or PORT)
    argv = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        processes.LOOPBACK,
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        database_url(home),
        "--artifacts-destination",
        str(database_file(home).with_name("artifacts")),
        "--serve-artifacts",
        *CLOSED,
        f"--cors-allowed-origins=http://127.0.0.1:{port},http://localhost:{port}",
    ]
    return processes.start(
        name=NAME,
        argv=argv,
        env=os.environ | _SETTINGS,
        home=home,
        ports={"http": port},
        ready=_answers,
        outdated=lambda server: not is_closed(server),
        prepare=lambda: _prepare(home),
        change_ports="set RUSHES_MLFLOW_PORT",
        timeout=240,
    )


def is_closed(server: Server) -> bool:
    """Whether a running server refuses other pages; those of earlier versions do not."""
    return set(CLOSED) <= set(server.argv)


def tracking_url(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or the address of the local server, whether it runs or not."""
    configured = os.environ.get("MLFLOW_TRACKING_URI")
    if configured:
        return configured.rstrip("/")
    server = processes.status(name=NAME, home=home)
    port = server.ports["http"] if server else int(os.environ.get("RUSHES_MLFLOW_PORT") or PORT)
    return f"http://{processes.LOOPBACK}:{port}"


def _prepare(home: Path) -> None:
    """Checks the database, which another start may be migrating before, and that MLflow finds its entry point."""
    check_database(home)
    database_file(home).parent.mkdir(parents=True, exist_ok=True)
    if APP_NAME not in metadata.entry_points(group="mlflow.app").names:
        raise UserError("mlflow: this package was installed before it had an application for MLflow: `make install`")


def _answers(server: Server) -> bool:
    return processes.answers(f"{server.url('http')}/health")
