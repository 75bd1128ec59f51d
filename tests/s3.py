"""A server that speaks S3 (moto's), as a process that notes what it serves.

python -m tests.s3 PORT LOG
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec


@dataclass(frozen=True)
class S3:
    """The server, and the environment that leads to it."""

    url: str
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def served(self) -> list[dict[str, Any]]:
        """What was answered so far: time at which it was asked for, method, path, range, bytes."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def sent(self, *, since: float, until: float) -> int:
        """Bytes of all answers to a GET of this time."""
        found = (answer for answer in self.served() if answer["method"] == "GET")
        return sum(answer["bytes"] for answer in found if since <= answer["time"] <= until)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[S3]:
    """Starts the server; its log lies in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log, words = f"http://127.0.0.1:{port}", folder / "s3.jsonl", folder / "s3.log"
    log.touch()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with words.open("w") as file:
        command = [sys.executable, "-m", "tests.s3", str(port), str(log)]
        server = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        while True:
            assert server.poll() is None, words.read_text()
            try:
                urllib.request.urlopen(url)
                break
            except OSError:
                time.sleep(0.1)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # they lead to an earlier test's server
        yield S3(url, log)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


class _Noted:
    """A WSGI application that appends a line to a log for each answer, and creates objects one at a time.

    Of several clients that create an object at once, S3 lets one win; moto looks first and writes then.
    """

    def __init__(self, app: Any, log: str) -> None:
        self.app, self.creating = app, threading.Lock()
        self.log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        began, count = time.time(), 0
        with self.creating if "HTTP_IF_NONE_MATCH" in environ else contextlib.nullcontext():
            answer = self.app(environ, start_response)
        for chunk in answer:
            count += len(chunk)
            yield chunk
        note = {
            "time": began,
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"],
            "range": environ.get("HTTP_RANGE", ""),
            "bytes": count,
        }
        os.write(self.log, (json.dumps(note) + "\n").encode())


def _serve(port: int, log: str) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    app = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", port, _Noted(app, log), threaded=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
