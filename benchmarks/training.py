"""What a training step costs: bf16 against fp32, and two processes that share a batch against two that do not.

    python benchmarks/training.py --out benchmarks/training.md

Input is synthetic, in memory, so that only computing is measured. Both sides of a ratio run in turn, round by round, on
the same cores; figures are medians over rounds. The cores should have nothing else to do.
"""

import argparse
import os
import platform
import statistics
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from rushes.config import PretrainConfig
from rushes.pretext import make_task
from rushes.recipes import load_recipe
from rushes.training.optimizer import make_optimizer
from rushes.training.precision import Precision, autocast
from rushes.training.pretext import PretextNet
from rushes.training.ranks import Ranks, joined

MODELS = ("pace-r2plus1d", "vcop-r3d", "vcop-r2plus1d", "arrow-of-time-r3d", "o3n", "opn", "shuffle-and-learn")
CPU = torch.device("cpu")


class Steps:
    """A network with its optimiser and one batch, which it trains on again and again."""

    def __init__(self, config: PretrainConfig, *, batch: int, ranks: Ranks | None = None) -> None:
        torch.manual_seed(0)
        self.task = make_task(config.task, config.options)
        shape = (batch, self.task.elements, config.clip_frames, config.crop * 3 // 2, config.crop)
        self.clips = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.labels = torch.randint(0, self.task.classes, (batch,))
        net = PretextNet(self.task, backbone=config.backbone).train()
        self.net = ranks.wrap(net, CPU) if ranks else net
        self.optimizer = make_optimizer(net, config.optimizer)

    def seconds(self, precision: Precision = "fp32") -> float:
        """Of one step."""
        began = time.perf_counter()
        with autocast(precision, CPU):
            loss = self.task.loss(self.net(self.clips), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return time.perf_counter() - began


def precisions(rounds: int) -> list[str]:
    """A row for each model."""
    lines = [
        "| model, `--size cpu` | batch | fp32, ms a step | bf16, ms a step | times faster |",
        "|---|---|---|---|---|",
    ]
    torch.set_num_threads(1)
    for model in MODELS:
        config = load_recipe(model, size="cpu").pretrain
        steps = Steps(config, batch=config.batch)
        steps.seconds(), steps.seconds("bf16")
        pairs = [(steps.seconds(), steps.seconds("bf16")) for _ in range(rounds)]
        before, after = (1000 * statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        lines.append(f"| {model} | {config.batch} | {before:.0f} | {after:.0f} | {ratio:.2f} |")
    return lines


def _worker(number: int, together: bool, port: int, model: str, steps: int, results: Any) -> None:
    """One of two processes, with a core each: alone with half a batch, or sharing the batch."""
    torch.set_num_threads(1)
    config = load_recipe(model, size="cpu").pretrain
    names = {"RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": number, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"}
    with joined() as ranks:  # both kinds, so that they begin together
        made = Steps(config, batch=config.batch // 2, ranks=ranks if together else None)
        for _ in range(2):
            made.seconds()
        ranks.wait()
        began = time.perf_counter()
        for _ in range(steps):
            made.seconds()
        results.put(steps * config.batch // 2 / (time.perf_counter() - began))
        ranks.wait()


def clips_per_second(model: str, *, together: bool, steps: int, port: int) -> float:
    """Tuples per second of both processes."""
    context = get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_worker, args=(n, together, port, model, steps, results)) for n in range(2)]
    for process in processes:
        process.start()
    total = sum(results.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def sharing(rounds: int, steps: int) -> list[str]:
    """A row for each of some models."""
    lines = [
        "| model, `--size cpu` | two apart, tuples a second | two that share a batch | ratio |",
        "|---|---|---|---|",
    ]
    for model in ("pace-r2plus1d", "vcop-r3d", "arrow-of-time-r3d"):
        pairs = []
        for turn in range(rounds):
            apart, together = (
                clips_per_second(model, together=kind, steps=steps, port=29500 + 2 * turn + kind) for kind in (0, 1)
            )
            pairs.append((apart, together))
        before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(other / one for one, other in pairs)
        lines.append(f"| {model} | {before:.1f} | {after:.1f} | {ratio:.2f} |")
    return lines


def main() -> None:
    """Measures and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    parts = [
        "# Training steps",
        "## bf16 against fp32, one core",
        "\n".join(precisions(arguments.rounds)),
        "## Two processes that share a batch, one core each",
        "\n".join(sharing(arguments.rounds, arguments.steps)),
        f"Medians of {arguments.rounds} rounds. `python benchmarks/training.py --rounds {arguments.rounds} --steps "
        f"{arguments.steps} --out FILE`, {os.cpu_count()} cores of {platform.machine()}, torch {torch.__version__}, "
        f"python {platform.python_version()}.",
    ]
    arguments.out.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
