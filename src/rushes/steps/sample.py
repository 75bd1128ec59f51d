"""`rushes sample`: pinned videos to footage: small H.264 in immutable shards, and an index with a row a segment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rushes.config import Recipe, digest_record
from rushes.steps.base import Build, Context, read_input, reported, run_step
from rushes.store import Manifest


@reported("sample")
def sample(*, recipe: Recipe, pin: Path, out: Path) -> Manifest:
    """Samples every file that the pin lists; what cannot be used is quarantined with its reason.

    Args:
        recipe: section `sample` counts.
        pin: pointer from `pin`.
        out: where the pointer to the footage goes.
    """
    source = read_input(pin, "pin")
    return run_step(
        "sample",
        kind="footage",
        config=digest_record(recipe.sample),
        inputs={"pin": source},
        out=out,
        build=lambda context: _build(context, recipe=recipe, source=source),
    )


def _build(context: Context, *, recipe: Recipe, source: Manifest) -> Build:
    from rushes.footage.labels import Annotation
    from rushes.footage.sample import Source, sample_footage

    def build(folder: Path, digest: str) -> Mapping[str, Any]:
        listing = json.loads(context.store.checked(source.files["listing.json"]).read_text())
        summary: Mapping[str, Any] = sample_footage(
            root=source.summary["root"],
            sources=[Source(path=path, sha256=sha256, size=size) for path, sha256, size in listing["files"]],
            annotations=[Annotation(**record) for record in listing["annotations"]],
            config=recipe.sample,
            store=context.store,
            digest=digest,
            out=folder,
            progress=context.progress,
        )
        return summary

    return build
