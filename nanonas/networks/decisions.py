"""What a network decided, whatever space it is of: which kernels, how wide, how deep, with how many
skips.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from nanonas.networks.network import Network
from nanonas.networks.ops import Node

Value = float | str
THIRDS = ("early", "middle", "late")  # of the convolutions but projections, from the image on

# How the effect of each decision is put. A number: what one more of it, or all against none, does;
# a word: what it does against all the others. True: the size of a network follows from it, so that
# it is not compared at equal size.
NUMBERS: Mapping[str, tuple[str, bool]] = {
    "convolutions": ("one more convolution", True),
    "early filters": ("twice as many filters early", True),
    "late filters": ("twice as many filters late", True),
    "halvings": ("the map halved once more", True),
    "dense": ("one more dense layer", False),
    "dropouts": ("one more dropout", False),
    "added skips": ("one more added skip", False),
    "concatenated skips": ("one more concatenated skip", False),
    "separable": ("all convolutions separable, against none", False),
    "normed": ("a norm behind every convolution, against none", False),
}
WORDS: Mapping[str, str] = {
    **{f"{third} kernel": f"{third} convolutions mostly {{}}" for third in THIRDS},
    "activation": "activations mostly {}",
    "halved by": "maps halved mostly by {}",
}


def decisions(network: Network) -> dict[str, Value]:
    """Numbers and words by the names of `NUMBERS` and `WORDS`; what a network has not decided is
    left out.
    """
    ops = Counter(node.op for node in network.nodes)
    families = Counter(node.traits.family for node in network.nodes)
    layers = [
        node
        for node in network.nodes
        if node.traits.family == "conv" and node.name not in network.projections
    ]
    depthwise = sum(node.grouped for node in layers)
    # the 1×1 half of a separable convolution is counted, its depthwise half is not
    whole = len(layers) - depthwise
    decided: dict[str, Value] = {
        "convolutions": float(whole),
        "dense": float(families["dense"] - 1),
        "dropouts": float(ops["dropout"]),
        "added skips": float(ops["add"]),
        "concatenated skips": float(ops["concat"]),
        "halvings": _halvings(network),
    }
    if layers:
        decided["separable"] = depthwise / max(1, whole)
        decided["normed"] = sum(_normed(network, node) for node in layers) / max(1, whole)
        thirds = dict(zip(THIRDS, _thirds(layers), strict=True))
        for third, part in thirds.items():
            if part:
                kernels = [node.kernel for node in _spatial(part)]
                decided[f"{third} kernel"] = _most([f"{kernel}×{kernel}" for kernel in kernels])
        for third in ("early", "late"):
            widths = [math.log2(node.shape[0]) for node in thirds[third]]
            if widths:
                decided[f"{third} filters"] = sum(widths) / len(widths)
    activations = [node for node in network.nodes if node.traits.family == "act"]
    if activations:
        decided["activation"] = _most(
            [str(node.values.get("kind", node.op)) for node in activations]
        )
    halvers = [halver for node in network.nodes if (halver := _halver(node))]
    if halvers:
        decided["halved by"] = _most(halvers)
    return decided


def _normed(network: Network, node: Node) -> bool:
    return any(reader.traits.family == "norm" for reader in network.readers[node.name])


def _thirds(layers: Sequence[Node]) -> list[Sequence[Node]]:
    """The first third, what is between, and the last third; of fewer than three layers none is in
    the middle.
    """
    third = max(1, round(len(layers) / 3))
    late = max(third, len(layers) - third)
    return [layers[:third], layers[third:late], layers[late:]]


def _spatial(layers: Sequence[Node]) -> Sequence[Node]:
    """Without the 1×1 halves of separable convolutions, unless there is nothing else."""
    depthwise = {node.name for node in layers if node.grouped}
    spatial = [node for node in layers if node.kernel != 1 or node.inputs[0] not in depthwise]
    return spatial or layers


def _halver(node: Node) -> str:
    """What a node halves the map by; "" where it does not, or only makes shapes fit."""
    if node.stride == 1:
        return ""
    family = node.traits.family
    if family == "conv":
        return "" if node.kernel == 1 and not node.grouped else "strides"
    if family == "pool":
        words = node.traits.words or node.op
        return f"{words}ing" if words.endswith("pool") else words
    return ""


def _halvings(network: Network) -> float:
    maps = [node.shape for node in network.nodes if len(node.shape) == 3]
    side = max(network.input_shape[1:])
    smallest = min((max(shape[1:]) for shape in maps), default=1)
    return round(math.log2(side / smallest), 6)


def _most(words: Sequence[str]) -> str:
    """The most frequent one; ties go to the first."""
    return Counter(words).most_common(1)[0][0]
