"""Round every step: done once, published whole or not at all, and its failure said in one line."""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rushes.errors import RushesError, ServiceError, UserError
from rushes.progress import read_events
from rushes.steps.base import Job, reported, require_labels, run_step, versions
from rushes.steps.identity import identify
from rushes.store import Manifest, Store


class World:
    """A home, a store, a folder for temporary files and a listener."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(str(folder / "home" / "store"))
        self.out = folder / "out" / "pointer.json"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.builds = 0

    def events(self) -> list[dict[str, Any]]:
        return read_events(self.folder / "progress.jsonl")[0]

    def run(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Manifest] | None = None,
        work: Callable[[Path], None] | None = None,
    ) -> Manifest:
        def build(job: Job) -> Mapping[str, Any]:
            self.builds += 1
            self.store.write(f"checkpoints/{job.digest}/step-1.pt", b"unfinished")
            (job.folder / "model.json").write_text("{}")
            if work is not None:
                work(job.folder)
            return {"loss": 1.0}

        return run_step(
            "pretrain", kind="backbone", config=config or {"lr": 0.1}, inputs=inputs or {}, out=self.out, build=build
        )

    def published(self) -> list[str]:
        return self.store.names("steps/pretrain")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RUSHES_STORE", raising=False)
    monkeypatch.setenv("RUSHES_PROGRESS", str(tmp_path / "progress.jsonl"))
    world = World(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(world.temporary))
    return world


def manifest(digest: str = "d") -> Manifest:
    return Manifest(kind="footage", step="sample", digest=digest, inputs={}, config={}, code="", files={})


# Once ----------------------------------------------------------------------------------------------------------------


def test_work_is_done_once(world: World) -> None:
    first = world.run()
    world.out.unlink()
    second = world.run()
    assert world.builds == 1
    assert first == second == Manifest.read(world.out, kind="backbone")
    ends = [event for event in world.events() if event["event"] == "end"]
    assert [end["cached"] for end in ends] == [False, True]
    assert ends[1]["summary"] == {"loss": 1.0}
    assert list(world.temporary.iterdir()) == []


def test_another_config_or_input_is_other_work(world: World) -> None:
    refs = {
        world.run().ref,
        world.run(config={"lr": 0.2}).ref,
        world.run(inputs={"footage": manifest("a")}).ref,
        world.run(inputs={"footage": manifest("b")}).ref,
    }
    assert len(refs) == world.builds == 4


def test_the_ref_is_known_before_the_work(world: World) -> None:
    made = world.run(inputs={"footage": manifest("a")})
    assert made.ref == identify("pretrain", config={"lr": 0.1}, inputs={"footage": manifest("a")}).ref
    assert made.inputs == {"footage": "sample/a"}


def test_lost_bytes_are_made_again(world: World) -> None:
    made = world.run()
    world.store.path(made.files["model.json"]).unlink()
    assert world.run() == made
    assert world.builds == 2
    assert world.store.checked(made.files["model.json"]).read_text() == "{}"


def test_checkpoints_go_when_the_work_is_published_and_stay_until_then(world: World) -> None:
    def fail(folder: Path) -> None:
        raise RushesError("no")

    with pytest.raises(RushesError):
        world.run(work=fail)
    (digest,) = world.store.names("checkpoints")
    assert world.store.names(f"checkpoints/{digest}") == ["step-1.pt"]
    made = world.run()
    assert made.digest == digest
    assert world.store.names(f"checkpoints/{digest}") == []


# Failures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RushesError("a"), ValueError("b"), KeyboardInterrupt(), SystemExit(1)])
def test_failed_work_publishes_nothing_and_leaves_nothing_behind(world: World, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        assert list(world.temporary.iterdir()) == [folder]
        raise error

    with pytest.raises(type(error)):
        world.run(work=fail)
    assert world.published() == []
    assert not world.out.exists()
    assert list(world.temporary.iterdir()) == []
    world.run()
    assert world.builds == 2


def test_work_interrupted_while_it_is_stored_is_not_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(store: Store, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "put", fail)
        with pytest.raises(OSError, match="No space"):
            world.run()
    assert world.published() == []
    assert not world.out.exists()
    assert world.run() == Manifest.read(world.out)


def failing(error: Exception) -> Callable[[], None]:
    @reported("pretrain")
    def step() -> None:
        raise error

    return step


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")


WRAPPED = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
IN_WORKER = OSError("Caught OSError in DataLoader worker process 0.\nOriginal ...\n[Errno 28] No space left on device")


@pytest.mark.parametrize(
    ("error", "kind", "exit_code", "message"),
    [
        (UserError("labels: none: give some"), UserError, 2, "labels: none: give some"),
        (ServiceError("mlflow: down"), ServiceError, 1, "mlflow: down"),
        (ValueError("odd"), ValueError, 1, "ValueError: odd"),
        (FileNotFoundError(2, "No such file"), FileNotFoundError, 1, "FileNotFoundError: [Errno 2] No such file"),
        (FULL, UserError, 2, "No space left on device at /data/x: free space, or set RUSHES_HOME"),
        (OSError(errno.EROFS, "Read-only file system"), UserError, 2, "Read-only file system: free space, or set"),
        (PermissionError(errno.EACCES, "Permission denied", "/y"), UserError, 2, "Permission denied at /y: "),
        (WRAPPED, UserError, 2, "No space left on device: free"),
        (IN_WORKER, UserError, 2, "No space left on device: free"),
    ],
)
def test_a_failure_is_an_event_with_its_exit_code(
    world: World, error: Exception, kind: type[Exception], exit_code: int, message: str
) -> None:
    with pytest.raises(kind) as caught:
        failing(error)()
    (event,) = world.events()
    assert (event["event"], event["step"], event["exit_code"]) == ("error", "pretrain", exit_code)
    assert event["message"].startswith(message)
    assert "\n" not in event["message"]
    if isinstance(caught.value, RushesError):
        assert caught.value.exit_code == exit_code
        assert str(caught.value) == event["message"]


def test_a_disk_too_full_for_the_event_still_gives_the_clear_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise FULL

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UserError, match="No space left on device at /data/x"):
        failing(FULL)()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
def test_a_real_full_device_is_said_so(world: World) -> None:
    @reported("pretrain")
    def step() -> None:
        with Path("/dev/full").open("wb") as file:
            file.write(b"x")

    with pytest.raises(UserError, match="No space left on device"):
        step()
    assert world.events()[0]["exit_code"] == 2


def test_a_step_that_succeeds_reports_no_error_and_keeps_its_name(world: World) -> None:
    @reported("pretrain")
    def step(*, number: int) -> int:
        """What it does."""
        return number

    assert step(number=3) == 3
    assert (step.__name__, step.__doc__) == ("step", "What it does.")
    assert world.events() == []


def test_nobody_need_listen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUSHES_PROGRESS")
    world.run()
    with pytest.raises(UserError):
        failing(UserError("x"))()
    assert world.events() == []


# Small things --------------------------------------------------------------------------------------------------------


def test_labels_are_required_in_words(world: World) -> None:
    require_labels(("a", "b"), need="fine-tuning")
    with pytest.raises(UserError, match="fine-tuning needs at least two classes, the footage has only 'a': give"):
        require_labels(("a",), need="fine-tuning")
    with pytest.raises(UserError, match="the footage has none"):
        require_labels((), need="evaluation")


def test_versions_are_plain_text() -> None:
    found = versions()
    assert {"python", "torch", "numpy"} <= set(found)
    assert json.loads(json.dumps(found)) == found
