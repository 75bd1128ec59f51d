"""The local MLflow server: SQLite and a folder, on the loopback interface.

For one machine; teams set MLFLOW_TRACKING_URI.
"""

import os
import sys
from pathlib import Path

from rushes import processes
from rushes.processes import Server
from rushes.tracking.database import check_database, database_file, database_url

NAME = "mlflow"
PORT = 5000


def start_mlflow(*, home: Path, port: int | None = None) -> Server:
    """Starts the server and waits until it answers; a new database is migrated first, which takes tens of seconds.

    Raises:
        UserError: the port is in use, or the database is of another version of MLflow.
        ServiceError: it did not start.
    """
    check_database(home)
    folder = database_file(home).parent
    folder.mkdir(parents=True, exist_ok=True)
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
        str(folder / "artifacts"),
        "--serve-artifacts",
    ]
    return processes.start(
        name=NAME,
        argv=argv,
        # The job runner is for features that are not used here, and costs seconds and memory.
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        home=home,
        ports={"http": port},
        ready=_answers,
        change_ports="set RUSHES_MLFLOW_PORT",
        timeout=240,
    )


def tracking_url(home: Path) -> str:
    """MLFLOW_TRACKING_URI, or the address of the local server, whether it runs or not."""
    configured = os.environ.get("MLFLOW_TRACKING_URI")
    if configured:
        return configured.rstrip("/")
    server = processes.status(name=NAME, home=home)
    port = server.ports["http"] if server else int(os.environ.get("RUSHES_MLFLOW_PORT") or PORT)
    return f"http://{processes.LOOPBACK}:{port}"


def _answers(server: Server) -> bool:
    return processes.answers(f"{server.url('http')}/health")
