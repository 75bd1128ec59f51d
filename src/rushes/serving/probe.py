"""The health probe of a served version: its golden clip, sent through the whole path, must get the known answer.

The probe waits in the same queue as clients. If it times out while clients get their answers, the model is overloaded,
not broken: a reload would turn clients away when most of them come.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rushes.errors import RushesError
from rushes.serving.bundle import Bundle, golden_difference
from rushes.serving.client import predict
from rushes.serving.model_config import decoder_count
from rushes.serving.prediction import Prediction
from rushes.serving.repository import Repository
from rushes.serving.triton_api import TritonApi

PROBE_SECONDS = 120.0
_TIMEOUTS = ("no answer within", "Exceeds maximum queue size", "Request timeout expired")
"""Messages of the client at its deadline, and of Triton for a request that its queue refuses."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What the golden clip showed."""

    failure: str | None
    """Why it failed, None if it passed."""
    overloaded: bool = False
    """It failed only because it timed out, while other requests were answered."""

    @property
    def broken(self) -> bool:
        """Whether only a reload can help."""
        return self.failure is not None and not self.overloaded


def probe(api: TritonApi, repository: Repository, *, version: int, bundle: Bundle) -> ProbeResult:
    """Sends the golden clip to one version of an endpoint.

    Sends twice as many requests at once as there are decoders, so that one dead decoder does not go unnoticed.
    """
    golden = bundle.golden.read_bytes()
    count = 2 * decoder_count()
    before, began = _answer_counts(api, repository), time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        found = pool.map(lambda _: _failure(golden, api, repository, version=version, bundle=bundle), range(count))
        failures = [failure for failure in found if failure is not None]
    wrong = [failure for failure in failures if not any(words in failure for words in _TIMEOUTS)]
    if wrong or not failures:
        return ProbeResult(failure=next(iter(wrong), None))
    own = count - len(failures)
    overloaded = _others_are_answered(api, repository, before, own=own, until=began + PROBE_SECONDS)
    return ProbeResult(failure=failures[0], overloaded=overloaded)


def golden_failure(prediction: Prediction, bundle: Bundle) -> str | None:
    """How an answer to the golden clip differs from the known one by more than the tolerance, or None."""
    difference, tolerance = golden_difference(prediction, bundle.contract), bundle.contract.golden.tolerance
    if difference <= tolerance:
        return None
    return f"a probability is {difference:.2g} off the known answer, {tolerance:g} is allowed"


def _failure(golden: bytes, api: TritonApi, repository: Repository, *, version: int, bundle: Bundle) -> str | None:
    try:
        prediction = predict(
            golden, endpoint=repository.endpoint, url=api.address, version=version, timeout=PROBE_SECONDS
        )
    except RushesError as error:
        return str(error)
    if (prediction.version, prediction.onnx_sha256) != (version, bundle.contract.onnx_sha256):
        return f"version {prediction.version} ({prediction.onnx_sha256[:12]}) answered instead"
    return golden_failure(prediction, bundle)


def _others_are_answered(
    api: TritonApi, repository: Repository, before: tuple[int, int], *, own: int, until: float
) -> bool:
    """Whether more requests were answered than the `own` of the probe; if not, something hangs.

    Waits for it, since a full queue refuses at once. Both models must have answered: a decoder whose classifier hangs
    still ends its requests, with errors.
    """
    while True:
        after = _answer_counts(api, repository)
        if all(now - earlier > own for earlier, now in zip(before, after, strict=True)):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.5)


def _answer_counts(api: TritonApi, repository: Repository) -> tuple[int, int]:
    return api.answer_count(repository.endpoint), api.answer_count(repository.classifier)
