"""What a champion answers about test segments: the gate scores it again on the challenger's test set.

A champion that reads frames as this footage gives them is scored on the footage. Another one (of a version that did
not encode, of other footage) is scored as it serves: on the original files.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rushes.footage.provenance import OriginalFiles, footage_encoding
from rushes.footage.reader import Footage
from rushes.progress import Progress
from rushes.serving.bundle import InProcessModel, fetch_bundle
from rushes.serving.originals import Rows, served_answers
from rushes.store import Manifest, Store
from rushes.training.data import EvenClips


@dataclass(frozen=True, kw_only=True)
class SegmentPredictions:
    """Keys of the test segments, and the class that the bundle predicts for each, "" where it would refuse the file."""

    keys: tuple[str, ...]
    answers: tuple[str, ...]


def score_bundle(
    bundle: str, footage: Manifest, *, store: Store, labels: Sequence[str], progress: Progress
) -> SegmentPredictions | str:
    """Asks a bundle (by its ref) about the labelled test segments; returns a sentence if it cannot be compared."""
    manifest = store.find(bundle)
    if manifest is None:
        return f"the champion's bundle {bundle} is not in the store: restore it, or use another --endpoint"
    with tempfile.TemporaryDirectory(prefix="rushes-champion-") as folder:
        model = InProcessModel(fetch_bundle(manifest, store, folder=Path(folder) / "bundle"))
        contract = model.bundle.contract
        if set(contract.labels) != set(labels):
            only_old, only_new = sorted(set(contract.labels) - set(labels)), sorted(set(labels) - set(contract.labels))
            return (
                f"the champion answers other classes (only it: {', '.join(only_old) or 'none'}; only the challenger: "
                f"{', '.join(only_new) or 'none'}): a model of other classes is another service: use another --endpoint"
            )
        as_footage = contract.encoding == footage_encoding(footage)
        reader = Footage(footage, store, short_side=contract.short_side if as_footage else 0)
        rows = reader.select("test", labelled=True)
        if as_footage and contract.fps == reader.fps:
            answers: list[str] | str = _on_footage(model, reader, rows, progress=progress)
        else:
            answers = _on_files(model, reader, rows, files=OriginalFiles.of(footage, store), progress=progress)
    if isinstance(answers, str):
        return answers
    return SegmentPredictions(keys=tuple(str(key) for key in reader.texts("key")[rows]), answers=tuple(answers))


def _on_footage(model: InProcessModel, reader: Footage, rows: Rows, *, progress: Progress) -> list[str]:
    contract = model.bundle.contract
    data = EvenClips(reader, rows, clips=contract.clips, clip_frames=contract.clip_frames, crop=contract.crop)
    bar = progress.bar("score the champion", total=len(rows), unit="segments")
    answers = []
    for index in range(len(rows)):
        answers.append(model.classify(data[index][0].numpy()).top(1)[0][0])
        bar.advance()
    return answers


def _on_files(
    model: InProcessModel, reader: Footage, rows: Rows, *, files: OriginalFiles | None, progress: Progress
) -> list[str] | str:
    why = "the champion reads frames of another size, rate or encoding than this footage has"
    if files is None:
        return f"{why}, and the original files are not reachable: promote where they are, or use another --endpoint"
    answers = served_answers(model, reader, rows, files=files, progress=progress)
    absent = sum(bool(answer.absent) for answer in answers)
    if absent:
        return f"{why}, and {absent} of {len(rows)} original files are not there as they were: pin and sample again"
    return [answer.label for answer in answers]
