"""A child begins with its parents' weights and, where that is possible, computes what its first parent computed.

Net2Net (Chen et al. 2016, https://arxiv.org/abs/1511.05641) and network morphism (Wei et al. 2016,
https://arxiv.org/abs/1603.01670), without a case for each edit. Every channel that a parent computes has a number, and
equal numbers are equal functions of the image in eval mode. The child's nodes are walked in order; of each channel it
is known which number it has, its origin, and whether it is exactly that. A node that has a counterpart takes its
weights, whose rows and columns are found by these numbers:

- Channels that are there several times (a wider layer has replicas of its old channels) share the outgoing weights.
  The shares are drawn, so that replicas part as soon as they are trained; their sum is exact.
- Channels that the counterpart did not read (of a new concat) get zeros as outgoing weights.
- A kernel grows by zeros around it and shrinks to its centre. A depthwise and a 1×1 convolution become one
  convolution, and a norm that is gone goes into the weights before it.
- A new node becomes the identity if it can (stride 1, no narrower); a new branch that ends in an add becomes zero
  instead, unless the identity preserves more. What can be neither stays as initialised.

What cannot be preserved: anything removed but a dropout or a norm behind weights; a new add of two things that are
there already, without a projection between; another stride, pool or activation; narrower layers; a new activation that
is no identity on what it gets. Weights are taken all the same, by position where origins do not tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nanonas.core import Integers, Shape
from nanonas.errors import RunError
from nanonas.spaces.align import Alignment, align
from nanonas.spaces.network import Network, Node
from nanonas.training.build import NetworkModule

ZERO, NEW = -1, -2  # origins of channels: constantly zero; nobody's
NOTHING, FRESH = -1, -2  # instead of a row or column of a parent's weight: zeros; what was initialised
SHARES = (0.3, 0.7)  # of outgoing weights between replicas, before they are normalised
TINY = 1e-30  # the bias of what is zero: it adds nothing to anything, but unlike at 0 a ReLU has a gradient there
TRIES = 8  # of another choice for a new branch: a walk takes 1 ms for 30 nodes, but 20 for 200
WEIGHTED = ("conv", "dense", "norm")
CHANNELWISE = ("act", "dropout", "maxpool", "avgpool", "globalpool")  # with one input
IDENTITY_ABOVE_0 = ("relu", "leaky_relu")

EPS = nn.BatchNorm2d(1).eps  # that all norms here have

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Parent:
    """A network and its trained tensors by name, as `training.trial.save_weights` writes them."""

    network: Network
    tensors: Tensors


@dataclass(frozen=True)
class Inherited:
    """What a child has from its parents."""

    tensors: int  # of the child's tensors, how many took something from a parent
    of: int  # tensors that the child has
    share: float  # of its parameters, in [0, 1], that are a parent's
    preserved: bool  # the child provably computes what its first parent computes, in eval mode, up to rounding


def inherit(module: NetworkModule, parents: Sequence[Parent], images: Tensor | None = None) -> Inherited:
    """Writes the parents' weights into a freshly initialised child; what nobody has stays as initialised.

    Deterministic, without the global generator. A node takes from the first parent that has the same node, else from
    the first that has one like it.

    Args:
        module: the child, on any device.
        parents: the one whose function is to be preserved first.
        images: normalised training images, shape (B, C, H, W), on the module's device. Norms that begin as the
            identity take the statistics of what they read from them, so that they are nearly the identity in training
            too; None: in training they begin by whitening.

    Raises:
        RunError: tensors of a parent are missing or do not fit its network.
    """
    for number, parent in enumerate(parents, 1):
        _check(parent, f"parent {number} of {len(parents)}")
    if not parents:
        return Inherited(0, len(module.state_dict()), 0.0, False)
    walk = _best_walk(module.network, parents)
    generator = torch.Generator().manual_seed(0)
    taken = elements = 0
    with torch.no_grad():
        for name, step in walk.steps.items():
            tensors, parameters = _write(module.get_submodule(name), step, generator)
            if step.source is not None and step.source.inherited:
                taken, elements = taken + tensors, elements + parameters
        if images is not None:
            _calibrate(module, walk.identity_norms, images)
    total = sum(parameter.numel() for parameter in module.parameters())
    return Inherited(taken, len(module.state_dict()), elements / total, walk.preserved)


def _check(parent: Parent, who: str) -> None:
    for node in parent.network.nodes:
        for name, shape in _shapes(node).items():
            tensor = parent.tensors.get(f"{node.name}.{name}")
            if tensor is None or tuple(tensor.shape) != shape:
                found = "nothing" if tensor is None else f"the shape {tuple(tensor.shape)}"
                raise RunError(
                    f"the weights of {who} have {found} for {f'{node.name}.{name}'!r}, where its network has the "
                    f"shape {shape}; inherit from another network, or train this one again"
                )


def _shapes(node: Node) -> dict[str, Shape]:
    """The tensors of a node, as its module has them."""
    if node.op == "norm":
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), node.shape[:1])
    channels = node.input_shapes[0][0]
    if node.op == "dense":
        return {"weight": (node.number("units"), channels), "bias": node.shape}
    if node.op == "conv":
        kernel = node.number("kernel")
        weight = {"weight": (node.shape[0], channels // node.number("groups"), kernel, kernel)}
        return weight | ({"bias": node.shape[:1]} if node["bias"] else {})
    return {}


# --- what the parents compute -------------------------------------------------------------------------------------


class _Terms:
    """Numbers for what the parents compute, channel by channel: equal numbers, equal functions of the image."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, tuple[int, ...]], int] = {}
        self._nonnegative: set[int] = set()
        self._count = 0

    def draw(self, channels: int) -> Integers:
        """Numbers for channels that are like no others."""
        self._count += channels
        return np.arange(self._count - channels, self._count)

    def computed(self, node: Node, inputs: Sequence[Integers], learn: bool = False) -> Integers:
        """What a node without weights makes of channels; `NEW` where it is not known and not to be learnt."""
        if node.op == "dropout":
            return inputs[0]
        if node.op == "concat":
            return np.concatenate(inputs)
        if node.op == "zero":
            return np.full(node.shape[0], ZERO)
        columns = zip(*(numbers.tolist() for numbers in inputs), strict=True)
        said = str(node)
        return np.array([self._one(node, said, numbers, learn) for numbers in columns])

    def _one(self, node: Node, said: str, numbers: tuple[int, ...], learn: bool) -> int:
        if node.op == "add":
            numbers = tuple(sorted(number for number in numbers if number != ZERO))
            if len(numbers) == 1:
                return numbers[0]
        if NEW in numbers:
            return NEW
        if not numbers or numbers == (ZERO,):
            return ZERO  # so is every activation of 0, and every pool
        nonnegative = self._nonnegative.issuperset(numbers)
        if node.op == "act" and nonnegative and node["kind"] in IDENTITY_ABOVE_0:
            return numbers[0]
        found = self._numbers.get((said, numbers))
        if found is not None:
            return found
        if not learn:
            return NEW
        self._numbers[said, numbers] = number = self._count
        self._count += 1
        if nonnegative if node.op != "act" else node["kind"] == "relu":
            self._nonnegative.add(number)
        return number


def _origins(network: Network, terms: _Terms, image: Integers) -> dict[str, Integers]:
    """The numbers of all that a parent computes: by node, shape (channels,)."""
    origins = {"input": image}
    for node in network.nodes:
        if node.op in (*CHANNELWISE, "add", "concat", "zero"):
            origins[node.name] = terms.computed(node, [origins[name] for name in node.inputs], learn=True)
        else:
            origins[node.name] = terms.draw(node.shape[0])
    return origins


# --- what the child can take --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A node to take from: a parent's, or one made up."""

    reads: Integers  # origins of its (first) input's channels, shape (n,)
    gives: Integers  # origins of its output's channels, shape (m,)
    tensors: Callable[[], Tensors]
    kernel: int = 1
    stride: int = 1
    biased: bool = False
    inherited: bool = True


@dataclass(frozen=True)
class _Old:
    """A parent beside the child."""

    parent: Parent
    origins: Mapping[str, Integers]
    alignment: Alignment

    @staticmethod
    def of(parent: Parent, child: Network, terms: _Terms, image: Integers) -> _Old:
        network = parent.network
        seen = image if network.input_shape == child.input_shape else terms.draw(network.input_shape[0])
        return _Old(parent, _origins(network, terms, seen), align(network, child))

    def source(self, name: str, young: Node) -> _Source:
        """What the child's node `young` takes from this parent's node `name`."""
        network = self.parent.network
        node = network.named[name]
        reads, gives = self.origins[node.inputs[0]], self.origins[name]
        attributes = dict(node.attributes)
        kernel, stride = int(attributes.get("kernel", 1)), int(attributes.get("stride", 1))
        tensors = partial(self._tensors, node)
        biased = "bias" in _shapes(node)
        before, behind = network.named.get(node.inputs[0]), network.readers[name]
        if (
            before is not None
            and self._gone(before)
            and (before.op, node.op, young.op) == ("conv", "conv", "conv")
            and _grouping(before) == "depthwise"
            and (_grouping(node), kernel, stride) == ("full", 1, 1)
            and before.number("kernel") <= young.number("kernel")
            and not before["bias"]
        ):
            reads, kernel, stride = self.origins[before.inputs[0]], before.number("kernel"), before.number("stride")
            tensors = partial(_composed, partial(self._tensors, before), tensors)
        foldable = node.op in ("conv", "dense") and "bias" in _shapes(young) and len(behind) == 1
        if foldable and behind[0].op == "norm" and behind[0].name in self.alignment.gone:
            gives, biased = self.origins[behind[0].name], True
            tensors = partial(_folded, tensors, partial(self._tensors, behind[0]))
        return _Source(reads, gives, tensors, kernel, stride, biased)

    def _gone(self, node: Node) -> bool:
        return node.name in self.alignment.gone and len(self.parent.network.readers[node.name]) == 1

    def _tensors(self, node: Node) -> Tensors:
        names = [*_shapes(node), *(["num_batches_tracked"] if node.op == "norm" else [])]
        found = {name: self.parent.tensors.get(f"{node.name}.{name}") for name in names}
        return {name: tensor.detach().cpu() for name, tensor in found.items() if tensor is not None}


def _composed(depthwise: Callable[[], Tensors], pointwise: Callable[[], Tensors]) -> Tensors:
    """One convolution that is a depthwise and then a 1×1 one."""
    later = pointwise()
    return {**later, "weight": later["weight"] * depthwise()["weight"].transpose(0, 1)}


def _folded(weights: Callable[[], Tensors], norm: Callable[[], Tensors]) -> Tensors:
    """A convolution or dense layer that does its norm's work."""
    before, after = weights(), norm()
    scale = after["weight"] * torch.rsqrt(after["running_var"] + EPS)
    shift = before.get("bias", torch.zeros(())) - after["running_mean"]
    weight = before["weight"] * scale.reshape(-1, *[1] * (before["weight"].dim() - 1))
    return {"weight": weight, "bias": after["bias"] + shift * scale}


def _grouping(conv: Node) -> str:
    groups = conv.number("groups")
    return "full" if groups == 1 else "depthwise" if groups == conv.input_shapes[0][0] == conv.shape[0] else "grouped"


def _fits(young: Node, old: Node) -> bool:
    """Whether the weights of one say something about those of the other."""
    if young.op != "conv":
        return True
    if _grouping(young) == "grouped":
        return _shapes(young) == _shapes(old) and young["groups"] == old["groups"]
    return _grouping(young) == _grouping(old)


def _sources(child: Network, olds: Sequence[_Old]) -> dict[str, _Source]:
    """What the child's nodes take from, as far as there is something."""
    sources: dict[str, _Source] = {}
    for node in child.nodes:
        pairs = [(old, old.alignment.same.get(node.name)) for old in olds]
        pairs += [(old, old.alignment.changed.get(node.name)) for old in olds]
        for old, name in pairs:
            if name is not None and _fits(node, old.parent.network.named[name]):
                sources[node.name] = old.source(name, node)
                break
    return sources


# --- a walk through the child -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """What a node of the child computes, channel by channel."""

    origin: Integers  # the number of what it is, or comes from; shape (channels,)
    exact: NDArray[np.bool_]  # whether it is that; `ZERO` always is, `NEW` never

    @staticmethod
    def all(channels: int, origin: int) -> _Value:
        return _Value(np.full(channels, origin), np.full(channels, origin == ZERO))


@dataclass(frozen=True)
class _Step:
    """How one node gets its weights."""

    source: _Source | None  # None: they become zero
    rows: Integers  # for each output channel, the source's
    columns: Integers | None = None  # for each input channel, the source's; None where each channel is by itself


@dataclass(frozen=True)
class _Walk:
    """How all nodes get their weights, and what comes of it. What has no step stays as initialised."""

    zeroed: frozenset[str]
    steps: Mapping[str, _Step]
    identity_norms: Sequence[str]
    preserved: bool
    exact: int  # channels that are what some parent has


def _best_walk(child: Network, parents: Sequence[Parent]) -> _Walk:
    """New branches are zero, one after the other the identity instead where more channels become exact by that."""
    terms = _Terms()
    image = terms.draw(child.input_shape[0])
    olds = [_Old.of(parent, child, terms, image) for parent in parents]
    wanted = olds[0].origins[olds[0].parent.network.nodes[-1].name]
    sources = _sources(child, olds)
    branches = _new_branches(child, sources)
    walked = partial(_walk, child, sources, terms, image, wanted, branches)
    best = walked(zeroed=frozenset(branches))
    for end in [*branches][:TRIES]:
        if best.preserved:
            break
        other = walked(zeroed=best.zeroed - {end})
        if (other.preserved, other.exact) > (best.preserved, best.exact):
            best = other
    return best


def _new_branches(child: Network, sources: Mapping[str, _Source]) -> dict[str, set[str]]:
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
    sources: Mapping[str, _Source],
    terms: _Terms,
    image: Integers,
    wanted: Integers,
    branches: Mapping[str, set[str]],
    zeroed: frozenset[str],
) -> _Walk:
    values = {"input": _Value(image, np.full(len(image), True))}
    steps: dict[str, _Step] = {}
    untouched = {name for end in zeroed for name in branches[end]}  # they get gradients once the end is not zero
    for node in child.nodes:
        inputs, source = [values[name] for name in node.inputs], sources.get(node.name)
        step: _Step | None = None
        if node.op in WEIGHTED:
            if node.name in zeroed:
                step, value = _Step(None, np.empty(0, dtype=np.int64)), _Value.all(node.shape[0], ZERO)
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
    norms = [node.name for node in child.nodes if node.op == "norm" and _is_made_up(steps.get(node.name))]
    preserved = np.array_equal(output.origin, wanted) and bool(output.exact.all())
    return _Walk(zeroed, steps, norms, preserved, sum(int(value.exact.sum()) for value in values.values()))


def _is_made_up(step: _Step | None) -> bool:
    return step is not None and step.source is not None and not step.source.inherited


def _passed(node: Node, inputs: Sequence[_Value], source: _Source | None, terms: _Terms) -> _Value:
    """What a node without weights makes of its inputs; where no parent does so, as if its counterpart did."""
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


def _taken(node: Node, x: _Value, source: _Source) -> tuple[_Step, _Value]:
    """The step that takes weights from a source, and what the node computes then."""
    conv = node.op == "conv"
    fits = not (conv and (node["stride"] != source.stride or node.number("kernel") < source.kernel))
    fits &= not source.biased or "bias" in _shapes(node)
    if conv and _grouping(node) == "grouped":
        fits &= np.array_equal(x.origin, source.reads) and bool(x.exact.all())
        rows = np.arange(node.shape[0])
        step = _Step(source, rows, np.arange(node.input_shapes[0][0] // node.number("groups")))
        return step, _Value(source.gives, np.full(len(rows), fits))
    if node.op == "norm" or (conv and _grouping(node) == "depthwise"):
        rows, found = _rows(x, source.reads)
        lost = np.where(x.origin == ZERO, ZERO, NEW)
        origin = np.where(rows >= 0, source.gives[np.maximum(rows, 0)], lost)
        return _Step(source, rows), _Value(origin, (found & x.exact & fits) | (origin == ZERO))
    columns, whole = _columns(x, source.reads)
    rows = np.arange(node.shape[0]) % len(source.gives)
    return _Step(source, rows, columns), _Value(source.gives[rows], np.full(len(rows), whole and fits))


def _identity(node: Node, x: _Value) -> tuple[_Step | None, _Value]:
    """The step that makes a node the identity, or None where it cannot be or has nothing to hand on."""
    each = node.op == "norm" or (node.op == "conv" and _grouping(node) == "depthwise")
    # one channel of those that are the same, each with its share, so that a projection can undo a widening
    keys = [*zip(x.origin.tolist(), x.exact.tolist(), strict=True)]
    first = {key if key[0] >= 0 and not each else place: place for place, key in enumerate(keys)}
    kept = np.array([*first.values()])
    strided = node.op == "conv" and (node["stride"] != 1 or _grouping(node) == "grouped")
    if not (x.origin >= 0).any() or strided or len(kept) > node.shape[0]:
        return None, _Value.all(node.shape[0], NEW)
    tensors = partial(_unit, node.op, len(kept), each)
    made_up = _Source(x.origin[kept], x.origin[kept], tensors, inherited=False)
    if each:
        return _Step(made_up, np.arange(len(kept))), x
    places = {key: n for n, key in enumerate(first)}
    columns = np.array([places[key if key[0] >= 0 else place] for place, key in enumerate(keys)])
    rows = np.arange(node.shape[0]) % len(kept)
    return _Step(made_up, rows, columns), _Value(x.origin[kept][rows], x.exact[kept][rows])


def _unit(op: str, channels: int, each: bool) -> Tensors:
    """The tensors of an identity: of a norm, or of weights (of a depthwise convolution where `each`)."""
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    if op == "norm":
        return {"weight": torch.sqrt(ones + EPS), "bias": zeros, "running_mean": zeros, "running_var": ones}
    return {"weight": ones[:, None, None, None] if each else torch.eye(channels), "bias": zeros}


def _places(origin: Integers, reads: Integers) -> Integers:
    """Where each channel stands in `reads`: at its own place if it can, else in turns; -1 where it does not."""
    where: dict[int, list[int]] = {}
    for place, number in enumerate(reads.tolist()):
        where.setdefault(number, []).append(place)
    turns: Counter[int] = Counter()
    places = np.full(len(origin), -1)
    for channel, number in enumerate(origin.tolist()):
        if number in where:
            own = channel % len(reads)
            places[channel] = own if reads[own] == number else where[number][turns[number] % len(where[number])]
            turns[number] += 1
    return places


def _rows(x: _Value, reads: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Of each channel by itself, the one of the source that it is like, and whether it has its very origin."""
    places, own = _places(x.origin, reads), np.arange(len(x.origin)) % len(reads)
    free = (x.origin != ZERO) & ~np.isin(own, places)
    return np.where(places >= 0, places, np.where(free, own, FRESH)), places >= 0


def _columns(x: _Value, reads: Integers) -> tuple[Integers, bool]:
    """Which column of the source's weight each channel takes, and whether all are taken by what they were made for."""
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


# --- writing ------------------------------------------------------------------------------------------------------


def _write(module: nn.Module, step: _Step, generator: torch.Generator) -> tuple[int, int]:
    """Writes what a step says. Returns how many tensors, and elements of parameters, are the source's."""
    parameters = dict(module.named_parameters())
    if step.source is None:
        for name, parameter in parameters.items():
            parameter.fill_(TINY if name == "bias" else 0.0)
        return 0, 0
    tensors = step.source.tensors()
    rows = torch.from_numpy(step.rows)
    kept = rows >= 0
    taken = elements = 0
    for name, target in module.state_dict(keep_vars=True).items():
        source = tensors.get(name)
        if source is None:
            if name == "bias":
                target.zero_()
            continue
        fresh, share = target.detach().cpu(), int(kept.sum())
        if name == "weight" and target.dim() > 1:
            new, each = _weight(fresh, source, step, generator)
            share *= each
        else:
            new = torch.where(kept, source[rows.clamp(min=0)], fresh) if target.dim() else source
        target.copy_(new)
        taken += share > 0
        elements += share if name in parameters else 0
    return taken, elements


def _weight(fresh: Tensor, source: Tensor, step: _Step, generator: torch.Generator) -> tuple[Tensor, int]:
    """A weight (m', n', ...) from one of (m, n, ...), and how many elements a row are the source's."""
    kernel = fresh.shape[2] if fresh.dim() == 4 else 1
    source = source if source.dim() == 4 else source[:, :, None, None]
    rows, grow = torch.from_numpy(step.rows), (kernel - source.shape[2]) // 2
    weight = source[rows.clamp(min=0)]
    area = min(kernel, source.shape[2]) ** 2
    if step.columns is None:
        weight = F.pad(weight, [grow] * 4)  # a negative padding cuts
        return torch.where((rows >= 0)[:, None, None, None], weight, fresh.reshape(weight.shape)), area
    columns = torch.from_numpy(step.columns)
    shares = _shares(step.columns, len(rows), generator) * (columns >= 0)
    weight = F.pad(weight[:, columns.clamp(min=0)] * shares[:, :, None, None], [grow] * 4)
    weight = torch.where((columns == FRESH)[:, None, None], fresh.reshape(weight.shape), weight)
    return weight.reshape(fresh.shape), area * int((columns >= 0).sum())


def _shares(columns: Integers, rows: int, generator: torch.Generator) -> Tensor:
    """Between channels with the same column: random shares of its weight, with the sum 1. Shape (rows, channels)."""
    _, group, count = np.unique(columns, return_inverse=True, return_counts=True)
    if count.max() == 1:
        return torch.ones(rows, len(columns))
    drawn = torch.empty(rows, len(columns)).uniform_(*SHARES, generator=generator)
    places = torch.from_numpy(group).expand(rows, -1)
    return drawn / torch.zeros(rows, len(count)).scatter_add(1, places, drawn).gather(1, places)


def _calibrate(module: NetworkModule, norms: Sequence[str], images: Tensor) -> None:
    """Gives norms the statistics of what they read, and lets them undo what they do with those."""

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        x = inputs[0].transpose(0, 1).flatten(1).float()  # (C, B·H·W)
        norm.running_mean.copy_(x.mean(1))
        norm.running_var.copy_(x.var(1, unbiased=False))
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
        norm.bias.copy_(norm.running_mean)

    if not norms:
        return
    training = module.training
    hooks = [module.get_submodule(name).register_forward_pre_hook(measure) for name in norms]
    try:
        module.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        module.train(training)
