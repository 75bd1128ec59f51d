"""What a client gets for a video, whoever computed it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Actions in one video."""

    labels: tuple[str, ...]
    """Class names of the version that answered."""
    probabilities: tuple[float, ...]
    """One a label, in the same order."""
    embedding: tuple[float, ...]
    """Mean over the clips of the network's features."""
    version: int | None
    """Registry version that answered; None for a bundle that no endpoint serves."""
    onnx_sha256: str
    """Identity of the graph that answered."""
    request_id: str
    """Given by the client, or drawn by the server."""
    served_by: Literal["triton", "in-process"]
    """A server, or the same graph in this process."""

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable labels with their probabilities, best first; equals in the order of their names."""
        ranked = sorted(zip(self.labels, self.probabilities, strict=True), key=lambda pair: (-pair[1], pair[0]))
        return ranked[:count]

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)
