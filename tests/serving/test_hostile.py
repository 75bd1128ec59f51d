"""Hostile requests at a real Triton: each is refused, by its own fault, and other clients do not notice."""

import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _bombs
from benchmarks.hostile import memory
from rushes.errors import RushesError, UserError
from rushes.ledger import Champion
from rushes.processes import Server
from rushes.serving.bundle import Bundle
from rushes.serving.client import InferenceProtocol, predict
from rushes.serving.reconciler import reconcile
from rushes.serving.repository import Repository
from rushes.serving.request import LIMITS
from rushes.serving.server import address
from rushes.store import Store
from tests.serving.conftest import stubs

pytestmark = pytest.mark.servers

Ask = Callable[..., object]


@pytest.fixture
def ask(triton: Server, triton_home: Path, store: Store, promote: Callable[..., Champion], five_actions: Bundle) -> Ask:
    """Asks an endpoint of this module's own."""
    promote("besieged", 1, five_actions.folder)
    reconcile(home=triton_home, store=store, server=address(triton), endpoint="besieged")

    def asked(video: bytes, protocol: InferenceProtocol = "grpc", timeout: float = 60.0) -> object:
        url = address(triton, protocol)
        return predict(video, endpoint="besieged", url=url, protocol=protocol, timeout=timeout).version

    return asked


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_bombs_are_refused_and_the_endpoint_goes_on(
    ask: Ask, triton: Server, video: bytes, protocol: InferenceProtocol
) -> None:
    decoders = stubs(triton, "besieged")
    bombs = {draw(): "promises 60,000,000 samples" for draw in _bombs.TABLES.values()}
    # Of the size that matters, and no dearer to draw than a small one: 8 seconds, again and again.
    bombs |= {_bombs.wide_film(seconds=200, width=1024, height=1024): "gigapixels in all frames .*by the header"}
    for data, words in bombs.items():
        with pytest.raises(UserError, match=f"refused by the server: .*{words}"):
            ask(data, protocol)
        assert ask(video, protocol) == 1
    assert stubs(triton, "besieged") == decoders


def test_other_clients_are_answered_while_long_videos_are_decoded(ask: Ask, video: bytes) -> None:
    """More long videos than decoders, which would take all of them for seconds."""
    long_film = _bombs.wide_film(seconds=30, width=1280, height=720)
    stop, attacked = threading.Event(), list[str]()

    def attack() -> None:
        while not stop.is_set():
            try:
                ask(long_film, timeout=8.0)
            except Exception as error:
                attacked.append(str(error))

    attackers = [threading.Thread(target=attack) for _ in range(5)]
    for thread in attackers:
        thread.start()
    try:
        assert all(ask(video) == 1 for _ in range(10))
    finally:
        stop.set()
        for thread in attackers:
            thread.join()
    known = ("send it again later", "more than 30 s", "no answer within")
    assert all(any(words in error for words in known) for error in attacked), attacked


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_is_too_large_leaves_nothing_behind(
    ask: Ask, triton: Server, video: bytes, protocol: InferenceProtocol
) -> None:
    for _ in range(3):
        with pytest.raises(UserError, match="not a video that can be opened"):
            ask(bytes(LIMITS.max_bytes - 100), protocol)
    held = [memory(triton)]
    for _ in range(2):
        for size in (LIMITS.max_bytes + 1, 300 << 20):
            with pytest.raises(UserError, match=r"refused by the server: .*at most 67108864"):
                ask(bytes(size), protocol)
            assert ask(video, protocol) == 1
        held.append(memory(triton))
    assert held[1] < held[0] + (150 << 20), "bytes of requests that have ended"
    assert held[2] < held[1] + (50 << 20), "more with each of them"


# The classifier ------------------------------------------------------------------------------------------------------


def test_clients_cannot_reach_the_classifier(ask: Ask, triton: Server, triton_home: Path) -> None:
    """It takes any number of clips; its name is a secret, which nothing that clients may ask tells."""
    import tritonclient.grpc as grpc
    from tritonclient.utils import InferenceServerException

    secret = Repository(triton_home, "besieged").classifier
    clips = np.zeros((1, 3, 8, 48, 32), dtype=np.uint8)
    tensor = grpc.InferInput("clips", list(clips.shape), "UINT8")
    tensor.set_data_from_numpy(clips)
    with grpc.InferenceServerClient(address(triton)) as client:
        for guess in ("besieged_classifier", f"besieged_classifier_{'0' * 16}"):
            with pytest.raises(InferenceServerException, match="unknown model"):
                client.infer(guess, [tensor])
        for listing in (client.get_model_repository_index, client.get_inference_statistics):
            with pytest.raises(InferenceServerException, match="restricted"):
                listing()
        told = [str(client.get_server_metadata()), str(client.get_model_metadata("besieged"))]
    for path, data in (("repository/index", b"{}"), ("models/stats", None), ("models/besieged/config", None)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{triton.url('http')}/v2/{path}", data=data, timeout=10)
        assert refused.value.code == 403
    for path in ("", "/models/besieged"):
        with urllib.request.urlopen(f"{triton.url('http')}/v2{path}", timeout=10) as reply:
            told.append(reply.read().decode())
    with pytest.raises(UserError) as unknown:
        predict(b"", endpoint="besieged", url=address(triton), version=9)
    assert not any(secret in words for words in [*told, str(unknown.value)])


def test_a_failing_classifier_does_not_tell_its_name(ask: Ask, triton: Server, triton_home: Path, video: bytes) -> None:
    secret = Repository(triton_home, "besieged").classifier
    for stub in stubs(triton, secret):
        os.kill(stub, signal.SIGKILL)
    with pytest.raises(RushesError) as failed:
        for _ in range(5):
            ask(video)
    assert "the classifier" in str(failed.value) and secret not in str(failed.value)
