"""The baseline that sees no frame: a logistic regression on what the index says about a segment."""

import numpy as np
import numpy.typing as npt

from rushes.evaluation.measure import probe_answers, with_labels
from rushes.footage.reader import Footage


def metadata_answers(footage: Footage, *, numbers: list[int], c: float, seed: int) -> dict[str, list[str]]:
    """Answers about the labelled test segments, as `measure_answers` gives them: linear probe only."""
    train, test = footage.select("train", labelled=True), footage.select("test", labelled=True)
    features = metadata(footage)
    answers = probe_answers(
        footage, train=train, fitted=features[train], tested=features[test], numbers=numbers, c=c, seed=seed
    )
    return with_labels(footage, test, answers)


def metadata(footage: Footage) -> npt.NDArray[np.float32]:
    """Duration, frames, frame rate, size, bytes, quantiles of motion and codec of each segment: [n, d]."""
    segments, codecs = footage.segments, footage.texts("codec")
    sizes = [segments.frames, segments.frames / segments.fps, segments.fps, segments.width, segments.height]
    columns = [*sizes, segments.length, *(1 + footage.motion_quantiles().T)]
    known = [np.log(np.maximum(np.asarray(column, dtype=np.float64), 1e-6)) for column in columns]
    named = [(codecs == codec).astype(np.float64) for codec in sorted(set(codecs))]
    return np.stack([*known, *named], axis=1).astype(np.float32)
