"""The key of Triton's control: without it nobody loads a model, which is to run code, or changes how Triton works.

    <home>/servers/triton.key   of the Triton that `rushes up` starts; made once, and only its owner may read it
    RUSHES_TRITON_KEY           of any other Triton, such as a cluster's

Clients need no key: they ask for predictions, health and what a model takes.
"""

import secrets
from pathlib import Path

from rushes.errors import UserError
from rushes.store import write_atomic

KEY_VARIABLE = "RUSHES_TRITON_KEY"
HEADER = "rushes-key"
"""HTTP header with the key; in gRPC, `GRPC_PREFIX` stands before it."""
GRPC_PREFIX = "triton-grpc-protocol-"
CLOSED_APIS = ("model-repository", "model-config", "shared-memory", "statistics", "trace", "logging")
"""Triton's APIs that need the key; inference, health and metadata do not."""
FLAGS = ("--http-restricted-api", "--grpc-restricted-protocol")


def make_key(home: Path) -> str:
    """The key of this home; a new one where there is none, or where others may read it."""
    path = _path(home)
    if not path.is_file() or path.stat().st_mode & 0o077:
        write_atomic(path, secrets.token_urlsafe(32).encode(), private=True)
    return path.read_text()


def read_key(home: Path) -> str | None:
    """The key of this home, or None before its first Triton.

    Raises:
        UserError: it is another user's.
    """
    try:
        return _path(home).read_text()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise UserError(f"{_path(home)}: another user's: only who starts Triton may load models") from None


def closing_arguments(key: str) -> list[str]:
    """The arguments with which Triton demands the key, in the order of `FLAGS`."""
    return [f"{flag}={','.join(CLOSED_APIS)}:{HEADER}={key}" for flag in FLAGS]


def _path(home: Path) -> Path:
    return home / "servers" / "triton.key"
