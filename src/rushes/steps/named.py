"""What a name stands for: a pointer file, a store ref whose digest may be abbreviated, or a registered model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rushes.errors import UserError
from rushes.home import home_folder
from rushes.store import Manifest, Store

_REGISTERED = "models:/"
_FILES: Mapping[str, tuple[str, ...]] = {
    "backbone": ("model.json", "weights.safetensors"),
    "classifier": ("model.json", "weights.safetensors"),
    "footage": ("index.parquet", "shards.parquet"),
}
"""What an output of each kind has at least."""


def find_source(source: str | Path, store: Store, *, kinds: Sequence[str]) -> Manifest:
    """The manifest that a source names.

    Args:
        source: a pointer file, STEP/DIGEST, or "models:/NAME@ALIAS" or "models:/NAME/VERSION".
        store: where refs are looked up.
        kinds: kinds of the manifest that are allowed.

    Raises:
        UserError: nothing is found, or something else.
        ServiceError: MLflow does not answer.
    """
    if not isinstance(source, (str, Path)):
        raise UserError(f"source: {source!r} is not allowed; text or a path")
    manifest = _manifest(str(source), store)
    if manifest.kind not in kinds:
        raise UserError(f"{source}: of kind {manifest.kind!r}; expected {' or '.join(kinds)}")
    missing = [name for name in _FILES[manifest.kind] if name not in manifest.files]
    if missing:
        raise UserError(
            f"{source}: a {manifest.kind} without {' and '.join(missing)}: run `rushes {manifest.step}` again"
        )
    return manifest


def _manifest(source: str, store: Store) -> Manifest:
    if source.startswith(_REGISTERED):
        return _stored(_registered_classifier(source), store, source=source)
    if _is_file(source):
        return Manifest.read(Path(source))
    step, slash, digest = source.partition("/")
    if not (slash and step.isidentifier() and digest and "/" not in digest):
        raise UserError(f"source: {source!r} is no file; a pointer, STEP/DIGEST, or models:/NAME@ALIAS")
    return _stored(source, store, source=source)


def _is_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except OSError:  # longer than a path may be
        return False


def _registered_classifier(source: str) -> str:
    """Ref of the classifier behind a registered model."""
    from rushes.tracking.registry import Registry  # here: loading from a file needs no MLflow
    from rushes.tracking.server import tracking_url

    tags = Registry(tracking_url(home_folder())).tags(source.removeprefix(_REGISTERED))
    if "rushes.classifier" not in tags:
        raise UserError(f"{source}: not registered by rushes (no tag rushes.classifier)")
    return tags["rushes.classifier"]


def _stored(ref: str, store: Store, *, source: str) -> Manifest:
    step, _, digest = ref.partition("/")
    names = [name.removesuffix(".json") for name in store.names(f"steps/{step}") if name.startswith(digest)]
    if len(names) > 1 and digest not in names:
        raise UserError(f"{source}: {len(names)} outputs of {step} begin so ({', '.join(names[:3])}): give more digits")
    manifest = store.find(f"{step}/{digest if digest in names else names[0]}") if names else None
    if manifest is None:
        raise UserError(f"{source}: {ref} is not in the store {store.url}: set RUSHES_STORE, or run the step")
    return manifest
