"""`rushes predict`: what happens in these videos?"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rich.markup import escape
from rich.table import Table

from rushes.console import console
from rushes.errors import UserError
from rushes.home import home_folder
from rushes.serving.bundle import InProcessModel
from rushes.serving.client import predict as ask
from rushes.serving.client import routed_bundle
from rushes.serving.environment import can_run_triton
from rushes.serving.prediction import Prediction
from rushes.serving.repository import deployed_endpoints
from rushes.serving.server import address, triton_status


def predict(
    videos: Sequence[Path], *, endpoint: str, offline: bool, protocol: Literal["grpc", "http"], top: int, as_json: bool
) -> int:
    """Asks the endpoint, or the same graph here, and prints an answer a video."""
    if not videos:
        raise UserError("videos: none given: rushes predict FILE ...")
    for video in videos:
        if not video.is_file():
            raise UserError(f"videos: {video} is not a file")
    home = home_folder()
    answer = answerer(home, endpoint=the_endpoint(home, endpoint), offline=offline, protocol=protocol)
    for video in videos:
        show(video, answer(video), top=top, as_json=as_json)
    return 0


def the_endpoint(home: Path, name: str) -> str:
    """The endpoint asked for, or the only one.

    Raises:
        UserError: it is not served here, or there are several.
    """
    known = deployed_endpoints(home)
    if not known:
        raise UserError(f"endpoint: nothing is served from {home}: run `rushes demo` or `rushes run` first")
    if name and name not in known:
        raise UserError(f"endpoint: {name!r} is not served; one of {', '.join(known)}")
    if not name and len(known) > 1:
        raise UserError(f"endpoint: several are served: give --endpoint, one of {', '.join(known)}")
    return name or known[0]


def answerer(
    home: Path, *, endpoint: str, offline: bool, protocol: Literal["grpc", "http"] = "grpc"
) -> Callable[[Path], Prediction]:
    """What answers a video: Triton, or the routed bundle in this process where asked for or where Triton cannot run."""
    if offline or can_run_triton() is not None:
        bundle, version = routed_bundle(home=home, endpoint=endpoint)
        graph = InProcessModel(bundle, version=version)
        return lambda video: graph.predict(video.read_bytes())
    server = triton_status(home=home)
    if server is None:
        raise UserError("Triton is not running: start it with `rushes up`, or ask with --offline")
    return lambda video: ask(video, endpoint=endpoint, url=address(server, protocol), protocol=protocol)


def show(video: Path, answer: Prediction, *, top: int, as_json: bool) -> None:
    """Prints an answer as a table, or as one line of JSON."""
    if as_json:
        console.print(json.dumps({"video": str(video), **answer.to_record()}), markup=False, soft_wrap=True)
        return
    console.print(
        f"[bold]{escape(video.name)}[/]  version {answer.version}, {answer.served_by}, request {answer.request_id[:8]}"
    )
    table = Table.grid(padding=(0, 2))
    for label, probability in answer.top(top):
        bar = "█" * round(20 * probability)
        table.add_row(f"  {escape(label)}", f"{100 * probability:5.1f} %", f"[cyan]{bar}[/]")
    console.print(table)
