"""The contrastive add-on: clips of the same shot are alike, clips of others are not (facts: methods.md, PCL 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 0.07  # the usual one [?]: the paper's could not be read
_PROJECTED = 128


def projection(features: int) -> nn.Module:
    """The head that contrast is measured behind, and that is thrown away with the task's: [N, features] -> [N, 128]."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, _PROJECTED))


def info_nce(projected: Tensor, groups: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """InfoNCE over all pairs of clips of one group; what is contrasted with each are the clips of other groups.

    For a clip i, another j of its group, and all clips n of other groups, with s the cosine similarity over the
    temperature: -log(exp(s_ij) / (exp(s_ij) + sum_n exp(s_in))), the mean over all (i, j). Further clips of i's group
    are in no denominator, so that the loss can reach 0.

    Args:
        projected: [N, D], of any length.
        groups: [N] integers: which clips belong together.
        temperature: what similarities are divided by.

    Returns:
        The scalar; 0 where no group has two clips.
    """
    unit = F.normalize(projected, dim=1)
    similarity = unit @ unit.T / temperature
    same = groups[:, None] == groups[None, :]
    others = similarity.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
    losses = F.softplus(others - similarity)
    pairs = same & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    return (losses * pairs).sum() / pairs.sum().clamp(min=1)
