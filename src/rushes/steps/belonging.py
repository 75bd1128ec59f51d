"""Whether the pointers given to a step belong together, by the content of what each was made from.

A manifest names its inputs by ref, and several refs may stand for one content: a step that ran again may have made the
bytes that it had made before (`rushes.steps.identity`). So contents are compared, and refs only shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rushes.digests import step_digest
from rushes.errors import UserError
from rushes.store import Manifest, Store


@dataclass(frozen=True, kw_only=True)
class Given:
    """A pointer, under the name of the field in which it was given."""

    field: str
    manifest: Manifest

    def __str__(self) -> str:
        return f"{self.field}: {self.manifest.ref}"


def require_input(made: Given, given: Given, *, name: str, store: Store) -> None:
    """Checks that `given` is, by content, the input `name` of `made`.

    Raises:
        UserError: it is another, or the input is not in the store any more.
    """
    source = _input(made, name, store)
    if source.content != given.manifest.content:
        raise UserError(
            f"{made} was made from {name} {source.ref}, and {given.field} is {given.manifest.ref}: give the pointers "
            f"of one run, or run `rushes {made.manifest.step}` on {given.manifest.ref}"
        )


def same_content(ref: str, given: Manifest, store: Store) -> bool:
    """Whether a ref stands for the content of a manifest."""
    if ref == given.ref:
        return True
    found = store.find(ref)
    return found is not None and found.content == given.content


def require_fair_baseline(classifier: Given, baseline: Given) -> None:
    """Checks that only the weights that they began with tell a classifier from its baseline, whose were random.

    Raises:
        UserError: they were fine-tuned in another way, or from other weights.
    """
    first, second = dict(classifier.manifest.config), dict(baseline.manifest.config)
    if second["init"] != "random" or first["init"] == "random":
        raise UserError(
            f"{baseline} was fine-tuned with init {second['init']!r}, {classifier} with {first['init']!r}; expected "
            "'random' and other weights: run `rushes finetune --init random` for the baseline"
        )
    for name in sorted((first.keys() | second.keys()) - {"init"}):
        if first.get(name) != second.get(name):
            raise UserError(
                f"{baseline} was fine-tuned with {name} {second.get(name)!r}, {classifier} with {first.get(name)!r}: "
                "run `rushes finetune --init random` with the classifier's recipe"
            )


def _input(made: Given, name: str, store: Store) -> Manifest:
    """The input of an output, which is in the store as it was when the output was made from it."""
    manifest = made.manifest
    found = {key: store.find(ref) for key, ref in manifest.inputs.items()}
    source = found.get(name)
    if source is None:
        ref = manifest.inputs.get(name, "that its manifest does not name")
        raise UserError(
            f"{made} was made from {name} {ref}, which is not in the store {store.url}: run "
            f"`rushes {manifest.step}` again"
        )
    if manifest.code and not _is_reproduced(manifest, found):
        inputs = ", ".join(sorted(manifest.inputs.values()))
        raise UserError(
            f"{made}: its inputs ({inputs}) were made again since, with other bytes: run the steps that make them, and "
            f"`rushes {manifest.step}`, again"
        )
    return source


def _is_reproduced(manifest: Manifest, found: Mapping[str, Manifest | None]) -> bool:
    """Whether the digest is that of these inputs: of their contents, or of their refs (version 0.1)."""
    contents = {name: source.content if source else "" for name, source in found.items()}
    digests = [
        step_digest(step=manifest.step, config=manifest.config, inputs=inputs, code=manifest.code)
        for inputs in (contents, manifest.inputs)
    ]
    return manifest.digest in digests
