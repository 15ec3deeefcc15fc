"""What a network takes on a microcontroller, counted before anything is trained: the bytes of the
one static arena in which all its tensors live, and the bytes of its constants.

Tensors are 8-bit integers. They live from the step that writes them to the last that reads them,
the image from the start and the logits to the end; a step that computes each output from the inputs
in its place alone writes over one of them. The arena is planned as TensorFlow Lite Micro does
(David et al. 2021, https://arxiv.org/abs/2010.08678, section 4.4.2): tensors are placed one after
the other, the largest first, each as low as those that live at the same time leave room. A few
orders of the steps and of the tensors are tried, and the smallest arena is taken. No arena is
smaller than what lives at one time, so the search ends where that is reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nanonas.core import Shape
from nanonas.networks.integer import IMAGE, Step, steps, undeployable
from nanonas.networks.network import Network

TABLE = 256  # bytes of a table: one for each 8-bit integer
WORD = 4  # bytes of a 32-bit integer, and of an address on a 32-bit microcontroller
CHANNEL = 2 * WORD + 1  # of a filter: its bias, multiplier and shift
CONVOLUTION = 18 * WORD  # what describes a convolution: `struct convolution` of the C code
SUMMAND = 2 * WORD  # what describes an input of a sum or a concatenation


@dataclass(frozen=True)
class Buffer:
    """A place in the arena, of one tensor or of several that are written one over the other."""

    tensors: tuple[str, ...]  # in the order of their steps
    size: int  # bytes
    first: int  # the time at which it is written first: 0 is the image's, 1 the first step's, …
    last: int  # and at which it is read last


@dataclass(frozen=True)
class Plan:
    """The steps of a network in an order, and where their tensors live."""

    steps: tuple[Step, ...]  # in the order in which they run
    buffers: tuple[Buffer, ...]
    offsets: Mapping[str, int]  # of each tensor, `IMAGE` among them, in bytes
    ram: int  # bytes of the arena
    peak: int  # the most bytes that live at one time: no arena of this order is smaller
    flash: int  # bytes of the constants


@lru_cache(maxsize=512)  # limits, objectives and reports ask for the same networks
def plan(network: Network) -> Plan:
    """The smallest arena that was found for a network, and its constants.

    Raises ValueError where an operation has no form in 8-bit integers; see `undeployable`.
    """
    folded = steps(network)
    orders = {  # each once
        tuple(step.name for step in order): order
        for order in (folded, _lean(folded, network.input_shape), _deep(folded))
    }
    lived = [(order, _buffers(order, network.input_shape)) for order in orders.values()]
    lived.sort(key=lambda one: _peak(one[1]))
    best: tuple[int, tuple[Step, ...], list[Buffer], list[int]] | None = None
    for order, buffers in lived:
        if best is not None and best[0] <= _peak(buffers):
            break
        places = _placed(buffers)
        size = max(place + buffer.size for place, buffer in zip(places, buffers, strict=True))
        if best is None or size < best[0]:
            best = (size, order, buffers, places)
    assert best is not None
    ram, order, buffers, places = best
    offsets = {
        tensor: place
        for place, buffer in zip(places, buffers, strict=True)
        for tensor in buffer.tensors
    }
    flash = network.input_shape[0] * TABLE + sum(map(constants, order))
    return Plan(order, tuple(buffers), offsets, ram, _peak(buffers), flash)


def ram(network: Network) -> float:
    """Bytes of the arena that its tensors live in; infinite where it has no form in integers."""
    return math.inf if undeployable(network) else plan(network).ram


def flash(network: Network) -> float:
    """Bytes of its constants; infinite where it has no form in integers.

    Weights, biases, multipliers, shifts and tables, as the C code declares them for a 32-bit
    microcontroller; the code itself does not count.
    """
    return math.inf if undeployable(network) else plan(network).flash


def constants(step: Step) -> int:
    """Bytes of a step's constants."""
    count = TABLE if step.has_table else 0
    if step.signs is not None:
        count += step.node.shape[0]
    if step.op == "conv":
        filters = step.node.shape[0]
        count += math.prod(step.weights) + filters * CHANNEL + CONVOLUTION
    elif step.op in ("add", "concat"):
        count += len(step.inputs) * SUMMAND
    return count


# --- who lives when -------------------------------------------------------------------------------


def _buffers(order: Sequence[Step], image: Shape) -> list[Buffer]:
    """The places that tensors need, in the order in which they are first written."""
    last = _last_readings(order)
    sizes = {IMAGE: math.prod(image)}
    holder = {IMAGE: IMAGE}  # the first tensor of the buffer that holds a tensor
    held: dict[str, list[str]] = {IMAGE: [IMAGE]}
    first = {IMAGE: 0}
    for time, step in enumerate(order, 1):
        sizes[step.name] = step.size
        below = _below(step, time, sizes, last)
        if below is None:
            first[step.name] = time
            holder[step.name] = step.name
            held[step.name] = [step.name]
        else:
            holder[step.name] = holder[below]
            held[holder[below]].append(step.name)
    return [
        Buffer(tuple(tensors), sizes[name], first[name], last[tensors[-1]])
        for name, tensors in held.items()
    ]


def _last_readings(order: Sequence[Step]) -> dict[str, int]:
    """The time at which each tensor is read last; the logits are read after the last step."""
    last = {IMAGE: 0}
    for time, step in enumerate(order, 1):
        last[step.name] = time
        for name in step.inputs:
            last[name] = time
    last[order[-1].name] = len(order) + 1
    return last


def _below(step: Step, time: int, sizes: Mapping[str, int], last: Mapping[str, int]) -> str | None:
    """The tensor that a step may write over: the first of its inputs that nothing reads later."""
    if not step.in_place:
        return None
    dying = (name for name in step.inputs if last[name] == time and sizes[name] == step.size)
    return next(dying, None)


def _peak(buffers: Sequence[Buffer]) -> int:
    """The most bytes that live at one time."""
    born: dict[int, int] = {}
    for buffer in buffers:
        born[buffer.first] = born.get(buffer.first, 0) + buffer.size
        born[buffer.last + 1] = born.get(buffer.last + 1, 0) - buffer.size
    peak = living = 0
    for time in sorted(born):
        living += born[time]
        peak = max(peak, living)
    return peak


# --- where they live ------------------------------------------------------------------------------

_TRIES = 40  # to improve places that are not the best that there can be
_RANKS: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
    lambda buffer: (-buffer.size, buffer.first),
    lambda buffer: (-buffer.size * (1 + buffer.last - buffer.first), buffer.first),
    lambda buffer: (buffer.first, -buffer.size),
    lambda buffer: (-buffer.last, -buffer.size),
)


def _placed(buffers: Sequence[Buffer]) -> list[int]:
    """An offset for each of the buffers, which leads to the smallest arena that was found."""
    peak, best, least = _peak(buffers), list[int](), math.inf
    for rank in _RANKS:
        turns = sorted(range(len(buffers)), key=lambda n: rank(buffers[n]))
        for snug in (False, True):
            places = _place_all(buffers, turns, snug)
            size = max(p + buffer.size for p, buffer in zip(places, buffers, strict=True))
            if size < least:
                best, least = places, size
            if least == peak:
                return best
    return _improved(buffers, best, peak)


def _improved(buffers: Sequence[Buffer], places: list[int], peak: int) -> list[int]:
    """Places that lead to no larger arena: again and again the buffer that reaches highest gets its
    place before all others, in the order of the places that there are.
    """
    best, least = places, math.inf
    turns = sorted(range(len(buffers)), key=lambda n: (places[n], -buffers[n].size))
    for _ in range(_TRIES):
        tops = [place + buffer.size for place, buffer in zip(places, buffers, strict=True)]
        size = max(tops)
        if size < least:
            best, least = places, size
        if least == peak:
            break
        highest = max(turns, key=lambda n: tops[n])
        turns = [highest, *(n for n in turns if n != highest)]
        places = _place_all(buffers, turns, snug=False)
    return best


def _place_all(buffers: Sequence[Buffer], turns: Sequence[int], snug: bool) -> list[int]:
    """Each buffer, in its turn, in the lowest gap that holds it, or in the smallest (`snug`)."""
    places = [-1] * len(buffers)
    done: list[int] = []
    for turn in turns:
        buffer = buffers[turn]
        taken = sorted(
            (places[n], places[n] + buffers[n].size)
            for n in done
            if buffers[n].first <= buffer.last and buffer.first <= buffers[n].last
        )
        places[turn] = _gap(taken, buffer.size, snug)
        done.append(turn)
    return places


def _gap(taken: Sequence[tuple[int, int]], size: int, snug: bool) -> int:
    """The offset of a gap of `size` bytes or more between what is taken, or of what follows it."""
    end, best, least = 0, -1, math.inf
    for start, stop in taken:
        if size <= start - end < least:
            if not snug:
                return end
            best, least = end, start - end
        end = max(end, stop)
    return end if best < 0 else best


# --- in which order they run ----------------------------------------------------------------------


def _lean(folded: Sequence[Step], image: Shape) -> tuple[Step, ...]:
    """The steps in an order in which each leaves as few bytes alive as a step can at its time."""
    sizes = {IMAGE: math.prod(image)} | {step.name: step.size for step in folded}
    readers: dict[str, list[str]] = {name: [] for name in sizes}
    for step in folded:
        for name in step.inputs:
            readers[name].append(step.name)
    unread = {name: len(names) for name, names in readers.items()}
    order, waiting = list[Step](), {step.name: step for step in folded}
    blocked = {step.name: set(step.inputs) - {IMAGE} for step in folded}

    def growth(step: Step) -> int:
        freed = {name for name in step.inputs if unread[name] == step.inputs.count(name)}
        return step.size - sum(sizes[name] for name in freed)

    while waiting:
        ready = (step for step in waiting.values() if not blocked[step.name])
        chosen = waiting.pop(min(ready, key=growth).name)
        order.append(chosen)
        for name in chosen.inputs:
            unread[name] -= 1
        for name in readers[chosen.name]:
            blocked[name].discard(chosen.name)
    return tuple(order)


def _deep(folded: Sequence[Step]) -> tuple[Step, ...]:
    """The steps in an order in which a branch is finished before the next one begins."""
    named, order = {step.name: step for step in folded}, dict[str, Step]()
    waiting = [(folded[-1].name, False)]
    while waiting:
        name, ready = waiting.pop()
        if ready:
            order.setdefault(name, named[name])
        elif name not in order and name != IMAGE:
            waiting.append((name, True))
            waiting.extend((read, False) for read in reversed(named[name].inputs))
    return tuple(order.values())
