"""Rushes: from raw, unlabelled video to a served action-recognition model.

Importing this package is cheap: no torch, no side effects. Start at `rushes --help`.
"""

__version__ = "0.1.0"
