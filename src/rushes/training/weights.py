"""Weights in and out: every key accounted for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rushes.backbones.backbone import Backbone, Names
from rushes.errors import UserError
from rushes.store import Manifest, Store
from rushes.training.networks import Classifier

Weights = dict[str, Tensor]


def read_model(manifest: Manifest, store: Store) -> dict[str, Any]:
    """The description stored beside a backbone's or classifier's weights (`model.json`)."""
    model: dict[str, Any] = json.loads(store.checked(manifest.files["model.json"]).read_text())
    return model


def load_backbone(net: nn.Module, manifest: Manifest, store: Store) -> None:
    """Loads `weights.safetensors` into a network, all keys or none.

    Raises:
        UserError: keys or shapes differ; the message names the first ones.
    """
    weights = load_file(store.checked(manifest.files["weights.safetensors"]))
    net.load_state_dict(_complete(weights, net.state_dict(), source=manifest.ref))


def load_start(net: Backbone, file: Path | None, *, source: str) -> None:
    """Loads initial weights: our own (a classifier's, without its head), or torchvision's.

    Args:
        net: keeps its random weights only where `Backbone.torchvision` says that the file has none.
        file: a state dict as safetensors, or torch's (no code in it is run); None keeps the random weights.
        source: names the file in errors.

    Raises:
        UserError: it is no state dict, or another network's; the message names the first keys.
    """
    if file is None:
        return
    weights, own = read_state_dict(file, source=source), net.state_dict()
    if any(key.startswith("backbone.") for key in weights):
        weights = renamed(weights, Names(ours={"backbone.": ""}, dropped=("head.",)))
    elif net.torchvision is not None and not set(weights) <= set(own):
        weights = renamed(weights, net.torchvision)
        random = {key: value for key, value in own.items() if key.startswith(net.torchvision.random)}
        weights = random | weights
    net.load_state_dict(_complete(weights, own, source=source))


def read_state_dict(file: Path, *, source: str) -> Weights:
    """Reads a file of named tensors.

    Raises:
        UserError: the file is something else; the message says what.
    """
    with file.open("rb") as opened:
        head = opened.read(9)
    try:
        # A safetensors file begins with the length of its JSON header, in 8 bytes.
        found = load_file(file) if head[8:] == b"{" else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever a malformed pickle makes it raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: no state dict of torch or safetensors ({reason})") from error
    if not isinstance(found, Mapping):
        raise UserError(f"{source}: holds a {type(found).__name__}; expected a state dict: save net.state_dict()")
    other = [str(key) for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if other or not found:
        holds = f"other things than tensors ({', '.join(other[:3])})" if other else "nothing"
        raise UserError(f"{source}: holds {holds}; expected a state dict: save net.state_dict()")
    return dict(found)


def renamed(weights: Weights, names: Names) -> Weights:
    """Weights under our names, without those dropped; keys that `names` does not know stay as they are."""
    kept: Weights = {}
    for key, value in weights.items():
        if key.startswith(names.dropped):
            continue
        begin = next((theirs for theirs in names.ours if key.startswith(theirs)), None)
        kept[key if begin is None else names.ours[begin] + key.removeprefix(begin)] = value
    return kept


def load_classifier(manifest: Manifest, store: Store) -> tuple[Classifier, dict[str, Any]]:
    """Rebuilds the classifier of a manifest, in evaluation mode, and its description."""
    model = read_model(manifest, store)
    net = Classifier(backbone=model["backbone"], classes=len(model["labels"]))
    load_backbone(net, manifest, store)
    return net.eval(), model


def _complete(weights: Weights, own: Weights, *, source: str) -> Weights:
    """The weights, if they have exactly the network's keys and shapes."""
    missing = [key for key in own if key not in weights]
    shapes = [
        f"{key} is {list(weights[key].shape)}, not {list(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    extra = [key for key in weights if key not in own]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', ...' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("of another shape", shapes), ("unknown", extra))
        if found
    ]
    if problems:
        raise UserError(
            f"{source}: weights of another network: of {len(own)} keys {'; '.join(problems)}: check pretrain.backbone"
        )
    return weights
