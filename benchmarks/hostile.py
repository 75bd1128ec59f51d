"""An endpoint under hostile requests: what a decoder costs, what other clients notice, and what stays afterwards.

    python -m benchmarks.hostile bombs          # seconds and memory under each file
    python -m benchmarks.hostile others         # other clients' times meanwhile
    python -m benchmarks.hostile lasting        # memory after 3,000 mixed requests

Each prints a table for `benchmarks/hostile.md`. Needs Triton; the model is a small random network.
"""

import contextlib
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import psutil
import torch
import tyro
from torch import nn

from benchmarks import _bombs
from benchmarks._runs import processor
from benchmarks._watch import watching
from rushes.errors import RushesError
from rushes.ledger import Champion, Ledger, LedgerEntry, now
from rushes.processes import Server
from rushes.serving.bundle import FILES
from rushes.serving.client import InferenceProtocol, predict
from rushes.serving.export import BundleSpec, export_bundle
from rushes.serving.graph import ServingGraph
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address, start_triton, stop_triton
from rushes.store import Manifest, Store

ENDPOINT = "hostile"
GARBAGE = 300 << 20
Draw = Callable[[], bytes]


def bombs(*, port: int = 24000, only: str = "") -> None:
    """Each file once, on a server of its own: what comes back, when, and the memory that one process came to hold."""
    files: Mapping[str, Draw] = {
        **{f"table of {name}": draw for name, draw in _bombs.TABLES.items()},
        "edits, 12 MB": _bombs.repeated_edits,
        "4096 x 2304, 60 s": _bombs.wide_film,
        "the same without a header": _bombs.wide_stream,
        "300 MB of garbage": lambda: bytes(GARBAGE),
    }
    print("| file | bytes | seconds | a decoder's peak | Triton before, after | answer |\n|---|---|---|---|---|---|")
    for name, draw in files.items():
        if only in name:
            _print_bomb(name, draw(), port)


def _print_bomb(name: str, data: bytes, port: int) -> None:
    with endpoint(port) as server:
        client = Client(server)
        for _ in range(20):
            client.ask(_bombs.sound_film())
        before = memory(server)
        with watching(Watch(server)) as watch:
            began = time.monotonic()
            words = client.ask(data, timeout=120.0)
            seconds = time.monotonic() - began
        time.sleep(1)
        after = memory(server)
        sizes = f"{watch.peak / 1e6:,.0f} MB | {before / 1e6:,.0f} MB, {after / 1e6:,.0f} MB"
        print(f"| {name} | {len(data):,} | {seconds:.2f} | {sizes} | {words} |", flush=True)


def others(*, port: int = 24000, seconds: float = 20.0, attackers: int = 3) -> None:
    """Times of two clients with small videos, alone and while others send dear files without a pause."""
    dear = {
        "4096 x 2304, 60 s": [_bombs.wide_film()],
        "the same without a header": [_bombs.wide_stream()],
        "within the budget, 4096 x 2304 for 15 s": [_bombs.wide_film(seconds=15)],
        "every table": [draw() for draw in _bombs.TABLES.values()],
        "20 MB of garbage": [bytes(20 << 20)],
    }
    print("| meanwhile | requests | median | p99 | times alone |\n|---|---|---|---|---|", flush=True)
    with endpoint(port) as server:
        _times(server, [], seconds=3, attackers=0)
        alone = _times(server, [], seconds=seconds, attackers=0)
        _print_times("nothing", alone, alone)
        for name, files in dear.items():
            _print_times(name, _times(server, files, seconds=seconds, attackers=attackers), alone)
        again = _times(server, [], seconds=seconds, attackers=0)
        _print_times("nothing, again", again, alone)


def _print_times(name: str, times: list[float], alone: list[float]) -> None:
    p99 = np.quantile(times, 0.99)
    row = [name, str(len(times)), f"{np.median(times) * 1e3:.0f} ms", f"{p99 * 1e3:.0f} ms"]
    print(f"| {' | '.join([*row, f'{p99 / np.quantile(alone, 0.99):.2f}'])} |", flush=True)


def _times(server: Server, files: list[bytes], *, seconds: float, attackers: int, clients: int = 2) -> list[float]:
    times = list[float]()
    film = _bombs.sound_film()

    def ask(until: float) -> None:
        client = Client(server)
        while time.monotonic() < until:
            began = time.monotonic()
            client.ask(film)  # without an answer, its time limit counts
            times.append(time.monotonic() - began)
            time.sleep(0.05)

    with _attacked(server, files, attackers) if attackers else contextlib.nullcontext():
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, [until] * clients))
    return times


@contextlib.contextmanager
def _attacked(server: Server, files: list[bytes], attackers: int) -> Iterator[None]:
    """Clients in a process of its own, at a low priority: they are other machines', and so is what they cost."""
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    process = spawn.Process(target=_attack, args=(server, files, attackers, begun), daemon=True)
    process.start()
    begun.wait()
    time.sleep(1.0)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _attack(server: Server, files: list[bytes], attackers: int, begun: Event) -> None:
    os.nice(10)

    def attack(number: int) -> None:
        client = Client(server)
        while True:
            client.ask(files[number % len(files)], timeout=5.0)
            number += 1

    begun.set()
    with ThreadPoolExecutor(attackers) as pool:
        list(pool.map(attack, range(attackers)))


def lasting(*, port: int = 24000, requests: int = 3000, clients: int = 4) -> None:
    """Memory of Triton and its processes before and after many requests, one in four of them hostile."""
    hostile = [draw() for draw in _bombs.TABLES.values()]
    hostile += [b"", bytes(1 << 20), _bombs.sound_film()[:1500], bytes(40 << 20)]
    hostile += [_bombs.wide_film(seconds=2), _bombs.wide_film(seconds=60)]
    films = [_bombs.sound_film(frames=frames) for frames in (10, 100, 500)]
    with endpoint(port) as server:

        def run(first: int, count: int) -> None:
            def ask(number: int) -> None:
                film = hostile[number // 4 % len(hostile)] if number % 4 == 0 else films[number % len(films)]
                Client(server, "http" if number % 3 == 0 else "grpc").ask(film)

            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(ask, range(first, first + count)))

        print("| requests | memory | of the first |\n|---|---|---|", flush=True)
        run(0, 300)
        time.sleep(2)
        first = memory(server)
        print(f"| 300 | {first / 1e6:,.0f} MB | |", flush=True)
        for done in range(300, requests + 300, requests // 5):
            run(done, requests // 5)
            time.sleep(2)
            held = memory(server)
            print(f"| {done + requests // 5} | {held / 1e6:,.0f} MB | {held / first - 1:+.1%} |", flush=True)


# The server ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """Asks the endpoint."""

    server: Server
    protocol: InferenceProtocol = "grpc"

    def ask(self, video: bytes, *, timeout: float = 60.0) -> str:
        """What comes back, in short."""
        url = address(self.server, self.protocol)
        try:
            predict(video, endpoint=ENDPOINT, url=url, protocol=self.protocol, timeout=timeout)
        except RushesError as error:
            return re.sub(r".*video of \d+ bytes: |.*refused by the server: ", "", str(error))[:90]
        return "answered"


class Net(nn.Module):
    """A small network of frames, over clips."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(3, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """`[N, 3, T, S, S]` to `[N, 16]`."""
        pooled: torch.Tensor = self.layers(clips)
        return pooled


@contextlib.contextmanager
def endpoint(port: int) -> Iterator[Server]:
    """A Triton of its own, with one endpoint."""
    with tempfile.TemporaryDirectory() as folder:
        home, store = Path(folder) / "home", Store(str(Path(folder) / "store"))
        _promote(store, Path(folder))
        server = start_triton(home=home, port=port)
        try:
            reconcile(home=home, store=store, server=address(server))
            yield server
        finally:
            stop_triton(home=home)


def _promote(store: Store, folder: Path) -> None:
    torch.manual_seed(0)
    graph = ServingGraph(net=Net(), head=nn.Linear(16, 5), mean=(0.45, 0.4, 0.5), std=(0.22, 0.25, 0.2))
    spec = BundleSpec(
        labels=("clap", "hug", "kick", "sit", "wave"),
        clips=3,
        clip_frames=16,
        crop=32,
        short_side=36,
        fps=25.0,
        classifier="finetune/random",
    )
    bundle, _ = export_bundle(graph, folder / "bundle", golden=_bombs.sound_film(frames=30), spec=spec)
    files = {name: store.put(bundle.folder / name) for name in FILES}
    manifest = Manifest(kind="bundle", step="export", digest="0" * 64, inputs={}, config={}, code="", files=files)
    store.publish(manifest)
    champion = Champion(version=1, bundle=manifest.ref, onnx_sha256=files["model.onnx"].sha256)
    entry = LedgerEntry(
        number=1,
        endpoint=ENDPOINT,
        decision="promoted",
        challenger=champion,
        champion=champion,
        reason="benchmark",
        time=now(),
    )
    assert Ledger(store, ENDPOINT).append(entry)


# Memory --------------------------------------------------------------------------------------------------------------


def memory(server: Server) -> int:
    """Bytes of Triton and its processes together; shared pages are counted once."""
    return sum(_field(process, "smaps_rollup", "Pss") for process in _family(server))


def _family(server: Server) -> list[psutil.Process]:
    triton = psutil.Process(server.pid)
    return [triton, *triton.children(recursive=True)]


def _field(process: psutil.Process, file: str, name: str) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        text = Path(f"/proc/{process.pid}/{file}").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


class Watch:
    """The most memory that one of Triton's child processes held."""

    def __init__(self, server: Server) -> None:
        self.server, self.peak = server, 0
        self.over = threading.Event()
        for process in _family(server):
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # resets the high water mark

    def run(self) -> None:
        """Looks until it is over."""
        while not self.over.wait(0.02):
            self.peak = max([self.peak, *(_field(child, "status", "VmHWM") for child in _family(self.server)[1:])])


def main() -> None:
    """Command line."""
    torch.set_num_threads(1)
    print(f"{psutil.cpu_count()} cores of {processor()}")
    tyro.extras.subcommand_cli_from_dict({"bombs": bombs, "others": others, "lasting": lasting})


if __name__ == "__main__":
    main()
