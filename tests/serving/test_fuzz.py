"""Damaged videos at the endpoint: each is answered or refused, no process ends, and nothing is left behind."""

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.hostile import memory
from rushes.errors import UserError
from rushes.ledger import Champion
from rushes.processes import Server
from rushes.serving.bundle import Bundle
from rushes.serving.client import InferenceProtocol, predict
from rushes.serving.reconciler import reconcile
from rushes.serving.server import address
from rushes.store import Store
from tests.damage import damaged_videos, drawn_videos
from tests.serving.conftest import stubs

pytestmark = pytest.mark.servers

Outcomes = Callable[[list[Path], int, int], Counter[str]]
"""(videos, seed, count) to how often each came back."""

REASONS = (
    "cannot be decoded",
    "crashes the decoder",
    "decoding took more than",
    "gigapixels in all frames",
    "holds no video stream",
    "holds no frame that decodes",
    "is empty",
    "not a video that can be opened",
    "of its .* packets decodes",
    "pixels are allowed",
    "promises .* samples",
    "s are allowed",
    "sides beyond",
    "more memory than allowed",
)
"""What damage may make of a request."""


@pytest.fixture
def outcomes(
    triton: Server, triton_home: Path, store: Store, promote: Callable[..., Champion], five_actions: Bundle
) -> Outcomes:
    """Sends damaged videos to an endpoint, two at a time; counts what comes back, "" for an answer."""
    promote("damaged", 1, five_actions.folder)
    reconcile(home=triton_home, store=store, server=address(triton), endpoint="damaged")

    def send(numbered: tuple[int, tuple[str, bytes]]) -> str:
        number, (name, data) = numbered
        protocol: InferenceProtocol = "http" if number % 2 else "grpc"
        try:
            predict(data, endpoint="damaged", url=address(triton, protocol), protocol=protocol)
        except UserError as error:
            words = str(error)
            reasons = [reason for reason in REASONS if re.search(reason, words)]
            assert "refused by the server" in words and reasons, f"{name}: {words}"
            return reasons[0]
        return ""

    def sent(videos: list[Path], seed: int, count: int) -> Counter[str]:
        with ThreadPoolExecutor(2) as pool:
            return Counter(pool.map(send, enumerate(damaged_videos(videos, seed=seed, count=count))))

    return sent


def check(
    outcomes: Outcomes,
    triton: Server,
    videos: list[Path],
    *,
    seed: int,
    count: int,
) -> Counter[str]:
    processes = stubs(triton, "damaged"), stubs(triton, "damaged_classifier")
    found = outcomes(videos, seed, count)
    assert (stubs(triton, "damaged"), stubs(triton, "damaged_classifier")) == processes, f"seed {seed}"
    return found


@pytest.mark.timeout(300)
def test_damaged_videos_are_answered_or_refused(outcomes: Outcomes, triton: Server, tmp_path: Path) -> None:
    found = check(outcomes, triton, drawn_videos(tmp_path / "drawn"), seed=0, count=80)
    assert found[""] > 10 and found["promises .* samples"] > 0 and found["not a video that can be opened"] > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_damaged_videos_leave_no_memory_behind(outcomes: Outcomes, triton: Server, tmp_path: Path) -> None:
    videos = drawn_videos(tmp_path / "drawn")
    for seed in range(100, 110):  # until its processes have all grown to their size
        check(outcomes, triton, videos, seed=seed, count=100)
    time.sleep(2)
    before = memory(triton)
    for seed in range(110, 140):
        check(outcomes, triton, videos, seed=seed, count=100)
    time.sleep(2)
    assert memory(triton) < 1.05 * before, f"{memory(triton) >> 20} MiB after {before >> 20}"
