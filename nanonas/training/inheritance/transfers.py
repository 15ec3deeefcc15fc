"""What each node of a child begins with."""

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
from nanonas.training.inheritance.origins import NEW, ZERO, ChannelNumbers
from nanonas.training.inheritance.parents import (
    AlignedParent,
    Parent,
    Source,
    Tensors,
    sources,
    taken_whole,
)

# instead of a row or column of a parent's tensor: zeros; what was initialised
NOTHING, FRESH = -1, -2
TRIES = 8  # of another choice for a new branch: a plan takes 1 ms for 30 nodes, but 20 for 200


@dataclass(frozen=True)
class _Channels:
    """What a node of the child computes, channel by channel."""

    origin: Integers  # the number of what it is, or comes from; shape (channels,)
    exact: NDArray[np.bool_]  # whether it is that; `ZERO` always is, `NEW` never

    @staticmethod
    def all(channels: int, origin: int) -> _Channels:
        return _Channels(np.full(channels, origin), np.full(channels, origin == ZERO))


@dataclass(frozen=True)
class Transfer:
    """How one node gets its tensors."""

    source: Source | None  # None: they become zero
    rows: Integers | None  # for each output channel, the source's; None: tensors are taken whole
    # for each input channel, the source's; None where each channel is by itself
    columns: Integers | None = None

    @property
    def made_up(self) -> bool:
        """Whether the source is no parent's."""
        return self.source is not None and not self.source.inherited

    @property
    def complete(self) -> bool:
        """Whether nothing of it stays as initialised, or becomes zero."""
        taken = [axis for axis in (self.rows, self.columns) if axis is not None]
        return self.source is not None and all(bool((axis >= 0).all()) for axis in taken)


ZEROS = Transfer(None, None)


@dataclass(frozen=True)
class Plan:
    """How all nodes get their tensors, and what comes of it."""

    zeroed: frozenset[str]  # the last weights of new branches that add nothing
    transfers: Mapping[str, Transfer]  # by node; a node that has none stays as initialised
    identity_norms: Sequence[str]
    preserved: bool  # the child computes what its first parent computes
    exact: int  # channels that are what some parent has


def best_plan(child: Network, parents: Sequence[Parent]) -> Plan:
    """New branches are zero, one after the other the identity instead where more channels become
    exact by that.
    """
    numbers = ChannelNumbers()
    image = numbers.draw(child.input_shape[0])
    aligned = [AlignedParent.of(parent, child, numbers, image) for parent in parents]
    logits = aligned[0].origins[aligned[0].parent.network.nodes[-1].name]
    offered = sources(child, aligned)
    branches = _new_branches(child, offered)
    planned = partial(_plan, child, offered, numbers, image, logits, branches)
    best = planned(zeroed=frozenset(branches))
    for end in [*branches][:TRIES]:
        if best.preserved:
            break
        other = planned(zeroed=best.zeroed - {end})
        if (other.preserved, other.exact) > (best.preserved, best.exact):
            best = other
    return best


def _new_branches(child: Network, sources: Mapping[str, Source]) -> dict[str, set[str]]:
    """The last new weights before an add, and the names of the new nodes that only they read."""
    nodes, readers = child.named, child.readers
    branches: dict[str, set[str]] = {}
    for node in child.nodes:
        if not node.tensors or node.name in sources or node.traits.identity is None:
            continue
        last = node
        while len(readers[last.name]) == 1 and _passes_zero(readers[last.name][0]):
            last = readers[last.name][0]
        if [reader.op for reader in readers[last.name]] != ["add"]:
            continue
        before: set[str] = set()
        first = nodes.get(node.inputs[0])
        while first is not None and first.name not in sources and len(readers[first.name]) == 1:
            if first.traits.family == "join":
                break
            before.add(first.name)
            first = nodes.get(first.inputs[0])
        branches[node.name] = before
    return branches


def _passes_zero(node: Node) -> bool:
    """Whether a node without tensors makes zero of its one input's zero."""
    single = node.channelwise and node.traits.family != "join"
    return single and node.traits.keeps_zero and not node.tensors


def _plan(
    child: Network,
    sources: Mapping[str, Source],
    numbers: ChannelNumbers,
    image: Integers,
    logits: Integers,
    branches: Mapping[str, set[str]],
    zeroed: frozenset[str],
) -> Plan:
    """Goes through the child's nodes in order. `logits` are the origins of the first parent's."""
    channels = {"input": _Channels(image, np.full(len(image), True))}
    transfers: dict[str, Transfer] = {}
    # nodes before a zeroed end; they get gradients once the end is not zero
    untouched = {name for end in zeroed for name in branches[end]}
    for node in child.nodes:
        inputs, source = [channels[name] for name in node.inputs], sources.get(node.name)
        transfer: Transfer | None = None
        if not node.tensors:
            computed = _passed(node, inputs, source, numbers)
        elif node.name in zeroed:
            transfer, computed = ZEROS, _Channels.all(node.shape[0], ZERO)
        elif source is not None:
            transfer, computed = _taken(node, inputs[0], source)
        elif node.name in untouched:
            computed = _Channels.all(node.shape[0], NEW)
        else:
            transfer, computed = _identity(node, inputs[0])
        channels[node.name] = computed
        if transfer is not None:
            transfers[node.name] = transfer
    made_up = [node for node in child.nodes if (t := transfers.get(node.name)) and t.made_up]
    output = channels[child.nodes[-1].name]
    return Plan(
        zeroed,
        transfers,
        identity_norms=[node.name for node in made_up if node.op == "norm"],
        preserved=np.array_equal(output.origin, logits) and bool(output.exact.all()),
        exact=sum(int(computed.exact.sum()) for computed in channels.values()),
    )


def _passed(
    node: Node, inputs: Sequence[_Channels], source: Source | None, numbers: ChannelNumbers
) -> _Channels:
    """What a node without tensors makes of its inputs; where no parent does so, as if its
    counterpart did.
    """
    origin = numbers.computed(node, [read.origin for read in inputs])
    if node.op == "concat":
        return _Channels(origin, np.concatenate([read.exact for read in inputs]))
    if node.op == "zero":
        return _Channels.all(node.shape[0], ZERO)
    if not node.channelwise:
        whole = all(bool(read.exact.all()) for read in inputs)
        return _Channels(origin, whole & (origin != NEW))
    exact = np.all([read.exact for read in inputs], axis=0) & (origin != NEW)
    guess = inputs[0].origin
    if source is not None:
        rows, _ = _rows(inputs[0], source.reads)
        guess = np.where(rows >= 0, source.gives[np.maximum(rows, 0)], NEW)
    return _Channels(np.where((origin == NEW) & (guess != ZERO), guess, origin), exact)


def _taken(node: Node, x: _Channels, source: Source) -> tuple[Transfer, _Channels]:
    """The transfer from a source, and what the node computes then."""
    fits = node.stride == source.stride and node.kernel >= source.kernel
    fits &= not source.biased or "bias" in node.tensors
    if taken_whole(node):
        fits &= np.array_equal(x.origin, source.reads) and bool(x.exact.all())
        return Transfer(source, None), _Channels(source.gives, np.full(node.shape[0], fits))
    if node.channelwise:
        rows, placed = _rows(x, source.reads)
        lost = np.where(x.origin == ZERO, ZERO, NEW)
        origin = np.where(rows >= 0, source.gives[np.maximum(rows, 0)], lost)
        exact = (placed & x.exact & fits) | (origin == ZERO)
        return Transfer(source, rows), _Channels(origin, exact)
    columns, whole = _columns(x, source.reads)
    rows = np.arange(node.shape[0]) % len(source.gives)
    computed = _Channels(source.gives[rows], np.full(len(rows), whole and fits))
    return Transfer(source, rows, columns), computed


def _identity(node: Node, x: _Channels) -> tuple[Transfer | None, _Channels]:
    """The transfer that makes a node the identity, or None where it cannot be or has nothing to
    hand on.
    """
    each = node.channelwise
    # one channel of those that are the same, each with its share, so that a projection can undo a
    # widening
    keys = [*zip(x.origin.tolist(), x.exact.tolist(), strict=True)]
    first = {key if key[0] >= 0 and not each else place: place for place, key in enumerate(keys)}
    kept = np.array([*first.values()])
    possible = node.traits.identity is not None and not taken_whole(node)
    strided = node.stride != 1
    if not possible or strided or not (x.origin >= 0).any() or len(kept) > node.shape[0]:
        return None, _Channels.all(node.shape[0], NEW)
    tensors = partial(_identity_tensors, node, len(kept))
    made_up = Source(x.origin[kept], x.origin[kept], tensors, inherited=False)
    if each:
        return Transfer(made_up, np.arange(len(kept))), x
    places = {key: n for n, key in enumerate(first)}
    columns = np.array([places[key if key[0] >= 0 else place] for place, key in enumerate(keys)])
    rows = np.arange(node.shape[0]) % len(kept)
    computed = _Channels(x.origin[kept][rows], x.exact[kept][rows])
    return Transfer(made_up, rows, columns), computed


def _identity_tensors(node: Node, channels: int) -> Tensors:
    """The tensors with which an operation is the identity, of so many channels, kernels of 1."""
    values = node.traits.identity
    assert values is not None
    made: dict[str, torch.Tensor] = {}
    for name, tensor in node.tensors.items():
        if name not in values:
            continue
        if "i" in tensor.axes and not node.channelwise:
            made[name] = values[name] * torch.eye(channels)
        else:
            made[name] = torch.full((channels, *[1] * (len(tensor.axes) - 1)), values[name])
    return made


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
        if number not in where:
            continue
        same_place = channel % len(reads)
        if reads[same_place] == number:
            places[channel] = same_place
        else:
            places[channel] = where[number][turns[number] % len(where[number])]
        turns[number] += 1
    return places


def _rows(x: _Channels, reads: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Of each channel by itself, the one of the source that it is like, and whether it has its very
    origin; both of shape (channels,).
    """
    places, same_place = _places(x.origin, reads), np.arange(len(x.origin)) % len(reads)
    free = (x.origin != ZERO) & ~np.isin(same_place, places)
    return np.where(places >= 0, places, np.where(free, same_place, FRESH)), places >= 0


def _columns(x: _Channels, reads: Integers) -> tuple[Integers, bool]:
    """Which column of the source's weight each channel takes, shape (channels,), and whether all
    are taken by what they were made for.
    """
    places, same_place = _places(x.origin, reads), np.arange(len(x.origin)) % len(reads)
    placed = places >= 0
    columns = np.where((x.origin == ZERO) & ~placed, FRESH, NOTHING)
    columns[placed & x.exact] = places[placed & x.exact]
    whole = bool(np.isin(np.flatnonzero(reads != ZERO), columns).all())
    if not whole:  # first those that come from there, then those that stand there
        strangers = ~placed & (x.origin != ZERO)
        for like, candidates in ((places, placed & ~x.exact), (same_place, strangers)):
            free = candidates & ~np.isin(like, columns)
            columns[free] = like[free]
    return columns, whole
