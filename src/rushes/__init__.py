"""Rushes: from raw, unlabelled video to a served action-recognition model.

Importing this package is cheap: no torch, no side effects. Start at `rushes --help`, or with the Python API:
`rushes.load_backbone("artifacts/pretrain.json").video_features("clip.mp4")` (`rushes.api`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rushes.api import (
        TupleDataset,
        VideoBackbone,
        VideoClassifier,
        load_backbone,
        load_classifier,
        load_footage,
        sample_footage,
    )

__version__ = "0.1.0"

__all__ = [
    "TupleDataset",
    "VideoBackbone",
    "VideoClassifier",
    "load_backbone",
    "load_classifier",
    "load_footage",
    "sample_footage",
]


def __getattr__(name: str) -> Any:
    """The names of the API, imported on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'rushes' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module("rushes.api"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"rushes.{name} needs {error.name}: pip install 'rushes[train]'", name=error.name) from error
