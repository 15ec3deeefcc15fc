"""Every operation, in some of its forms, and networks around them."""

from __future__ import annotations

from typing import Any

import torch

from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import ACTIVATIONS, Attribute
from nanonas.training.modules import NetworkModule, build_module

# an odd side, and not a square: a height and width mixed up would show
SHAPE, CLASSES = (3, 9, 8), 4

EXAMPLES: dict[
    str, list[tuple[str, dict[str, Attribute]]]
] = {  # an operation, in some of its forms
    "conv": [
        ("conv", {"filters": 6, "kernel": 3, "stride": 1, "groups": 1, "bias": True}),
        ("conv", {"filters": 6, "kernel": 5, "stride": 2, "groups": 3, "bias": False}),
        ("conv", {"filters": 2, "kernel": 1, "stride": 2, "groups": 1, "bias": False}),
    ],
    "norm": [("norm", {})],
    "group_norm": [("group_norm", {"parts": 3}), ("group_norm", {"parts": 1})],
    "layer_norm": [("layer_norm", {})],
    "act": [("act", {"kind": kind}) for kind in ACTIVATIONS],
    "maxpool": [("maxpool", {"kernel": k, "stride": s}) for k, s in [(2, 2), (3, 2), (3, 1)]],
    "avgpool": [("avgpool", {"kernel": k, "stride": s}) for k, s in [(2, 2), (3, 2), (3, 1)]],
    "globalpool": [("globalpool", {})],
    "globalmaxpool": [("globalmaxpool", {})],
    "space_to_depth": [("space_to_depth", {"stride": 2}), ("space_to_depth", {"stride": 4})],
    "slice": [("slice", {"start": 0, "stop": 2}), ("slice", {"start": 1, "stop": 3})],
    "squeeze_excite": [("squeeze_excite", {"hidden": 2})],
    "channel_attention": [("channel_attention", {"span": 3})],
    "spatial_attention": [("spatial_attention", {"kernel": 5})],
    "dropout": [("dropout", {"rate": 0.3})],
    "zero": [("zero", {})],
    "dense": [("dense", {"units": 7})],
    "add": [("add", {})],
    "concat": [("concat", {})],
}
CASES = [(op, attributes) for forms in EXAMPLES.values() for op, attributes in forms]


def with_operation(op: str, attributes: dict[str, Any]) -> Network:
    """A network of one operation, "subject", and what it takes to have logits."""
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("globalpool", "input") if op == "dense" else "input"
    inputs = (x, x) if op in ("add", "concat") else (x,)
    y = draft.add(op, *inputs, name="subject", **attributes)
    pooled = y if len(draft.shape(y)) == 1 else draft.add("globalpool", y)
    return draft.finish(draft.add("dense", pooled, units=CLASSES))


def lived(network: Network, seed: int = 0) -> NetworkModule:
    """Its module in eval mode, as after a training: no tensor is as it was initialised, and norms
    have seen maps of other means and variances than 0 and 1.
    """
    module, generator = build_module(network, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.3, 3.0, generator=generator)
            elif tensor.dim() == 1 and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5, generator=generator)
                tensor[::3] *= -1
            elif tensor.dim() == 1:
                tensor.normal_(0.0, 0.3, generator=generator)
    return module.eval()
