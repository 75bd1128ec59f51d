"""The baseline that sees no frame: a logistic regression on what the index says about a segment."""

from rushes.evaluation.measure import probe_answers, with_labels
from rushes.evaluation.metadata import metadata
from rushes.footage.reader import Footage


def metadata_answers(footage: Footage, *, numbers: list[int], c: float, seed: int) -> dict[str, list[str]]:
    """Answers about the labelled test segments, as `measure_answers` gives them: linear probe only."""
    train, test = footage.select("train", labelled=True), footage.select("test", labelled=True)
    features = metadata(footage)
    answers = probe_answers(
        footage, train=train, fitted=features[train], tested=features[test], numbers=numbers, c=c, seed=seed
    )
    return with_labels(footage, test, answers)
