"""What a child's network has otherwise than its parent's, in the words of somebody who edits
networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nanonas.networks.align import Alignment
from nanonas.networks.decisions import projects
from nanonas.networks.network import Network
from nanonas.networks.ops import Node

SEVERAL, REWIRED = "several edits", "other connections"
SIZES = (
    "filters",
    "units",
    "window",
    "dropout rate",
    "stride",
    "kernel",
)  # attributes that are more or less
NAMES = {  # of attributes, where they would not be understood alone
    ("act", "kind"): "activation",
    ("maxpool", "kernel"): "window",
    ("avgpool", "kernel"): "window",
    ("dropout", "rate"): "dropout rate",
}
LAYERS = {
    "maxpool": "pool",
    "avgpool": "pool",
    "dense": "dense layer",
    "dropout": "dropout",
    "zero": "zero",
}


@dataclass(frozen=True)
class Edit:
    """One thing that a child has otherwise than its parent."""

    kind: str  # "convolution added", "larger kernel", …: edits of one kind are counted together
    words: str  # with the figures, as in "kernel 3 → 5"
    of: str = ""  # the child's node, where it is one that the parent has, too


@dataclass(frozen=True)
class Difference:
    """A child against its parent."""

    edits: tuple[Edit, ...]
    marks: Mapping[str, str] = field(
        default_factory=dict
    )  # "new" or "changed", by the name of a node of the child
    gone: tuple[Node, ...] = ()  # the parent's nodes that it lacks

    @property
    def kind(self) -> str:
        """That of its edits, where they are of one kind; else one of the constants above."""
        kinds = {edit.kind for edit in self.edits}
        return self.edits[0].kind if len(kinds) == 1 else SEVERAL if kinds else REWIRED


def edits(parent: Network, child: Network, alignment: Alignment) -> tuple[Edit, ...]:
    """The edits that an alignment shows, without what only follows from them.

    A norm or an activation belongs to the layer before it, the 1×1 convolution that makes shapes
    fit belongs to its skip, and a layer that only sees other shapes is as it was.
    """
    found = [*_layers(child, alignment.new, "added"), *_layers(parent, alignment.gone, "removed")]
    for name, before in alignment.changed.items():
        found += _changes(parent, parent.named[before], child, child.named[name])
    return _merged(found)


def in_words(found: tuple[Edit, ...]) -> list[str]:
    """Edits for people: "conv4: kernel 3 → 5"; what was done several times is said once."""
    places: dict[str, list[str]] = {}
    for edit in found:
        places.setdefault(edit.words, []).append(edit.of)
    return [
        f"{words} ({len(of)} times)" if len(of) > 1 else f"{of[0]}: {words}" if of[0] else words
        for words, of in places.items()
    ]


def _separable(network: Network, node: Node) -> bool:
    """Whether a node is the 1×1 half of a separable convolution."""
    before = network.named.get(node.inputs[0])
    return node.op == "conv" and before is not None and _depthwise(before) and node["kernel"] == 1


def _fits(network: Network, name: str) -> bool:
    """Whether a node only makes shapes fit: a projection, or the norm or pool behind or before it."""
    node = network.named.get(name)
    while node is not None and node.op in ("norm", "globalpool"):
        node = network.named.get(node.inputs[0])
    return node is None or projects(network, node)


def _layers(network: Network, names: tuple[str, ...], done: str) -> list[Edit]:
    """What was added, or removed: layers with what belongs to them."""
    return [
        Edit(f"{kind} {done}", f"{words} {done}")
        for name in names
        if (said := _layer(network, name, names))
        for kind, words in [said]
    ]


def _layer(network: Network, name: str, names: tuple[str, ...]) -> tuple[str, str] | None:
    """The kind of a layer, and in words; None for what belongs to another one of `names`, or makes
    shapes fit.
    """
    node = network.named[name]
    follows = any(source in names for source in node.inputs)
    leads = all(reader.op == "conv" and reader.name in names for reader in network.readers[name])
    if node.op == "norm":
        return None if follows else ("norm", "norm")
    if node.op == "act":
        return None if follows or leads else ("activation", f"activation {node['kind']}")
    if node.op in ("add", "concat"):
        ends = [source for source in node.inputs if source in names and not _fits(network, source)]
        return None if ends else ("skip", f"skip ({node.op})")
    if node.op == "conv":
        if projects(network, node) or (follows and _separable(network, node)):
            return None
        kind = "separable convolution" if _depthwise(node) else "convolution"
        return kind, f"{kind} {node['kernel']}×{node['kernel']}, {node.shape[0]} channels"
    return (LAYERS[node.op], node.op) if node.op in LAYERS else None


def _changes(old: Network, before: Node, young: Network, now: Node) -> list[Edit]:
    """What a layer has otherwise than its counterpart."""
    if projects(old, before) or projects(young, now):
        return []
    was, found = dict(before.attributes), []
    if _separable(old, before) != _separable(young, now) or _depthwise(before) != _depthwise(now):
        how = "separable" if _separable(young, now) or _depthwise(now) else "not separable"
        return [Edit(f"made {how}", f"made {how}", now.name)]
    for name, value in now.attributes:
        if (
            name in ("bias", "groups")
            or value == was.get(name)
            or (name == "filters" and _depthwise(now))
        ):
            continue
        label = NAMES.get((now.op, name), name)
        kind = f"other {label}"
        if label in SIZES and name in was:
            larger = float(value) > float(was[name])
            kind = (
                f"{'more' if larger else 'fewer'} filters"
                if label == "filters"
                else f"{'larger' if larger else 'smaller'} {label}"
            )
        found.append(Edit(kind, f"{label} {was.get(name)} → {value}", now.name))
    return found


def _merged(found: list[Edit]) -> tuple[Edit, ...]:
    """One edit for what is one: a layer that moved, that became separable, or that stands in
    another one's place.
    """
    for edit in list(found):
        gone = Edit(
            edit.kind.replace(" added", " removed"), edit.words.replace(" added", " removed")
        )
        if edit.kind.endswith(" added") and edit in found and gone in found:
            found = [one for one in found if one is not edit]
            found[found.index(gone)] = Edit(
                edit.kind.replace(" added", " moved"), edit.words.replace(" added", " moved")
            )
    for made, other in (("made separable", "added"), ("made not separable", "removed")):
        if any(edit.kind == made for edit in found):
            found = [edit for edit in found if edit.kind != f"separable convolution {other}"]
    new = [edit for edit in found if edit.kind.endswith(" added")]
    gone_ = [edit for edit in found if edit.kind.endswith(" removed")]
    kinds = {edit.kind for edit in new}, {edit.kind for edit in gone_}
    alike = (len(kinds[0]), len(kinds[1])) == (1, 1) and not any(
        kind.startswith("skip") for kind in kinds[0] | kinds[1]
    )
    if alike and len(new) == len(gone_) and len(found) == 2 * len(new):
        return tuple(_replacement(one, other) for one, other in zip(gone_, new, strict=True))
    return tuple(found)


def _replacement(gone: Edit, new: Edit) -> Edit:
    old, young = gone.kind.removesuffix(" removed"), new.kind.removesuffix(" added")
    words = f"{gone.words.removesuffix(' removed')} → {new.words.removesuffix(' added')}"
    return Edit(f"{old} → {young}" if old != young else f"other {young}", words)


def _depthwise(node: Node) -> bool:
    return node.op == "conv" and node["groups"] != 1
