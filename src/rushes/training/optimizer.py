"""The update rule that a recipe names, and its learning rate over the steps."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from rushes.config import Optimizer


def make_optimizer(net: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over all parameters that train; biases in a group of their own if they differ."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if config.bias_lr != 1 or not config.bias_decay:
        layers = [m for m in net.modules() if isinstance(m, (_ConvNd, nn.Linear))]
        biases = [layer.bias for layer in layers if layer.bias is not None and layer.bias.requires_grad]
        known = {id(bias) for bias in biases}
        decay = config.weight_decay if config.bias_decay else 0.0
        groups = [
            {"params": [p for p in parameters if id(p) not in known]},
            {"params": biases, "lr": config.lr * config.bias_lr, "weight_decay": decay},
        ]
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if parameters and all(p.is_cuda for p in parameters):
        shared["fused"] = True  # one kernel for all parameters
    if config.name == "adamw":
        return torch.optim.AdamW(groups, **shared)
    return torch.optim.SGD(groups, momentum=config.momentum, **shared)


def learning_rate_factor(step: int, *, steps: int, optimizer: Optimizer) -> float:
    """Share of the peak learning rate at a step.

    Linear warm-up; then constant, a tenth after each milestone, or half a cosine down to 0.
    """
    if step < optimizer.warmup_steps:
        return (step + 1) / optimizer.warmup_steps
    if optimizer.schedule == "constant":
        return 1.0
    if optimizer.schedule == "step":
        return float(0.1 ** sum(step >= share * steps for share in optimizer.milestones))
    done = (step - optimizer.warmup_steps) / max(steps - optimizer.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
