"""Fixtures that every test may use."""

import gc
import inspect
import os
import sys
from collections.abc import Generator, Iterator
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.s3 import S3, running

# Shared machines are slow at times: how long an example takes proves nothing.
settings.register_profile("rushes", deadline=None)
settings.load_profile("rushes")


def _callers(context: int = 1) -> list[inspect.FrameInfo]:
    """As `inspect.stack`, without the sources.

    kfp asks for its caller's name 73 times per pipeline. Under pytest, with its deep stack and some thousand modules,
    looking up the modules and sources of all frames each time makes a compilation of .2 s one of seconds.
    """
    frame, found = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back  # type: ignore[assignment]  # the first has none
    return found


inspect.stack = _callers

# Sockets of multiprocessing lie in a folder that is made once per process: now, and not by a test that sets TMPDIR to a
# path that is too long for a socket, after which no later test could start a process.
get_temp_dir()

# Decoders per endpoint: starting each takes two processes and half a second of a core, and tests load many models.
os.environ.setdefault("RUSHES_DECODERS", "2")

# The longest files, which begin first: a long file that begins last leaves the other processes idle. Those that wait
# for servers take turns with those that compute.
BEGIN_FIRST = (
    "integration/test_run.py",
    "integration/test_launcher.py",
    "serving/test_served.py",
    "commands/test_compare.py",
    "integration/test_s3.py",
    "steps/test_belonging.py",
    "integration/test_archives.py",
    "test_digests.py",
    "training/test_loop.py",
    "steps/test_as_served.py",
    "backbones/test_backbones.py",
    "docs/test_commands.py",
    "pipelines/test_dvc.py",
    "examples/test_examples.py",
    "models/test_new_task.py",
    "demo/test_films.py",
    "orchestration/test_pipeline_commands.py",
    "integration/test_light.py",
)

# Files whose tests share servers that take seconds to start, and bundles: they run in one process.
TOGETHER = (
    ("tests/integration/test_run.py", "tests/integration/test_mistakes.py", "tests/integration/test_foreign_page.py"),
    ("tests/serving/",),
)


class _Groups(LoadFileScheduling):  # type: ignore[misc]  # xdist says no types of it
    def _split_scope(self, nodeid: str) -> str:
        found = [names[0] for names in TOGETHER if nodeid.startswith(names)]
        scope: str = found[0] if found else super()._split_scope(nodeid)
        return scope


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Groups:
    """With `--dist loadfile`: by files, or by groups of them."""
    return _Groups(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects without the garbage collector, which then leaves alone what is there, and comes less often.

    Each of its full passes would visit a million objects of modules and tests that stay until the end.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then the others in the order of their folders."""
    here = Path(__file__).parent
    rank = {here / name: position for position, name in enumerate(BEGIN_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real videos, beside the checkout; a test that needs them skips where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real videos: {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def reports() -> Path:
    """Files of public reports, beside the checkout; a test that needs them skips where they are absent."""
    folder = SHARED_DATA.parent / "reports"
    if not folder.is_dir():
        pytest.skip(f"no files of reports: {folder} is absent")
    return folder


@pytest.fixture
def s3_server(tmp_path: Path) -> Iterator[S3]:
    with running(tmp_path) as server:
        yield server
