"""Frozen-feature protocols: right where the classes are apart, at chance where they are not, and nearest is nearest."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from rushes.evaluation.probes import linear_probe, nearest_neighbour

Features = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def blobs(*, apart: float, seed: int = 0, per_class: int = 20) -> tuple[Features, Classes]:
    """Three classes far from the origin; what tells them apart is in the features of the smallest scales."""
    centres = np.random.default_rng(5).normal(size=(3, 8)) * apart * 3 * (np.arange(8) < 4)
    classes = np.repeat(np.arange(3), per_class)
    noise = np.random.default_rng(seed).normal(size=(len(classes), 8))
    scales = 10.0 ** np.arange(-3, 5)
    return ((centres[classes] + noise + 50) * scales).astype(np.float32), classes


def test_the_probe_is_right_on_classes_apart_whatever_the_scales() -> None:
    train, classes = blobs(apart=6)
    test, truth = blobs(apart=6, seed=1)
    assert (linear_probe(train, classes, test, c=1.0) == truth).mean() == 1


def test_the_units_of_a_feature_change_no_answer() -> None:
    train, classes = blobs(apart=0.2)
    test, _ = blobs(apart=0.2, seed=1, per_class=100)
    units = (10.0 ** np.array([3, 2, 1, 0, -1, -2, -3, -4])).astype(np.float32)
    one, other = (linear_probe(train * u, classes, test * u, c=0.01) for u in (np.float32(1), units))
    assert (one == other).mean() > 0.98


def test_the_probe_knows_nothing_where_there_is_nothing_to_know() -> None:
    train, classes = blobs(apart=0)
    test, truth = blobs(apart=0, seed=1, per_class=200)
    assert 0.2 < (linear_probe(train, classes, test, c=1.0) == truth).mean() < 0.45


def test_the_probe_answers_with_the_numbers_it_was_given_and_in_order() -> None:
    train, classes = blobs(apart=6)
    again = linear_probe(train, classes * 7 + 2, train[::-1], c=1.0)
    assert again.tolist() == (classes * 7 + 2)[::-1].tolist()
    assert (linear_probe(train, classes, train, c=1.0) == linear_probe(train, classes, train, c=1.0)).all()


def test_a_dead_feature_does_no_harm() -> None:
    train, classes = blobs(apart=6)
    train[:, 0] = 3.0
    assert (linear_probe(train, classes, train, c=1.0) == classes).all()


def brute_force_neighbour(train: Features, test: Features) -> int:
    mean = train.mean(axis=0)

    def cosine(a: Features, b: Features) -> float:
        return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)

    return int(np.argmax([cosine(test - mean, row - mean) for row in train]))


@given(seed=st.integers(0, 10_000), count=st.integers(2, 20), width=st.integers(2, 6))
def test_the_nearest_neighbour_is_the_nearest(seed: int, count: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    train = (rng.normal(size=(count, width)) + 3).astype(np.float32)
    test = (rng.normal(size=(5, width)) + 3).astype(np.float32)
    classes = np.arange(count) * 3
    expected = [classes[brute_force_neighbour(train, one)] for one in test]
    assert nearest_neighbour(train, classes, test).tolist() == expected


def test_neighbours_are_centred_on_the_training_mean_and_compared_by_angle() -> None:
    train = np.array([[11, 10], [10, 11], [9, 9]], dtype=np.float32)
    # Far out in the direction of the first one; without centring, every angle is 45 degrees.
    test = np.array([[15, 10.5], [9.5, 30]], dtype=np.float32)
    assert nearest_neighbour(train, np.array([0, 1, 2]), test).tolist() == [0, 1]
    assert nearest_neighbour(train, np.array([0, 1, 2]), train).tolist() == [0, 1, 2]
