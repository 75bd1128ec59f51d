"""What a client gets for a video, from a server or from a graph in its own process."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Actions in one video."""

    labels: tuple[str, ...]
    """Class names of the version that answered."""
    probabilities: tuple[float, ...]
    """One per label, in the same order."""
    embedding: tuple[float, ...]
    """Mean over the clips of the network's features."""
    version: int | None
    """Registry version that answered; None for a bundle outside an endpoint."""
    onnx_sha256: str
    """Identity of the graph that answered."""
    request_id: str
    """Chosen by the client, else by the server."""
    served_by: Literal["triton", "in-process"]
    """A Triton server, or the same graph in this process."""

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The most probable labels with their probabilities, best first; ties in the order of their names."""
        ranked = sorted(zip(self.labels, self.probabilities, strict=True), key=lambda pair: (-pair[1], pair[0]))
        return ranked[:count]

    def to_record(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return dataclasses.asdict(self)
