"""Forward passes over whole segments: clip features and logits, averaged over the evenly spaced clips."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from rushes.progress import Bar
from rushes.training.data import EvenClips

Network = Callable[[Tensor], Tensor]
"""I420 clips, uint8 [N, T, S*3/2, S] -> something float per clip [N, k]."""


@torch.no_grad()
def clip_means(
    data: EvenClips, networks: Mapping[str, Network], *, device: torch.device, batch: int, bar: Bar
) -> dict[str, npt.NDArray[np.float32]]:
    """Runs every network over every segment, decoding once; returns means over the clips of a segment, [n, k] each."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in networks}
    segments = max(batch // data.clips, 1)
    for clips, _ in DataLoader(data, batch_size=segments):
        flat = clips.flatten(0, 1).to(device)
        for name, network in networks.items():
            per_clip = network(flat)
            outputs[name].append(per_clip.view(*clips.shape[:2], -1).mean(dim=1).cpu())
        bar.advance(len(clips))
    return {name: torch.cat(parts).numpy().astype(np.float32) for name, parts in outputs.items()}
