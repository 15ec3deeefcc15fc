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
THIRDS = (
    "early",
    "middle",
    "late",
)  # of the convolutions that are no projections, from the image on

# How an effect of each decision is said. A number: what one more of it, or all against none, does;
# a word: what it does against all the others. "size" are those that a network's size follows from:
# they are not compared at equal size.
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
    layers = [node for node in network.nodes if node.op == "conv" and not projects(network, node)]
    depthwise = [node for node in layers if node["groups"] != 1]
    whole = len(layers) - len(
        depthwise
    )  # the 1×1 half of a separable one is counted, its depthwise half is not
    found: dict[str, Value] = {
        "convolutions": float(whole),
        "dense": float(ops["dense"] - 1),
        "dropouts": float(ops["dropout"]),
        "added skips": float(ops["add"]),
        "concatenated skips": float(ops["concat"]),
        "halvings": _halvings(network),
    }
    if layers:
        found["separable"] = len(depthwise) / max(1, whole)
        normed = [
            any(reader.op == "norm" for reader in network.readers[node.name]) for node in layers
        ]
        found["normed"] = sum(normed) / max(1, whole)
        for third, some in zip(THIRDS, _thirds(layers), strict=True):
            if some:
                found[f"{third} kernel"] = _most(
                    [f"{node['kernel']}×{node['kernel']}" for node in _spatial(some)]
                )
        for third, some in (("early", _thirds(layers)[0]), ("late", _thirds(layers)[2])):
            if some:
                found[f"{third} filters"] = sum(math.log2(node.shape[0]) for node in some) / len(
                    some
                )
    if kinds := [str(node["kind"]) for node in network.nodes if node.op == "act"]:
        found["activation"] = _most(kinds)
    strided = [node for node in network.nodes if dict(node.attributes).get("stride", 1) != 1]
    if halved := [how for node in strided if (how := _halver(node))]:
        found["halved by"] = _most(halved)
    return found


def projects(network: Network, node: Node) -> bool:
    """Whether a node is there only to make shapes fit: a 1×1 convolution on the way of a skip."""
    if node.op != "conv" or node["kernel"] != 1 or node.shape == node.input_shapes[0]:
        return False
    end, after = node, network.readers[node.name]
    while len(after) == 1 and after[0].op == "norm":
        end, after = after[0], network.readers[after[0].name]
    return len(after) == 1 and after[0].op in ("add", "concat") and after[0].inputs[-1] == end.name


def _thirds(layers: Sequence[Node]) -> list[Sequence[Node]]:
    """The first third, the last one, and what is between; of fewer than three convolutions none is
    in the middle.
    """
    third = max(1, round(len(layers) / 3))
    return [
        layers[:third],
        layers[third : max(third, len(layers) - third)],
        layers[max(third, len(layers) - third) :],
    ]


def _spatial(layers: Sequence[Node]) -> Sequence[Node]:
    """Without the 1×1 halves of separable convolutions, unless there is nothing else."""
    depthwise = {node.name for node in layers if node["groups"] != 1}
    return [
        node for node in layers if not (node["kernel"] == 1 and node.inputs[0] in depthwise)
    ] or layers


def _halver(node: Node) -> str:
    if node.op == "conv":
        return "" if node["kernel"] == 1 and node["groups"] == 1 else "strides"
    return {"maxpool": "max pooling", "avgpool": "average pooling"}.get(node.op, "")


def _halvings(network: Network) -> float:
    last = [node.shape for node in network.nodes if len(node.shape) == 3]
    side = min(max(shape[1:]) for shape in last) if last else 1
    return round(math.log2(max(network.input_shape[1:]) / side), 6)


def _most(words: Sequence[str]) -> str:
    """The most frequent one; of equals the first."""
    return Counter(words).most_common(1)[0][0]
