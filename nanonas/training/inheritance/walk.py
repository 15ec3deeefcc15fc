"""A child's nodes in order, each with what it takes from its parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.networks.network import Network
from nanonas.networks.ops import Node
from nanonas.training.inheritance.origins import NEW, ZERO, Terms
from nanonas.training.inheritance.parents import (
    CHANNELWISE,
    EPS,
    WEIGHTED,
    Parent,
    Tensors,
    grouping,
    tensor_shapes,
)
from nanonas.training.inheritance.sources import Old, Source, sources

NOTHING, FRESH = (
    -1,
    -2,
)  # instead of a row or column of a parent's weight: zeros; what was initialised
TRIES = 8  # of another choice for a new branch: a walk takes 1 ms for 30 nodes, but 20 for 200


@dataclass(frozen=True)
class _Value:
    """What a node of the child computes, channel by channel."""

    origin: Integers  # the number of what it is, or comes from; shape (channels,)
    exact: NDArray[np.bool_]  # whether it is that; `ZERO` always is, `NEW` never

    @staticmethod
    def all(channels: int, origin: int) -> _Value:
        return _Value(np.full(channels, origin), np.full(channels, origin == ZERO))


@dataclass(frozen=True)
class Step:
    """How one node gets its weights."""

    source: Source | None  # None: they become zero
    rows: Integers  # for each output channel, the source's
    columns: Integers | None = (
        None  # for each input channel, the source's; None where each channel is by itself
    )


@dataclass(frozen=True)
class _Walk:
    """How all nodes get their weights, and what comes of it.

    What has no step stays as initialised.
    """

    zeroed: frozenset[str]
    steps: Mapping[str, Step]
    identity_norms: Sequence[str]
    preserved: bool
    exact: int  # channels that are what some parent has


def best_walk(child: Network, parents: Sequence[Parent]) -> _Walk:
    """New branches are zero, one after the other the identity instead where more channels become
    exact by that.
    """
    terms = Terms()
    image = terms.draw(child.input_shape[0])
    olds = [Old.of(parent, child, terms, image) for parent in parents]
    wanted = olds[0].origins[olds[0].parent.network.nodes[-1].name]
    found = sources(child, olds)
    branches = _new_branches(child, found)
    walked = partial(_walk, child, found, terms, image, wanted, branches)
    best = walked(zeroed=frozenset(branches))
    for end in [*branches][:TRIES]:
        if best.preserved:
            break
        other = walked(zeroed=best.zeroed - {end})
        if (other.preserved, other.exact) > (best.preserved, best.exact):
            best = other
    return best


def _new_branches(child: Network, sources: Mapping[str, Source]) -> dict[str, set[str]]:
    """The last new weights before an add, and the names of the new ones that only they read."""
    nodes, readers = child.named, child.readers
    branches: dict[str, set[str]] = {}
    for node in child.nodes:
        if node.op not in WEIGHTED or node.name in sources:
            continue
        last = node
        while len(readers[last.name]) == 1 and readers[last.name][0].op in CHANNELWISE:
            last = readers[last.name][0]
        if [reader.op for reader in readers[last.name]] != ["add"]:
            continue
        before: set[str] = set()
        first = nodes.get(node.inputs[0])
        while first is not None and first.name not in sources and len(readers[first.name]) == 1:
            if first.op in ("add", "concat"):
                break
            before.add(first.name)
            first = nodes.get(first.inputs[0])
        branches[node.name] = before
    return branches


def _walk(
    child: Network,
    sources: Mapping[str, Source],
    terms: Terms,
    image: Integers,
    wanted: Integers,
    branches: Mapping[str, set[str]],
    zeroed: frozenset[str],
) -> _Walk:
    values = {"input": _Value(image, np.full(len(image), True))}
    steps: dict[str, Step] = {}
    untouched = {
        name for end in zeroed for name in branches[end]
    }  # they get gradients once the end is not zero
    for node in child.nodes:
        inputs, source = [values[name] for name in node.inputs], sources.get(node.name)
        step: Step | None = None
        if node.op in WEIGHTED:
            if node.name in zeroed:
                step, value = (
                    Step(None, np.empty(0, dtype=np.int64)),
                    _Value.all(node.shape[0], ZERO),
                )
            elif source is not None:
                step, value = _taken(node, inputs[0], source)
            elif node.name in untouched:
                value = _Value.all(node.shape[0], NEW)
            else:
                step, value = _identity(node, inputs[0])
        else:
            value = _passed(node, inputs, source, terms)
        values[node.name] = value
        if step is not None:
            steps[node.name] = step
    output = values[child.nodes[-1].name]
    norms = [
        node.name for node in child.nodes if node.op == "norm" and _is_made_up(steps.get(node.name))
    ]
    preserved = np.array_equal(output.origin, wanted) and bool(output.exact.all())
    return _Walk(
        zeroed, steps, norms, preserved, sum(int(value.exact.sum()) for value in values.values())
    )


def _is_made_up(step: Step | None) -> bool:
    return step is not None and step.source is not None and not step.source.inherited


def _passed(node: Node, inputs: Sequence[_Value], source: Source | None, terms: Terms) -> _Value:
    """What a node without weights makes of its inputs; where no parent does so, as if its
    counterpart did.
    """
    origin = terms.computed(node, [value.origin for value in inputs])
    if node.op == "concat":
        return _Value(origin, np.concatenate([value.exact for value in inputs]))
    if node.op == "zero":
        return _Value.all(node.shape[0], ZERO)
    exact = np.all([value.exact for value in inputs], axis=0) & (origin != NEW)
    guess = inputs[0].origin
    if source is not None:
        rows, _ = _rows(inputs[0], source.reads)
        guess = np.where(rows >= 0, source.gives[np.maximum(rows, 0)], NEW)
    return _Value(np.where((origin == NEW) & (guess != ZERO), guess, origin), exact)


def _taken(node: Node, x: _Value, source: Source) -> tuple[Step, _Value]:
    """The step that takes weights from a source, and what the node computes then."""
    conv = node.op == "conv"
    fits = not (conv and (node["stride"] != source.stride or node.number("kernel") < source.kernel))
    fits &= not source.biased or "bias" in tensor_shapes(node)
    if conv and grouping(node) == "grouped":
        fits &= np.array_equal(x.origin, source.reads) and bool(x.exact.all())
        rows = np.arange(node.shape[0])
        step = Step(source, rows, np.arange(node.input_shapes[0][0] // node.number("groups")))
        return step, _Value(source.gives, np.full(len(rows), fits))
    if node.op == "norm" or (conv and grouping(node) == "depthwise"):
        rows, found = _rows(x, source.reads)
        lost = np.where(x.origin == ZERO, ZERO, NEW)
        origin = np.where(rows >= 0, source.gives[np.maximum(rows, 0)], lost)
        return Step(source, rows), _Value(origin, (found & x.exact & fits) | (origin == ZERO))
    columns, whole = _columns(x, source.reads)
    rows = np.arange(node.shape[0]) % len(source.gives)
    return Step(source, rows, columns), _Value(
        source.gives[rows], np.full(len(rows), whole and fits)
    )


def _identity(node: Node, x: _Value) -> tuple[Step | None, _Value]:
    """The step that makes a node the identity, or None where it cannot be or has nothing to hand
    on.
    """
    each = node.op == "norm" or (node.op == "conv" and grouping(node) == "depthwise")
    # one channel of those that are the same, each with its share, so that a projection can undo a
    # widening
    keys = [*zip(x.origin.tolist(), x.exact.tolist(), strict=True)]
    first = {key if key[0] >= 0 and not each else place: place for place, key in enumerate(keys)}
    kept = np.array([*first.values()])
    strided = node.op == "conv" and (node["stride"] != 1 or grouping(node) == "grouped")
    if not (x.origin >= 0).any() or strided or len(kept) > node.shape[0]:
        return None, _Value.all(node.shape[0], NEW)
    tensors = partial(_unit, node.op, len(kept), each)
    made_up = Source(x.origin[kept], x.origin[kept], tensors, inherited=False)
    if each:
        return Step(made_up, np.arange(len(kept))), x
    places = {key: n for n, key in enumerate(first)}
    columns = np.array([places[key if key[0] >= 0 else place] for place, key in enumerate(keys)])
    rows = np.arange(node.shape[0]) % len(kept)
    return Step(made_up, rows, columns), _Value(x.origin[kept][rows], x.exact[kept][rows])


def _unit(op: str, channels: int, each: bool) -> Tensors:
    """The tensors of an identity: of a norm, or of weights (of a depthwise convolution where
    `each`).
    """
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    if op == "norm":
        return {
            "weight": torch.sqrt(ones + EPS),
            "bias": zeros,
            "running_mean": zeros,
            "running_var": ones,
        }
    return {"weight": ones[:, None, None, None] if each else torch.eye(channels), "bias": zeros}


def _places(origin: Integers, reads: Integers) -> Integers:
    """Where each channel stands in `reads`: at its own place if it can, else in turns; -1 where it
    does not.
    """
    where: dict[int, list[int]] = {}
    for place, number in enumerate(reads.tolist()):
        where.setdefault(number, []).append(place)
    turns: Counter[int] = Counter()
    places = np.full(len(origin), -1)
    for channel, number in enumerate(origin.tolist()):
        if number in where:
            own = channel % len(reads)
            places[channel] = (
                own if reads[own] == number else where[number][turns[number] % len(where[number])]
            )
            turns[number] += 1
    return places


def _rows(x: _Value, reads: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Of each channel by itself, the one of the source that it is like, and whether it has its very
    origin.
    """
    places, own = _places(x.origin, reads), np.arange(len(x.origin)) % len(reads)
    free = (x.origin != ZERO) & ~np.isin(own, places)
    return np.where(places >= 0, places, np.where(free, own, FRESH)), places >= 0


def _columns(x: _Value, reads: Integers) -> tuple[Integers, bool]:
    """Which column of the source's weight each channel takes, and whether all are taken by what
    they were made for.
    """
    places, own = _places(x.origin, reads), np.arange(len(x.origin)) % len(reads)
    found = places >= 0
    columns = np.where((x.origin == ZERO) & ~found, FRESH, NOTHING)
    columns[found & x.exact] = places[found & x.exact]
    whole = bool(np.isin(np.flatnonzero(reads != ZERO), columns).all())
    if not whole:  # first those that come from there, then those that stand there
        for like, candidates in ((places, found & ~x.exact), (own, ~found & (x.origin != ZERO))):
            free = candidates & ~np.isin(like, columns)
            columns[free] = like[free]
    return columns, whole
