"""Predictions of a bundle for footage: the gate scores the champion again on the challenger's test set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rushes.footage.reader import Footage
from rushes.progress import Progress
from rushes.serving.bundle import session
from rushes.serving.contract import Contract
from rushes.serving.export import INPUT, OUTPUTS
from rushes.store import Manifest, Store
from rushes.training.data import EvenClips


@dataclass(frozen=True, kw_only=True)
class SegmentPredictions:
    """Keys of the test segments, and the class that the bundle predicts for each."""

    keys: tuple[str, ...]
    answers: tuple[str, ...]


def score_bundle(
    bundle: str, footage: Manifest, *, store: Store, labels: Sequence[str], progress: Progress
) -> SegmentPredictions | str:
    """Runs a bundle (by its ref) over the labelled test segments; returns a sentence if the two cannot be compared."""
    manifest = store.find(bundle)
    if manifest is None:
        return f"the champion's bundle {bundle} is not in the store: restore it, or use another --endpoint"
    contract = Contract.read(store.checked(manifest.files["contract.json"]))
    reader = Footage(footage, store)
    if set(contract.labels) != set(labels):
        only_old, only_new = sorted(set(contract.labels) - set(labels)), sorted(set(labels) - set(contract.labels))
        return (
            f"the champion answers other classes (only it: {', '.join(only_old) or 'none'}; only the challenger: "
            f"{', '.join(only_new) or 'none'}): a model of other classes is another service: use another --endpoint"
        )
    if (contract.short_side, contract.fps) != (reader.short_side, reader.fps):
        return (
            f"the champion reads footage of short side {contract.short_side} at {contract.fps} fps, this is "
            f"{reader.short_side} at {reader.fps}: sample with the champion's, or use another --endpoint"
        )
    runtime = session(store.checked(manifest.files["model.onnx"]))
    rows = reader.select("test", labelled=True)
    data = EvenClips(reader, rows, clips=contract.clips, clip_frames=contract.clip_frames, crop=contract.crop)
    bar = progress.bar("score the champion", total=len(rows), unit="segments")
    answers = []
    for index in range(len(rows)):
        clips, _ = data[index]
        probabilities, _ = runtime.run(list(OUTPUTS), {INPUT: clips.numpy()[None]})
        answers.append(contract.labels[int(np.argmax(probabilities[0]))])
        bar.advance()
    return SegmentPredictions(keys=tuple(str(key) for key in reader.texts("key")[rows]), answers=tuple(answers))
