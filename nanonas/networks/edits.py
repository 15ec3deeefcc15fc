"""How a child differs from its parent, as edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nanonas.networks.align import Alignment, align
from nanonas.networks.network import Network
from nanonas.networks.ops import Attribute, Node

SEVERAL, REWIRED = "several edits", "other connections"
NOUNS = {  # for operations, by family; others go by their own names
    "conv": "convolution",
    "dense": "dense layer",
    "pool": "pool",
    "join": "skip",
    "norm": "norm",
    "act": "activation",
}


@dataclass(frozen=True)
class Edit:
    """One difference between a child and its parent."""

    kind: str  # "convolution added", "larger kernel", …: edits of one kind are counted together
    words: str  # with the figures, as in "kernel 3 → 5"
    of: str = ""  # the child's node, where the parent has it, too

    def turned(self, old: str, new: str) -> Edit:
        """The edit with another ending: " added" for " removed", say."""
        return Edit(self.kind.replace(old, new), self.words.replace(old, new))


@dataclass(frozen=True)
class Difference:
    """A child against its parent."""

    edits: tuple[Edit, ...]
    # "new" or "changed", by the name of a node of the child
    marks: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[Node, ...] = ()  # the parent's nodes that it lacks

    @property
    def kind(self) -> str:
        """That of its edits, where they are of one kind; else one of the constants above."""
        kinds = {edit.kind for edit in self.edits}
        if not kinds:
            return REWIRED
        return self.edits[0].kind if len(kinds) == 1 else SEVERAL


def difference(parent: Network, child: Network) -> Difference:
    """How a child differs from its parent; takes 1 to 2 ms."""
    alignment = align(parent, child)
    marks = dict.fromkeys(alignment.new, "new")
    for name, before in alignment.changed.items():
        if child.named[name].attributes != parent.named[before].attributes:
            marks[name] = "changed"
    gone = tuple(parent.named[name] for name in alignment.gone)
    return Difference(edits(parent, child, alignment), marks, gone)


def edits(parent: Network, child: Network, alignment: Alignment) -> tuple[Edit, ...]:
    """The edits that an alignment shows, without what only follows from them.

    A norm or an activation belongs to the layer before it, the 1×1 convolution that makes shapes
    fit belongs to its skip, and a layer that only sees other shapes is as it was.
    """
    shown = [*_layers(child, alignment.new, "added"), *_layers(parent, alignment.gone, "removed")]
    for name, before in alignment.changed.items():
        shown += _changes(parent, parent.named[before], child, child.named[name])
    shown = _without_remains(_with_moves(shown))
    return _replacements(shown) or tuple(shown)


def in_words(listed: Sequence[Edit]) -> list[str]:
    """Edits for people: "conv4: kernel 3 → 5"; what was done several times is listed once."""
    places: dict[str, list[str]] = {}
    for edit in listed:
        places.setdefault(edit.words, []).append(edit.of)
    lines = []
    for words, names in places.items():
        if len(names) > 1:
            lines.append(f"{words} ({len(names)} times)")
        else:
            lines.append(f"{names[0]}: {words}" if names[0] else words)
    return lines


# --- layers added and removed ---------------------------------------------------------------------


def _layers(network: Network, names: tuple[str, ...], done: str) -> list[Edit]:
    """What was added, or removed: layers with what belongs to them."""
    layers = [_layer(network, network.named[name], names) for name in names]
    return [Edit(f"{kind} {done}", f"{words} {done}") for kind, words in filter(None, layers)]


def _layer(network: Network, node: Node, names: tuple[str, ...]) -> tuple[str, str] | None:
    """The kind of a layer, and in words; None for what belongs to another one of `names`, or makes
    shapes fit.
    """
    family = node.traits.family
    noun = NOUNS.get(family, node.op)
    follows = any(source in names for source in node.inputs)
    if family == "conv":
        if node.name in network.projections or (follows and _pointwise_half(network, node)):
            return None
        kind = f"separable {noun}" if node.grouped else noun
        return kind, f"{kind} {node.kernel}×{node.kernel}, {node.shape[0]} channels"
    if family == "norm":
        return None if follows else (noun, noun)
    if family == "act":
        readers = network.readers[node.name]
        leads = all(r.traits.family == "conv" and r.name in names for r in readers)
        return None if follows or leads else (noun, f"{noun} {node.values.get('kind', node.op)}")
    if family == "join":
        ends = [name for name in node.inputs if name in names and not _fits(network, name)]
        return None if ends else (noun, f"{noun} ({node.op})")
    return None if node.flattens else (noun, node.op)


def _pointwise_half(network: Network, node: Node) -> bool:
    """Whether a node is the 1×1 half of a separable convolution."""
    if node.traits.family != "conv" or node.kernel != 1:
        return False
    before = network.named.get(node.inputs[0])
    return before is not None and before.grouped


def _fits(network: Network, name: str) -> bool:
    """Whether a node only makes shapes fit: a projection, its norm, or a pool before it."""
    node = network.named.get(name)
    while node is not None and (node.traits.family == "norm" or node.flattens):
        node = network.named.get(node.inputs[0])
    return node is None or node.name in network.projections


# --- attributes changed ---------------------------------------------------------------------------


def _changes(old: Network, before: Node, young: Network, now: Node) -> list[Edit]:
    """How a layer differs from its counterpart."""
    if before.name in old.projections or now.name in young.projections:
        return []
    halves = _pointwise_half(old, before), _pointwise_half(young, now)
    if halves[0] != halves[1] or before.grouped != now.grouped:
        how = "separable" if halves[1] or now.grouped else "not separable"
        return [Edit(f"made {how}", f"made {how}", now.name)]
    follow = {"bias", "groups", *(["filters"] if now.grouped else [])}  # from other decisions
    return [
        _change(now, name, before.values.get(name), value)
        for name, value in now.attributes
        if name not in follow and value != before.values.get(name)
    ]


def _change(node: Node, name: str, old: Attribute | None, new: Attribute) -> Edit:
    """One attribute of a node with another value."""
    label = node.traits.labels.get(name, name)
    kind = f"other {label}"
    if _is_number(new) and old is not None:
        more, fewer = ("more", "fewer") if label == "filters" else ("larger", "smaller")
        kind = f"{more if float(new) > float(old) else fewer} {label}"
    return Edit(kind, f"{label} {old} → {new}", node.name)


def _is_number(value: Attribute) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# --- edits that are one ---------------------------------------------------------------------------


def _with_moves(shown: list[Edit]) -> list[Edit]:
    """A layer added and the same one removed: it moved."""
    for edit in list(shown):
        gone = edit.turned(" added", " removed")
        if edit.kind.endswith(" added") and edit in shown and gone in shown:
            shown = [other for other in shown if other is not edit]
            shown[shown.index(gone)] = edit.turned(" added", " moved")
    return shown


def _without_remains(shown: list[Edit]) -> list[Edit]:
    """Where a convolution was made separable, its depthwise half is no layer of its own."""
    for made, done in (("made separable", "added"), ("made not separable", "removed")):
        if any(edit.kind == made for edit in shown):
            shown = [edit for edit in shown if edit.kind != f"separable convolution {done}"]
    return shown


def _replacements(shown: list[Edit]) -> tuple[Edit, ...]:
    """One edit for each layer that stands in another one's place; () where that is not all."""
    new = [edit for edit in shown if edit.kind.endswith(" added")]
    gone = [edit for edit in shown if edit.kind.endswith(" removed")]
    kinds = {edit.kind for edit in new}, {edit.kind for edit in gone}
    if len(kinds[0]) != 1 or len(kinds[1]) != 1 or len(new) != len(gone):
        return ()
    if any(kind.startswith("skip") for kind in kinds[0] | kinds[1]):
        return ()
    if len(shown) != 2 * len(new):
        return ()
    return tuple(_replacement(*pair) for pair in zip(gone, new, strict=True))


def _replacement(gone: Edit, new: Edit) -> Edit:
    old, young = gone.kind.removesuffix(" removed"), new.kind.removesuffix(" added")
    words = f"{gone.words.removesuffix(' removed')} → {new.words.removesuffix(' added')}"
    return Edit(f"{old} → {young}" if old != young else f"other {young}", words)
