"""The group "Store": store accept, store accepted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class StoreAccept:
    """Accepts a step's outputs of earlier code, so that an upgrade does not make them again.

    rushes store accept pretrain --from 7122f6971e53d699 --reason "only an error message changed"
    """

    step: Positional[str]
    """Step that made the outputs: sample, pretrain, finetune, measure, evaluate or export."""
    earlier: Annotated[str, arg(name="from")]
    """Digest of the code that made them, from their manifests (for an unknown one, the known ones are listed); or the
    ref of one of them, where one code made some with several codes of a task or a backbone."""
    reason: str = ""
    """Why they are still valid. Manifests and the tags of registered models show it."""
    by: str = ""
    """Name of the person who accepts. Default: the name of the user."""
    plugin: tuple[Path, ...] = ()
    """Files that define tasks or backbones of these outputs."""

    def execute(self) -> int:
        from rushes.commands.store import accept

        return accept(self.step, earlier=self.earlier, reason=self.reason, by=self.by)


@dataclass(frozen=True, kw_only=True)
class StoreAccepted:
    """Lists the accepted outputs of earlier code, who accepted them and why.

    rushes store accepted
    """

    def execute(self) -> int:
        from rushes.commands.store import accepted

        return accepted()
