"""What lies behind footage and what was trained on it: the original files, and how their frames were encoded."""

from dataclasses import dataclass
from pathlib import Path

from rushes.footage.sources import located
from rushes.store import Manifest, Store
from rushes.video.coding import Encoding


@dataclass(frozen=True, kw_only=True)
class OriginalFiles:
    """The files that footage was sampled from."""

    root: str
    """Folder or URL that their paths are relative to."""
    segment_seconds: float
    """Length up to which a file is one segment."""

    @classmethod
    def of(cls, footage: Manifest, store: Store) -> "OriginalFiles | None":
        """The files of some footage; None where they cannot be reached, or nothing says where they are."""
        pin = store.find(footage.inputs["pin"]) if "pin" in footage.inputs else None
        root = str(pin.summary.get("root", "")) if pin else ""
        if not root or not _reachable(root):
            return None
        return cls(root=root, segment_seconds=float(footage.config["segment_seconds"]))


def encoding_of(trained: Manifest, store: Store) -> Encoding | None:
    """How the footage of a backbone or classifier is encoded; None where the store does not hold that footage."""
    footage = store.find(trained.inputs["footage"]) if "footage" in trained.inputs else None
    return footage_encoding(footage) if footage is not None else None


def footage_encoding(footage: Manifest) -> Encoding:
    """How some footage is encoded."""
    return Encoding(codec="h264", **{name: footage.config[name] for name in ("short_side", "qp", "gop")})


def _reachable(root: str) -> bool:
    if isinstance(located(root, ""), Path):
        return Path(root).is_dir()
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(root)
        return bool(system.exists(path))
    except Exception:  # no credentials, no network, no such protocol: each file system has its own errors
        return False
