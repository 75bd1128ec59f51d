"""Protocols for frozen features: a linear probe and the nearest neighbour, fitted to the training segments."""

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Classes = npt.NDArray[np.int64]


def linear_probe(train: Features, classes: Classes, test: Features, *, c: float) -> Classes:
    """Predicted classes [m] of `test` [m, d] by a logistic regression on standardised `train` [n, d].

    `c` is fixed in the recipe, not searched: with few labels there is no data to search on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
    probe.fit(train.astype(np.float64), classes)
    predicted: Classes = probe.predict(test.astype(np.float64))
    return predicted


def nearest_neighbour(train: Features, classes: Classes, test: Features) -> Classes:
    """Class of the nearest training segment by cosine, [m]; features are centred on the training mean first."""
    mean = train.mean(axis=0)
    nearest = (_unit(test - mean) @ _unit(train - mean).T).argmax(axis=1)
    answers: Classes = classes[nearest]
    return answers


def _unit(vectors: Features) -> Features:
    unit: Features = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
