"""The models of a run, as plain data and as artifacts: several may be trained side by side, one goes on."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from rushes.strict import Json


def recipe_of(name: str, records: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """The recipe of a model, as plain data."""
    return dict(next(record for record in records if record["name"] == name))


def pass_on(name: str, made: Sequence[Any], to: Any) -> None:
    """Copies the pointer of a model's artifact to another artifact; `made` may be in any order."""
    (own,) = [artifact for artifact in made if artifact.metadata["model"] == name]
    shutil.copyfile(own.path, to.path)
    to.metadata.update(own.metadata)
