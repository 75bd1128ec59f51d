"""The endpoint on a real Triton: answers, refusals, version changes, healing, and nothing left behind."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rushes.errors import ServiceError, UserError
from rushes.ledger import Champion
from rushes.processes import Server
from rushes.serving import probe, repository
from rushes.serving.bundle import ONNX, Bundle, InProcessModel, session
from rushes.serving.client import InferenceProtocol, predict
from rushes.serving.control_key import read_key
from rushes.serving.environment import ensure_environment, site_packages
from rushes.serving.export import BundleSpec, export_bundle
from rushes.serving.graph import ServingGraph
from rushes.serving.model_config import decoder_count, endpoint_config
from rushes.serving.prediction import Prediction
from rushes.serving.reconciler import KEEP, EndpointState, reconcile
from rushes.serving.repository import Repository
from rushes.serving.server import _shared_memory_prefix, address, start_triton, stop_triton, triton_status
from rushes.serving.triton_api import TritonApi
from rushes.store import Store, sha256_file
from rushes.video.coding import Encoding
from tests.serving.conftest import crowd, stubs

pytestmark = pytest.mark.servers

Promote = Callable[..., Champion]


@pytest.fixture
def deploy(triton: Server, triton_home: Path, store: Store, promote: Promote) -> Callable[..., EndpointState]:
    def deployed(endpoint: str, version: int, folder: Path, **options: str) -> EndpointState:
        promote(endpoint, version, folder, **options)
        (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint=endpoint)
        return outcome

    return deployed


@pytest.fixture
def ask(triton: Server) -> Callable[..., Prediction]:
    def asked(
        endpoint: str, video: bytes | Path, protocol: InferenceProtocol = "grpc", **options: object
    ) -> Prediction:
        url = address(triton, protocol)
        return predict(video, endpoint=endpoint, url=url, protocol=protocol, **options)  # type: ignore[arg-type]

    return asked


def difference(one: Prediction, other: Prediction) -> float:
    assert one.labels == other.labels and one.onnx_sha256 == other.onnx_sha256
    probabilities = np.abs(np.subtract(one.probabilities, other.probabilities)).max()
    return float(max(probabilities, np.abs(np.subtract(one.embedding, other.embedding)).max()))


def broken_copy(bundle: Bundle, folder: Path, *, onnx: bytes | None = None, **golden: object) -> Path:
    """A bundle whose digests are right and whose content is wrong."""
    shutil.copytree(bundle.folder, folder)
    record = json.loads((folder / "contract.json").read_text())
    if onnx is not None:
        (folder / ONNX).write_bytes(onnx)
        record["onnx_sha256"] = sha256_file(folder / ONNX)
    record["golden"] |= golden
    (folder / "contract.json").write_text(json.dumps(record))
    return folder


# Answers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_endpoint_answers_what_the_same_graph_answers_in_process(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    make_video: Callable[..., bytes],
    protocol: InferenceProtocol,
) -> None:
    deploy("answers", 1, five_actions.folder)
    for options in ({"seed": 5}, {"seed": 6, "frames": 90, "fps": 60.0}, {"seed": 7, "frames": 3, "height": 80}):
        video = make_video(**options)
        served = ask("answers", video, protocol, request_id="mine")
        assert difference(served, InProcessModel(five_actions).predict(video)) <= 1e-4
        assert (served.version, served.served_by, served.request_id) == (1, "triton", "mine")
    assert len(ask("answers", video, protocol).request_id) == 32


def test_the_endpoint_encodes_frames_as_the_contract_says(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    graph: ServingGraph,
    five_actions: Bundle,
    make_video: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    if not list(site_packages(ensure_environment()).glob("av.libs/libx264*")):
        pytest.skip("Triton's PyAV has no x264: test_decode_only.py says what holds then")
    contract = five_actions.contract
    geometry: dict[str, Any] = {
        name: getattr(contract, name) for name in ("labels", "clips", "clip_frames", "crop", "fps")
    }
    encoding = Encoding(codec="h264", short_side=48, qp=51, gop=12)
    spec = BundleSpec(**geometry, short_side=36, classifier="finetune/encoded", encoding=encoding)
    bundle, _ = export_bundle(graph, tmp_path / "encoded", golden=make_video(seed=1), spec=spec)
    assert bundle.contract.encoding == encoding
    deploy("encoded", 1, bundle.folder)
    others = []
    for options in ({"seed": 5}, {"seed": 6, "frames": 90, "fps": 60.0}, {"seed": 7, "frames": 3, "height": 80}):
        video = make_video(**options)
        served = ask("encoded", video)
        assert difference(served, InProcessModel(bundle).predict(video)) <= 1e-4
        others.append(difference(served, InProcessModel(five_actions).predict(video)))
    assert max(others) > 2e-3, "without the encoding the same graph answers otherwise"


@pytest.mark.real
def test_real_videos_get_the_answer_of_the_same_graph_in_process(
    deploy: Callable[..., EndpointState], ask: Callable[..., Prediction], five_actions: Bundle, shared_data: Path
) -> None:
    deploy("real", 1, five_actions.folder)
    ut = sorted((shared_data / "ut_interaction").glob("*/*.avi"))[::40]
    odd = [path for kind in ("webm", "mov", "mkv", "gif") for path in (shared_data / "odd_videos").rglob(f"*.{kind}")]
    answered = 0
    for index, path in enumerate([*ut, *odd[:6]]):
        try:
            expected = InProcessModel(five_actions).predict(path.read_bytes())
        except UserError:
            with pytest.raises(UserError, match="refused by the server"):
                ask("real", path)
            continue
        served = ask("real", path, "http" if index % 2 else "grpc")
        assert difference(served, expected) <= 1e-4, path.name
        answered += 1
    assert answered >= len(ut) + 2


@pytest.mark.parametrize("videos", [1, 3, 8])
def test_the_classifier_answers_a_batch_as_onnxruntime_does(
    deploy: Callable[..., EndpointState], triton: Server, triton_home: Path, five_actions: Bundle, videos: int
) -> None:
    import tritonclient.grpc as grpc

    deploy("batches", 1, five_actions.folder)
    clips = np.random.default_rng(videos).integers(0, 256, (videos, 2, 8, 48, 32), dtype=np.uint8)
    tensor = grpc.InferInput("clips", list(clips.shape), "UINT8")
    tensor.set_data_from_numpy(clips)
    with grpc.InferenceServerClient(address(triton)) as client:
        reply = client.infer(Repository(triton_home, "batches").classifier, [tensor], model_version="1")
    expected = session(five_actions.onnx).run(["probabilities", "embedding"], {"clips": clips})
    assert np.abs(reply.as_numpy("probabilities") - expected[0]).max() <= 1e-6
    assert np.abs(reply.as_numpy("embedding") - expected[1]).max() <= 1e-4


def test_concurrent_requests_get_each_their_own_answer(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    make_video: Callable[..., bytes],
) -> None:
    deploy("many", 1, five_actions.folder)
    videos = [make_video(seed=seed, frames=12 + seed) for seed in range(12)]
    expected = [InProcessModel(five_actions).predict(video) for video in videos]
    found: dict[int, Prediction] = {}
    threads = [
        threading.Thread(target=lambda i: found.update({i: ask("many", videos[i])}), args=(i,))
        for i in range(len(videos))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(difference(found[i], expected[i]) <= 1e-4 for i in range(len(videos)))


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_is_no_video_is_refused_with_its_reason_and_the_endpoint_goes_on(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    video: bytes,
    protocol: InferenceProtocol,
) -> None:
    deploy("hostile", 1, five_actions.folder)
    bad = {b"": "empty", b"not a video" * 99: "not a video", video[:400]: "not a video", bytes(70 << 20): "at most"}
    for data, words in bad.items():
        with pytest.raises(UserError, match=f"refused by the server: .*{words}"):
            ask("hostile", data, protocol)
        assert ask("hostile", video, protocol).version == 1


def test_a_batch_that_the_graph_refuses_fails_each_of_its_requests_and_nothing_else(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    triton: Server,
    triton_home: Path,
    five_actions: Bundle,
    video: bytes,
) -> None:
    """Failing requests that were batched together once took the whole server down."""
    import tritonclient.grpc as grpc
    from tritonclient.utils import InferenceServerException

    deploy("refusing", 1, five_actions.folder)
    clips = np.zeros((1, 2, 8, 30, 20), dtype=np.uint8)
    refusals = []

    def ask_wrongly() -> None:
        tensor = grpc.InferInput("clips", list(clips.shape), "UINT8")
        tensor.set_data_from_numpy(clips)
        with grpc.InferenceServerClient(address(triton)) as client:
            for _ in range(20):
                try:
                    client.infer(Repository(triton_home, "refusing").classifier, [tensor], model_version="1")
                except InferenceServerException as error:
                    refusals.append(str(error.message()))

    threads = [threading.Thread(target=ask_wrongly) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 160 and all("invalid dimensions for input: clips" in words for words in refusals)
    assert ask("refusing", video).version == 1


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_unknown_endpoint_or_version_is_named(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    video: bytes,
    protocol: InferenceProtocol,
) -> None:
    deploy("known", 1, five_actions.folder)
    with pytest.raises(UserError, match="endpoint: 'unheard' is not served at"):
        ask("unheard", video, protocol)
    with pytest.raises(UserError, match="version 9 is not here"):
        ask("known", video, protocol, version=9)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_without_a_server_the_remedy_is_said(
    triton_possible: None, video: bytes, free_port: Callable[[], int], protocol: InferenceProtocol
) -> None:
    with pytest.raises(UserError, match="start it with `rushes up`"):
        predict(video, endpoint="any", url=f"127.0.0.1:{free_port()}", protocol=protocol)
    with pytest.raises(UserError, match="is not host:port"):
        predict(video, endpoint="any", url="localhost", protocol=protocol)


# Versions ------------------------------------------------------------------------------------------------------------


def test_reconciling_again_changes_nothing(
    deploy: Callable[..., EndpointState], triton: Server, triton_home: Path, store: Store, five_actions: Bundle
) -> None:
    assert deploy("again", 1, five_actions.folder).action == "deployed"
    before = stubs(triton, "again"), stubs(triton, "again_classifier")
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton))
    assert (outcome.action, outcome.version, outcome.served_by) == ("unchanged", 1, "triton")
    assert (stubs(triton, "again"), stubs(triton, "again_classifier")) == before
    assert before[0] and before[1]


def test_an_endpoint_without_a_champion_is_left_alone(triton: Server, triton_home: Path, store: Store) -> None:
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="none_yet")
    assert (outcome.action, outcome.version) == ("no champion", None)


def test_versions_with_other_labels_and_clips_change_without_a_failed_request(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    three_actions: Bundle,
    video: bytes,
) -> None:
    deploy("changing", 1, five_actions.folder)
    expected = {1: InProcessModel(five_actions).predict(video), 2: InProcessModel(three_actions).predict(video)}
    expected[3] = expected[1]
    answers: list[Prediction] = []
    failures: list[Exception] = []
    enough = threading.Event()

    def keep_asking() -> None:
        while not enough.is_set():
            try:
                answers.append(ask("changing", video))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for version, bundle in ((2, three_actions), (3, five_actions), (2, three_actions)):
            assert deploy("changing", version, bundle.folder).action == "deployed"
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert {answer.version for answer in answers} == {1, 2, 3}
    assert all(difference(answer, expected[answer.version or 0]) <= 1e-4 for answer in answers)
    assert ask("changing", video).version == 2


def test_the_last_versions_stay_on_disk(
    deploy: Callable[..., EndpointState],
    triton_home: Path,
    five_actions: Bundle,
    ask: Callable[..., Prediction],
    video: bytes,
) -> None:
    for version in range(1, KEEP + 2):
        deploy("kept", version, five_actions.folder)
    repository = Repository(triton_home, "kept")
    assert repository.versions() == list(range(2, KEEP + 2))
    assert ask("kept", video).version == KEEP + 1
    assert ask("kept", video, version=KEEP).version == KEEP


def test_other_bytes_under_the_same_number_are_served(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    three_actions: Bundle,
    video: bytes,
) -> None:
    """A registry that was made anew counts from 1 again."""
    deploy("recount", 1, five_actions.folder)
    assert deploy("recount", 1, three_actions.folder).action == "deployed"
    assert difference(ask("recount", video), InProcessModel(three_actions).predict(video)) <= 1e-4


def broken(fault: str, good: Bundle, other: Bundle, folder: Path) -> Path:
    if fault == "corrupt graph":
        return broken_copy(good, folder, onnx=b"\x08\x0anot a graph")
    if fault == "wrong golden answer":
        known = good.contract.golden.probabilities
        return broken_copy(good, folder, probabilities=[*known[1:], known[0]])
    return broken_copy(good, folder, onnx=other.onnx.read_bytes())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("corrupt graph", "loading faults_classifier: .*model.onnx failed"),
        ("wrong golden answer", "golden clip failed: a probability is .* off"),
        ("graph of other classes", "golden clip failed"),
    ],
)
def test_a_broken_bundle_is_never_served_and_the_old_version_stays(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    triton: Server,
    triton_home: Path,
    five_actions: Bundle,
    three_actions: Bundle,
    video: bytes,
    tmp_path: Path,
    fault: str,
    words: str,
) -> None:
    deploy("faults", 1, five_actions.folder)
    before = ask("faults", video)
    with pytest.raises(ServiceError, match=f"version 2 is not served: .*{words}.*; version 1 stays$") as caught:
        deploy("faults", 2, broken(fault, three_actions, five_actions, tmp_path / "broken"))
    assert "\n" not in str(caught.value)
    assert Repository(triton_home, "faults").versions() == [1]
    assert TritonApi(address(triton), key=read_key(triton_home)).ready_versions(
        Repository(triton_home, "faults").classifier
    ) == {1}
    after = ask("faults", video)
    assert after.version == 1 and difference(after, before) == 0
    with pytest.raises(UserError, match="version 2 is not here"):
        ask("faults", video, version=2)


def test_a_bundle_that_the_store_lost_or_the_ledger_does_not_mean_is_not_served(
    deploy: Callable[..., EndpointState],
    triton: Server,
    triton_home: Path,
    store: Store,
    promote: Promote,
    five_actions: Bundle,
    three_actions: Bundle,
) -> None:
    with pytest.raises(ServiceError, match=r"holds another graph than the ledger says.*; nothing is served$"):
        deploy("lost", 1, five_actions.folder, onnx_sha256="0" * 64)
    champion = promote("lost", 2, three_actions.folder)
    assert store.local is not None
    (store.local / "objects" / champion.onnx_sha256[:2] / champion.onnx_sha256).unlink()
    with pytest.raises(ServiceError, match=r"is not whole in the store.*; nothing is served$"):
        reconcile(home=triton_home, store=store, server=address(triton), endpoint="lost")
    assert deploy("lost", 3, five_actions.folder).action == "deployed"


def test_a_broken_endpoint_does_not_keep_the_others_from_their_champions(
    deploy: Callable[..., EndpointState],
    triton: Server,
    triton_home: Path,
    store: Store,
    promote: Promote,
    ask: Callable[..., Prediction],
    five_actions: Bundle,
    video: bytes,
) -> None:
    promote("a_broken_one", 1, five_actions.folder, onnx_sha256="0" * 64)
    promote("b_sound_one", 1, five_actions.folder)
    with pytest.raises(ServiceError, match="endpoint a_broken_one: version 1 is not served"):
        reconcile(home=triton_home, store=store, server=address(triton))
    assert ask("b_sound_one", video).version == 1


def test_of_two_reconcilers_at_once_one_deploys_and_the_other_finds_it_done(
    triton: Server, triton_home: Path, store: Store, promote: Promote, five_actions: Bundle
) -> None:
    promote("raced", 1, five_actions.folder)
    found: list[str] = []

    def run() -> None:
        outcomes = reconcile(home=triton_home, store=store, server=address(triton), endpoint="raced")
        found.extend(outcome.action for outcome in outcomes)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["deployed", "unchanged"]


# Healing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["killed", "killed_classifier"])
def test_a_killed_stub_is_healed_by_the_next_look(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    triton: Server,
    triton_home: Path,
    store: Store,
    five_actions: Bundle,
    video: bytes,
    model: str,
) -> None:
    deploy("killed", 1, five_actions.folder)
    instances = decoder_count() if model == "killed" else 1
    # Triton says "unloaded" before the stubs of the last test are gone: killing one of those would kill nothing.
    alive = stubs(triton, model)
    while len(alive) != instances:
        time.sleep(0.05)
        alive = stubs(triton, model)
    os.kill(alive[0], signal.SIGKILL)
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="killed")
    assert outcome.action == "healed"
    for _ in range(4):
        assert difference(ask("killed", video), InProcessModel(five_actions).predict(video)) <= 1e-4
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="killed")
    assert outcome.action == "unchanged"


def test_overload_unloads_nothing_and_no_request_fails(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    slow_down: Callable[[list[int], float], None],
    triton: Server,
    triton_home: Path,
    store: Store,
    five_actions: Bundle,
    video: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy("crowded", 1, five_actions.folder)
    decoders = stubs(triton, "crowded")
    slow_down(decoders, 0.25)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 2.0)
    with crowd(lambda: ask("crowded", video), clients=12 * len(decoders)) as answers:  # each waits for 3 seconds
        (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="crowded")
    assert outcome.action == "overloaded"
    assert {answer.version for answer in answers} == {1}
    assert stubs(triton, "crowded") == decoders
    slow_down(decoders, 0.0)
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="crowded")
    assert outcome.action == "unchanged"


def test_a_full_queue_is_overload_too(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    slow_down: Callable[[list[int], float], None],
    triton: Server,
    triton_home: Path,
    store: Store,
    five_actions: Bundle,
    video: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def bounded(endpoint: str) -> Any:
        config = endpoint_config(endpoint)
        config.dynamic_batching.default_queue_policy.max_queue_size = 8
        return config

    def ask_until_there_is_room() -> Prediction:
        while True:
            try:
                return ask("full", video)
            except ServiceError as error:
                assert "Exceeds maximum queue size" in str(error)
                time.sleep(0.05)

    with monkeypatch.context() as patch:
        patch.setattr(repository, "endpoint_config", bounded)
        deploy("full", 1, five_actions.folder)
        decoders = stubs(triton, "full")
        slow_down(decoders, 0.4)
        with crowd(ask_until_there_is_room, clients=12 * len(decoders)):
            (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="full")
        assert outcome.action == "overloaded"
        assert stubs(triton, "full") == decoders


@pytest.mark.parametrize("hanging", ["every", "one"])
def test_decoders_that_hang_are_healed_although_they_fail_nothing(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    slow_down: Callable[[list[int], float], None],
    triton: Server,
    triton_home: Path,
    store: Store,
    five_actions: Bundle,
    video: bytes,
    monkeypatch: pytest.MonkeyPatch,
    hanging: str,
) -> None:
    endpoint = f"hangs_{hanging}"
    deploy(endpoint, 1, five_actions.folder)
    decoders = stubs(triton, endpoint)
    slow_down(decoders if hanging == "every" else decoders[:1], float("inf"))
    monkeypatch.setattr(probe, "PROBE_SECONDS", 6.0)
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint=endpoint)
    assert outcome.action == "healed"
    assert ask(endpoint, video).version == 1


def test_stopped_decoders_are_healed(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    triton: Server,
    triton_home: Path,
    store: Store,
    five_actions: Bundle,
    video: bytes,
) -> None:
    deploy("stopped", 1, five_actions.folder)
    for pid in stubs(triton, "stopped"):
        os.kill(pid, signal.SIGSTOP)
    (outcome,) = reconcile(home=triton_home, store=store, server=address(triton), endpoint="stopped")
    assert outcome.action == "healed"
    assert ask("stopped", video).version == 1


def test_a_version_that_overload_leaves_untried_is_not_routed_to(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    slow_down: Callable[[list[int], float], None],
    triton: Server,
    five_actions: Bundle,
    three_actions: Bundle,
    video: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy("rushed", 1, five_actions.folder)
    decoders = stubs(triton, "rushed")
    slow_down(decoders, 0.25)
    monkeypatch.setattr(probe, "PROBE_SECONDS", 2.0)
    with (
        crowd(lambda: ask("rushed", video), clients=12 * len(decoders)) as answers,
        pytest.raises(ServiceError, match=r"version 2 is not served: .*no answer within 2 s.*; version 1 stays"),
    ):
        deploy("rushed", 2, three_actions.folder)
    assert {answer.version for answer in answers} == {1}


def test_a_new_version_is_not_blamed_for_a_dead_stub(
    deploy: Callable[..., EndpointState],
    ask: Callable[..., Prediction],
    triton: Server,
    five_actions: Bundle,
    three_actions: Bundle,
    video: bytes,
) -> None:
    deploy("wounded", 1, five_actions.folder)
    for pid in stubs(triton, "wounded"):
        os.kill(pid, signal.SIGKILL)
    assert deploy("wounded", 2, three_actions.folder).action == "deployed"
    assert ask("wounded", video).version == 2


# The server ----------------------------------------------------------------------------------------------------------


def test_a_server_started_anew_gets_its_versions_back_and_leaves_nothing_when_stopped(
    triton_possible: None,
    store: Store,
    promote: Promote,
    five_actions: Bundle,
    video: bytes,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    promote("phoenix", 1, five_actions.folder)
    shared = f"{_shared_memory_prefix(tmp_path)}*"  # tests beside this one have servers, too
    first = start_triton(home=tmp_path, port=free_port())
    assert start_triton(home=tmp_path) == first == triton_status(home=tmp_path)
    (outcome,) = reconcile(home=tmp_path, store=store, server=address(first))
    assert outcome.action == "deployed"
    os.kill(first.pid, signal.SIGKILL)  # its stubs live on
    while triton_status(home=tmp_path) is not None:
        time.sleep(0.05)
    server = start_triton(home=tmp_path, port=free_port())
    try:
        (outcome,) = reconcile(home=tmp_path, store=store, server=address(server))
        assert outcome.action == "loaded"
        assert predict(video, endpoint="phoenix", url=address(server)).version == 1
        assert list(Path("/dev/shm").glob(shared))
        os.kill(stubs(server, "phoenix")[0], signal.SIGKILL)
    finally:
        assert stop_triton(home=tmp_path)
    assert stubs(server, "phoenix") == stubs(server, "phoenix_classifier") == []
    assert not list(Path("/dev/shm").glob(shared))
    assert not stop_triton(home=tmp_path)
    start_triton(home=tmp_path, port=server.ports["http"])
    stop_triton(home=tmp_path)


def test_a_port_in_use_is_named_and_nothing_is_left(triton: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"port {triton.ports['http']}: in use by tritonserver \(pid .*TRITON_PORT"):
        start_triton(home=tmp_path, port=triton.ports["http"])
    with pytest.raises(UserError, match=r"port \d+: in use"):
        start_triton(home=tmp_path, port=triton.ports["http"] - 2)
    assert triton_status(home=tmp_path) is None and not (tmp_path / "servers" / "triton.json").exists()


def test_a_server_that_cannot_start_shows_its_log(
    triton_possible: None, tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rushes.serving import server

    monkeypatch.setattr(server, "_argv", lambda home, environment, first: ["/bin/sh", "-c", "echo no luck; exit 3"])
    with pytest.raises(ServiceError, match=r"(?s)triton: ended while starting.*no luck"):
        start_triton(home=tmp_path, port=free_port())
    assert triton_status(home=tmp_path) is None


def test_switched_off_it_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_NO_TRITON", "1")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"switched off by RUSHES_NO_TRITON: .*--offline"):
        start_triton(home=tmp_path)
    assert time.monotonic() - began < 1


def test_a_port_variable_that_is_no_number_is_named(
    triton_possible: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUSHES_TRITON_PORT", "eight")
    with pytest.raises(UserError, match="RUSHES_TRITON_PORT: 'eight' is not a port"):
        start_triton(home=tmp_path)
