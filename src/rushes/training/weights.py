"""Weights in and out: safetensors only, every key accounted for."""

import json
from typing import Any

from safetensors.torch import load_file
from torch import nn

from rushes.errors import UserError
from rushes.store import Manifest, Store
from rushes.training.networks import Classifier


def read_model(manifest: Manifest, store: Store) -> dict[str, Any]:
    """The description that lies beside a backbone's or classifier's weights (`model.json`)."""
    model: dict[str, Any] = json.loads(store.checked(manifest.files["model.json"]).read_text())
    return model


def load_backbone(net: nn.Module, manifest: Manifest, store: Store) -> None:
    """Loads `weights.safetensors` into a network, all keys or none.

    Raises:
        UserError: keys or shapes differ; the message names the first ones.
    """
    weights = load_file(store.checked(manifest.files["weights.safetensors"]))
    own = net.state_dict()
    wrong = [key for key in own if key not in weights or weights[key].shape != own[key].shape]
    extra = [key for key in weights if key not in own]
    if wrong or extra:
        raise UserError(
            f"{manifest.ref}: weights of another network: {len(wrong)} of {len(own)} keys missing or of another shape "
            f"({', '.join(wrong[:3])}), {len(extra)} unknown ({', '.join(extra[:3])}): check pretrain.backbone"
        )
    net.load_state_dict(weights)


def load_classifier(manifest: Manifest, store: Store) -> tuple[Classifier, dict[str, Any]]:
    """Rebuilds the classifier of a manifest, in evaluation mode, and its description."""
    model = read_model(manifest, store)
    net = Classifier(backbone=model["backbone"], classes=len(model["labels"]))
    load_backbone(net, manifest, store)
    return net.eval(), model
