"""What every step does around its work: look for a finished output, do the work, publish it, report."""

import contextlib
import functools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rushes import plugins
from rushes.errors import RushesError, UserError, disk_error
from rushes.home import home_folder, open_store, take_store_settings
from rushes.journal import RUN, Journal, work_of
from rushes.progress import EventLog, NullProgress, Progress
from rushes.steps.identity import find_output, identify, libraries
from rushes.store import File, Manifest, Store, sha256_file

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the function that does a step's work is given."""

    folder: Path
    """For the files that it makes."""
    digest: str
    """Identifies the work; the same for all its retries."""
    store: Store
    progress: Progress


class Context:
    """What a step is given besides its inputs: the store, this machine's folder, and where to report."""

    def __init__(self, *, step: str) -> None:
        self.step = step
        self.home = home_folder()
        self.store: Store = open_store()
        events = os.environ.get("RUSHES_PROGRESS")
        self.log = EventLog(Path(events), step=step) if events else None
        self.journal = Journal(self.store, os.environ[RUN]) if os.environ.get(RUN) else None
        self.progress: Progress = self.log or NullProgress()
        self.started = time.monotonic()
        if self.log:
            self.log.emit("start")
        if self.journal:
            self.journal.add("start", step=step)

    def publish(
        self,
        out: Path,
        *,
        kind: str,
        digest: str,
        summary: Mapping[str, Any],
        inputs: Mapping[str, Manifest],
        files: Mapping[str, File] | None = None,
        cached: bool = False,
    ) -> Manifest:
        """Publishes the output of a step that is never answered from the store, and ends the step.

        Args:
            out: where the pointer goes.
            kind: kind of the manifest.
            digest: names the output; unlike other digests, it comes from the result.
            summary: what people and later steps read.
            inputs: manifests that were read.
            files: objects of the output.
            cached: report that no work was done.
        """
        manifest = Manifest(
            kind=kind,
            step=self.step,
            digest=digest,
            inputs=refs(inputs),
            config={},
            code="",
            files=files or {},
            summary=summary,
            versions=versions(),
        )
        self.store.publish(manifest)
        return self.done(manifest, out, cached=cached)

    def done(self, manifest: Manifest, out: Path, *, cached: bool) -> Manifest:
        """Writes the pointer to `out` and reports the end."""
        manifest.write(out)
        self.end(manifest.ref, cached=cached, summary=manifest.summary)
        return manifest

    def end(self, ref: str, *, cached: bool = False, summary: Mapping[str, Any] | None = None) -> None:
        """Reports the end; `ref` names what was made."""
        ended: dict[str, Any] = {"seconds": round(time.monotonic() - self.started, 2), "cached": cached, "ref": ref}
        if self.log:
            self.log.emit("end", **ended, summary=dict(summary or {}))
        if self.journal:
            self.journal.add("end", step=self.step, **ended)


def reported(step: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a step's failure an event, so that progress can show in one line what happened."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            take_store_settings()
            with work_of(_work_of(step, kwargs)):
                try:
                    return function(*args, **kwargs)
                except RushesError as error:
                    _report(step, str(error), error.exit_code)
                    raise
                except Exception as error:
                    message = disk_error(error)
                    if message is None:
                        _report(step, f"{type(error).__name__}: {error}", 1)
                        raise
                    _report(step, message, UserError.exit_code)
                    raise UserError(message) from error

        return wrapped

    return wrap


def _work_of(step: str, given: Mapping[str, Any]) -> str:
    """The partition that a step samples, or the model that it trains; a run has several of them."""
    if step in ("pretrain", "finetune") and "recipe" in given:
        name: str = given["recipe"].name
        return f"{name} from random weights" if given.get("init") == "random" else name
    return str(given.get("partition", ""))


def _report(step: str, message: str, exit_code: int) -> None:
    events, run = os.environ.get("RUSHES_PROGRESS"), os.environ.get(RUN)
    with contextlib.suppress(OSError):  # a full disk takes no event either; the exception still says it
        if events:
            EventLog(Path(events), step=step).emit("error", message=message, exit_code=exit_code)
    with contextlib.suppress(Exception):  # the store may be what failed
        if run:
            Journal(open_store(), run).add("error", step=step, message=message)


def run_step(
    step: str,
    *,
    kind: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Manifest],
    out: Path,
    build: Callable[[Job], Mapping[str, Any]],
    stands: Callable[[Store, Manifest], bool] = lambda store, made: True,
) -> Manifest:
    """Returns the finished output of this work, or does the work and publishes it.

    Args:
        step: name of the step, and of its module under rushes.steps.
        kind: kind of the manifest.
        config: plain data that the result depends on.
        inputs: manifests that the work reads.
        out: where the pointer goes.
        build: does the work and returns the manifest's summary.
        stands: whether a finished output need not be made again; by default, none need.
    """
    context = Context(step=step)
    work = identify(step, config=config, inputs=inputs)
    found = find_output(context.store, work, inputs=inputs)
    if found is not None and stands(context.store, found):
        return context.done(found, out, cached=True)
    with tempfile.TemporaryDirectory(prefix=f"rushes-{step}-") as folder:
        job = Job(folder=Path(folder), digest=work.digest, store=context.store, progress=context.progress)
        summary = build(job)
        files = {path.name: context.store.put(path) for path in sorted(job.folder.iterdir())}
    manifest = Manifest(
        kind=kind,
        step=step,
        digest=work.digest,
        inputs=refs(inputs),
        config=config,
        code=work.code,
        files=files,
        summary=summary,
        versions=libraries(step) | versions(),
    )
    context.store.publish(manifest)
    _forget_unfinished(context.store, work.digest)
    return context.done(manifest, out, cached=False)


def _forget_unfinished(store: Store, digest: str) -> None:
    """Removes the checkpoints of work that is published."""
    for name in store.names(f"checkpoints/{digest}"):
        store.remove(f"checkpoints/{digest}/{name}")


def refs(inputs: Mapping[str, Manifest]) -> dict[str, str]:
    """Name of each input to its ref: a manifest's lineage."""
    return {name: manifest.ref for name, manifest in inputs.items()}


def read_input(path: Path, kind: str) -> Manifest:
    """Reads a pointer that a step is given, checked to be of `kind`."""
    return Manifest.read(path, kind=kind)


def network_record(source: Manifest) -> dict[str, Any]:
    """What the config of a step says of the network that it takes from a backbone or a classifier (`plugins.record`).

    Raises:
        UserError: the network is not known here.
    """
    model = json.loads(open_store().checked(source.files["model.json"]).read_text())
    return plugins.record(backbone=model["backbone"])


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """Weights that training starts from; random ones by default."""

    field: str = ""
    """Field in which the user named them."""
    path: Path | None = None
    """A state dict of torch or safetensors, or a pointer."""
    manifest: Manifest | None = None
    """The pointer's manifest."""

    @cached_property
    def identity(self) -> str:
        """What a digest covers: the content of the pointer or of the file; empty for random weights."""
        if self.manifest is not None:
            return self.manifest.content
        return f"sha256:{sha256_file(self.path)}" if self.path is not None else ""

    @property
    def inputs(self) -> dict[str, Manifest]:
        """The earlier run as an input of the step."""
        return {"init": self.manifest} if self.manifest else {}

    def weights(self, store: Store) -> Path | None:
        """The file that holds them."""
        return store.checked(self.manifest.files["weights.safetensors"]) if self.manifest else self.path

    def __str__(self) -> str:
        return f"{self.field} {self.path}"


def read_start(path: str, field: str) -> InitialWeights:
    """Identifies the weights that a user names in `field` (none: random), without reading them.

    Raises:
        UserError: it cannot be read, or points to something other than a backbone or a classifier.
    """
    if not path:
        return InitialWeights()
    try:
        with Path(path).open("rb") as file:
            head = file.read(1)
    except OSError as error:
        raise UserError(f"{field}: {path!r} cannot be read ({error.strerror}): give a file of weights") from error
    manifest = Manifest.read(Path(path)) if head == b"{" else None
    if manifest is not None and manifest.kind not in ("backbone", "classifier"):
        raise UserError(f"{field}: {path!r} points to a {manifest.kind}; a backbone or a classifier has weights")
    return InitialWeights(field=field, path=Path(path), manifest=manifest)


def versions() -> dict[str, str]:
    """Versions that results may depend on."""
    names = ("rushes", "torch", "av", "numpy", "scikit-learn", "onnxruntime")
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def require_labels(labels: tuple[str, ...], *, need: str) -> None:
    """Raises UserError where footage has no labels, or one class only."""
    if len(labels) < 2:
        have = f"only {labels[0]!r}" if labels else "none"
        raise UserError(
            f"labels: {need} needs at least two classes, the footage has {have}: give --labels FILE.csv, class folders "
            "or --splits, and run `rushes sample` again"
        )
