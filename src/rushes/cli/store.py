"""The group "Store": store accept, store accepted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class StoreAccept:
    """Says that a step's outputs by earlier code stand, so that an upgrade does not make them again.

    rushes store accept pretrain --from 7122f6971e53d699 --reason "only an error message changed"
    """

    step: Positional[str]
    """The step whose outputs these are: sample, pretrain, finetune, measure, evaluate or export."""
    earlier: Annotated[str, arg(name="from")]
    """Code that made them, as their manifests say; with an unknown one, the codes in the store are listed."""
    reason: str = ""
    """Why they stand. Lineage shows it: manifests, and the tags of what is registered."""
    by: str = ""
    """Whose word it is; default: the user's name."""
    plugin: tuple[Path, ...] = ()
    """Files that define tasks or backbones of these outputs."""

    def execute(self) -> int:
        from rushes.commands.store import accept

        return accept(self.step, earlier=self.earlier, reason=self.reason, by=self.by)


@dataclass(frozen=True, kw_only=True)
class StoreAccepted:
    """Lists which outputs of earlier code stand, by whose word and why."""

    def execute(self) -> int:
        from rushes.commands.store import accepted

        return accepted()
