"""The one picture of an architecture: an immutable graph of named operations with their shapes.

Builder, parameter and MAC counts, duplicate check, drawings and export all read this. Shapes leave
out the batch: ``(C, H, W)`` for feature maps, ``(F,)`` for vectors. A space draws a network with
`Draft`; what does not lead to the output is dropped, so genes without effect leave no trace.

What an operation is stands in `networks.ops`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nanonas.core import Shape
from nanonas.networks.ops import Attribute, Node, output_shape


@dataclass(frozen=True)
class Network:
    """An architecture from images to logits. Made by `Draft.finish`."""

    input_shape: Shape  # (C, H, W)
    classes: int
    # in topological order, all of them on a path from "input" to the last, the logits
    nodes: tuple[Node, ...]

    @cached_property
    def named(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The readers of each node and of "input", in order; a node that reads it twice appears
        twice.
        """
        readers: dict[str, tuple[Node, ...]] = {"input": (), **dict.fromkeys(self.named, ())}
        for node in self.nodes:
            for name in node.inputs:
                readers[name] = (*readers[name], node)
        return readers

    @cached_property
    def projections(self) -> frozenset[str]:
        """The nodes that are there only to make shapes fit: 1×1 convolutions on the way of a skip;
        by name.
        """
        return frozenset(node.name for node in self.nodes if self._projects(node))

    def _projects(self, node: Node) -> bool:
        if node.op != "conv" or node.kernel != 1 or node.shape == node.input_shapes[0]:
            return False
        end, readers = node, self.readers[node.name]
        while len(readers) == 1 and readers[0].traits.family == "norm":
            end, readers = readers[0], self.readers[readers[0].name]
        if len(readers) != 1 or readers[0].traits.family != "join":
            return False
        return readers[0].inputs[-1] == end.name

    @cached_property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(node.params for node in self.nodes)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(node.macs for node in self.nodes)

    def takes(self, input_shape: Shape) -> bool:
        """Whether its layers also fit images of another size, with the same weights."""
        if input_shape[0] != self.input_shape[0]:
            return False
        shapes = {"input": input_shape}
        for node in self.nodes:
            read = tuple(shapes[name] for name in node.inputs)
            try:
                shapes[node.name] = output_shape(node.op, read, node.attributes)
            except ValueError:
                return False
        return True

    @cached_property
    def depth(self) -> int:
        """Convolutions and dense layers on the longest path from the input to the logits."""
        reached = {"input": 0}
        for node in self.nodes:
            before = max(reached[name] for name in node.inputs)
            reached[node.name] = before + node.traits.is_layer
        return reached[self.nodes[-1].name]

    @cached_property
    def key(self) -> str:
        """32 hex digits: equal for networks that differ at most in names, order of nodes and order
        of summands.

        A Merkle hash of each node, from its operation, attributes and inputs; then a hash of all of
        them, so that one operation read twice and two equal operations are told apart.
        """
        hashes = {"input": _digest(f"input{self.input_shape}{self.classes}")}
        for node in self.nodes:
            inputs = [hashes[name] for name in node.inputs]
            if node.traits.commutative:
                inputs.sort()
            hashes[node.name] = _digest(f"{node.op}{node.attributes}{inputs}")
        return _digest(hashes[self.nodes[-1].name] + "".join(sorted(hashes.values())))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class Draft:
    """A network while it is drawn: add operations, each on what was there before, then finish.

    >>> draft = Draft((3, 32, 32), classes=10)
    >>> x = draft.add("conv", "input", filters=16, kernel=3, stride=1, groups=1, bias=False)
    >>> x = draft.add("globalpool", x)
    >>> draft.finish(draft.add("dense", x, units=10)).params
    602
    """

    input_shape: Shape
    classes: int
    _nodes: dict[str, Node] = field(default_factory=dict, repr=False)
    _counts: Counter[str] = field(default_factory=Counter, repr=False)  # of nodes, by operation

    def shape(self, name: str) -> Shape:
        """The output shape of a node that was added, or of "input"."""
        return self.input_shape if name == "input" else self._nodes[name].shape

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Attribute) -> str:
        """Adds an operation on `inputs` and returns its name, by default the operation's and a
        number.

        Raises ValueError when the shapes or attributes do not fit the operation.
        """
        shapes = tuple(self.shape(i) for i in inputs)
        name = name or f"{op}{self._counts[op] + 1}"
        if name in self._nodes or name == "input":
            raise ValueError(f"there is a node {name!r} already")
        ordered = tuple(sorted(attributes.items()))
        shape = output_shape(op, shapes, ordered)
        self._nodes[name] = Node(name, op, inputs, ordered, shape, shapes)
        self._counts[op] += 1
        return name

    def finish(self, output: str) -> Network:
        """The network whose logits `output` computes, without what does not lead there.

        Raises ValueError when the output's shape is not ``(classes,)``.
        """
        if self.shape(output) != (self.classes,):
            raise ValueError(
                f"the output must have the shape ({self.classes},), but has {self.shape(output)}"
            )
        live, waiting = set(), [output]
        while waiting:
            name = waiting.pop()
            if name != "input" and name not in live:
                live.add(name)
                waiting.extend(self._nodes[name].inputs)
        nodes = tuple(node for node in self._nodes.values() if node.name in live)
        return Network(self.input_shape, self.classes, nodes)


def conv_norm(draft: Draft, x: str, filters: int, kernel: int, stride: int = 1) -> str:
    """A convolution and its norm; the stride becomes 1 where a side of the map is 1."""
    if min(draft.shape(x)[1:]) == 1:
        stride = 1
    x = draft.add("conv", x, filters=filters, kernel=kernel, stride=stride, groups=1, bias=False)
    return draft.add("norm", x)


def depthwise(draft: Draft, x: str, kernel: int) -> str:
    """A convolution of stride 1 of each channel by itself, without bias."""
    channels = draft.shape(x)[0]
    return draft.add(
        "conv", x, filters=channels, kernel=kernel, stride=1, groups=channels, bias=False
    )


def relu(draft: Draft, x: str) -> str:
    """A ReLU."""
    return draft.add("act", x, kind="relu")


def classifier(draft: Draft, x: str) -> Network:
    """The network whose logits are a dense layer on the global average of a map."""
    return draft.finish(draft.add("dense", draft.add("globalpool", x), units=draft.classes))
