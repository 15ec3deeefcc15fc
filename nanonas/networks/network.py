"""The one picture of an architecture: an immutable graph of named operations with their shapes.

Builder, parameter and MAC counts, duplicate check, drawings and export all read this. Shapes leave
out the batch: ``(C, H, W)`` for feature maps, ``(F,)`` for vectors. A space draws a network with
`Draft`; what does not lead to the output is dropped, so genes without effect leave no trace.

A new operation is one entry in `OPS` here (its shape and its costs) and one in
`training.build.MODULES` (its module).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nanonas.core import Shape
from nanonas.networks.ops import OPS, Attribute, Node, output_shape


@dataclass(frozen=True)
class Network:
    """An architecture from images to logits. Made by `Draft.finish`."""

    input_shape: Shape  # (C, H, W)
    classes: int
    nodes: tuple[
        Node, ...
    ]  # in topological order, all of them on a way from "input" to the last one, the logits

    @cached_property
    def named(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """Who reads each node and "input", in order; who reads it twice is there twice."""
        found: dict[str, tuple[Node, ...]] = {"input": (), **dict.fromkeys(self.named, ())}
        for node in self.nodes:
            for name in node.inputs:
                found[name] = (*found[name], node)
        return found

    @cached_property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(node.params for node in self.nodes)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(node.macs for node in self.nodes)

    @cached_property
    def depth(self) -> int:
        """Convolutions and dense layers on the longest way from the input to the logits."""
        reached = {"input": 0}
        for node in self.nodes:
            reached[node.name] = max(reached[name] for name in node.inputs) + (
                node.op in ("conv", "dense")
            )
        return reached[self.nodes[-1].name]

    @cached_property
    def key(self) -> str:
        """32 hex digits: equal for networks that differ at most in names, order of nodes and order
        of summands.

        A Merkle hash a node, from its operation, attributes and inputs; then a hash of all of them,
        so that an operation used twice and two operations alike are told apart.
        """
        hashes = {"input": _digest(f"input{self.input_shape}{self.classes}")}
        for node in self.nodes:
            inputs = [hashes[name] for name in node.inputs]
            if OPS[node.op].commutative:
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
        said = tuple(sorted(attributes.items()))
        self._nodes[name] = Node(name, op, inputs, said, output_shape(op, shapes, said), shapes)
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
        return Network(
            self.input_shape, self.classes, tuple(n for n in self._nodes.values() if n.name in live)
        )


def conv_norm(draft: Draft, x: str, filters: int, kernel: int, stride: int = 1) -> str:
    """A convolution and its norm; the stride becomes 1 where a side of the map is 1."""
    stride = stride if min(draft.shape(x)[1:]) > 1 else 1
    return draft.add(
        "norm",
        draft.add("conv", x, filters=filters, kernel=kernel, stride=stride, groups=1, bias=False),
    )


def relu(draft: Draft, x: str) -> str:
    """The activation of all networks here."""
    return draft.add("act", x, kind="relu")
