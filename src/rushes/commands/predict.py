"""`rushes predict`: the actions in videos."""

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
from rushes.serving.client import predict as request_prediction
from rushes.serving.client import routed_bundle
from rushes.serving.environment import can_run_triton
from rushes.serving.prediction import Prediction
from rushes.serving.repository import deployed_endpoints
from rushes.serving.server import address, triton_status


def predict(
    videos: Sequence[Path], *, endpoint: str, offline: bool, protocol: Literal["grpc", "http"], top: int, as_json: bool
) -> int:
    """Prints one prediction per video, by the endpoint or by the same graph in this process."""
    if not videos:
        raise UserError("videos: none given: rushes predict FILE ...")
    for video in videos:
        if not video.is_file():
            raise UserError(f"videos: {video} is not a file")
    home = home_folder()
    answer = predictor(home, endpoint=choose_endpoint(home, endpoint), offline=offline, protocol=protocol)
    for video in videos:
        show(video, answer(video), top=top, as_json=as_json)
    return 0


def choose_endpoint(home: Path, name: str) -> str:
    """The endpoint with this name, or the only one if the name is empty.

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


def predictor(
    home: Path, *, endpoint: str, offline: bool, protocol: Literal["grpc", "http"] = "grpc"
) -> Callable[[Path], Prediction]:
    """Predicts for a video by Triton, or by the routed bundle in this process if `offline` or if Triton cannot run."""
    if offline or can_run_triton() is not None:
        bundle, version = routed_bundle(home=home, endpoint=endpoint)
        graph = InProcessModel(bundle, version=version)
        return lambda video: graph.predict(video.read_bytes())
    server = triton_status(home=home)
    if server is None:
        raise UserError("Triton is not running: start it with `rushes up`, or use --offline")
    return lambda video: request_prediction(video, endpoint=endpoint, url=address(server, protocol), protocol=protocol)


def show(video: Path, answer: Prediction, *, top: int, as_json: bool) -> None:
    """Prints a prediction as a table, or as one line of JSON."""
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
