"""A network as it runs in 8-bit integers: the steps that are left when all is folded together that
can be. Nothing has to be trained for it.

- A norm becomes part of the convolution or dense layer before it that only it reads: it scales the
  weights and shifts the bias. Where a max pool stands between the two, the pool takes the smallest
  instead of the largest in channels that the norm turns round. Any other norm is a step of its own,
  a 1×1 convolution of each channel by itself.
- An activation is the end of the step before it that only it reads. A ReLU costs nothing, for it is
  where the integers end; any other is a table of 256 integers.
- A max pool whose windows do not overlap is computed with the convolution before it, window by
  window, so that the larger map is nowhere.
- Dropout goes, and so does what leads to nothing but zeros.

The numbers in the steps are made when a network is exported; see `deploy.c.quantised`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nanonas.core import Shape
from nanonas.networks.network import Network
from nanonas.networks.ops import ACTIVATIONS, Node

IMAGE = "input"  # the tensor that the first steps read

# operations that are steps of the same name, unless they are folded into others
_STEPS = frozenset(
    {
        "conv",
        "add",
        "concat",
        "act",
        "maxpool",
        "avgpool",
        "globalpool",
        "globalmaxpool",
        "slice",
        "space_to_depth",
        "zero",
    }
)
_FOLDED = frozenset({"norm", "dense", "dropout"})  # become convolutions, parts of them, or nothing


@dataclass(frozen=True)
class Step:
    """One step of the integer network. It writes one tensor, which has the step's name."""

    name: str  # of its first node
    op: str  # "conv" for convolutions, dense layers and norms; else the node's
    inputs: tuple[str, ...]  # names of steps, or `IMAGE`
    input_shape: Shape  # (C, H, W) of the first input; a vector is a map of one pixel
    shape: Shape  # (C, H, W) of the output
    node: Node  # the convolution, dense layer, norm, pool, … itself
    norm: str | None = None  # of a convolution: the norm that its weights and bias take in
    act: str | None = None  # of `ACTIVATIONS`: how it ends, before `pool`
    pool: Node | None = None  # of a convolution: the max pool that is computed with it
    signs: str | None = None  # the norm whose signs say where the pool takes the smallest

    @property
    def size(self) -> int:
        """Bytes of the output."""
        return math.prod(self.shape)

    @property
    def groups(self) -> int:
        """Of a convolution: the groups of channels that do not see each other."""
        return self.node.shape[0] if self.node.op == "norm" else self.node.groups

    @property
    def depthwise(self) -> bool:
        """Of a convolution: whether each group is one channel."""
        return 1 < self.groups == self.input_shape[0]

    @property
    def weights(self) -> Shape:
        """Of a convolution: (filters, channels that a filter reads, kernel, kernel)."""
        kernel = self.node.kernel
        return (self.node.shape[0], self.input_shape[0] // self.groups, kernel, kernel)

    @property
    def has_table(self) -> bool:
        """Whether it ends with an activation that is a table."""
        return self.act is not None and self.act != "relu"

    @property
    def in_place(self) -> bool:
        """Whether each output follows from the inputs in its place alone, so that it may be written
        over one of them.
        """
        if self.op != "conv":
            return self.op in ("add", "act")
        alone = self.groups == self.input_shape[0] == self.shape[0]
        return alone and self.node.kernel == self.node.stride == 1 and self.pool is None


def undeployable(network: Network) -> tuple[str, ...]:
    """The operations of a network that have no form in 8-bit integers here, by name."""
    return tuple(sorted({node.op for node in network.nodes} - _STEPS - _FOLDED))


def steps(network: Network) -> tuple[Step, ...]:
    """The steps of a network, in the order of its nodes.

    Raises ValueError where an operation has no form in 8-bit integers.
    """
    folding = _all_taken(network)
    return _needed(folding.with_pools(), folding.tensors[network.nodes[-1].name])


def roundings(network: Network) -> dict[str, str]:
    """The step that rounds the output of each node, or would round it if a later node in the same
    step did not; by node, in the order of nodes. Raises as `steps`.
    """
    folding = _all_taken(network)
    steps, found = folding.with_pools(), {}
    for node in network.nodes:
        step = folding.tensors[node.name]
        if node.op in ("norm", "act") and step in steps and steps[step].op == "maxpool":
            step = steps[step].inputs[0]  # it is part of the convolution before the pool
        found[node.name] = step
    return found


def _all_taken(network: Network) -> _Folding:
    """All nodes folded together, but pools. Raises as `steps`."""
    if unknown := undeployable(network):
        raise ValueError(f"there are no 8-bit integers for {', '.join(unknown)}")
    folding = _Folding(network)
    for node in network.nodes:
        folding.take(node)
    return folding


class _Folding:
    """Steps while they are folded together, node by node."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.steps: dict[str, Step] = {}
        self.tensors = {IMAGE: IMAGE}  # the tensor that holds each node's output
        self.holders: dict[str, list[str]] = {IMAGE: [IMAGE]}  # and the other way round

    def take(self, node: Node) -> None:
        """Adds a node to the step before it, or as a step of its own."""
        if node.op == "dropout":
            self._hold(node.name, self.tensors[node.inputs[0]])
            return
        folded = self._folded(node) or (self._own_step(node),)
        self.steps |= {step.name: step for step in folded}
        self._hold(node.name, folded[-1].name)

    def _folded(self, node: Node) -> tuple[Step, ...]:
        """The steps that a node becomes a part of; () where there are none."""
        if node.op == "norm":
            return self._with_norm(node)
        return self._with_act(node) if node.op == "act" else ()

    def _hold(self, node: str, tensor: str) -> None:
        self.tensors[node] = tensor
        self.holders.setdefault(tensor, []).append(node)

    def _own_step(self, node: Node) -> Step:
        op = "conv" if node.op in ("norm", "dense") else node.op
        read = () if op == "zero" else tuple(self.tensors[name] for name in node.inputs)
        act = str(node["kind"]) if op == "act" else None
        return Step(
            node.name, op, read, _map(node.input_shapes[0]), _map(node.shape), node, act=act
        )

    def _with_norm(self, norm: Node) -> tuple[Step, ...]:
        """The convolution before a norm, and the max pool between the two, with the norm in them;
        () where it must be a step of its own.
        """
        chain = self._convolution_before(norm)
        if not chain or chain[0].norm or chain[0].act or chain[0].node.op == "norm":
            return ()
        pools = (replace(pool, signs=norm.name) for pool in chain[1:])
        return (replace(chain[0], norm=norm.name), *pools)

    def _with_act(self, act: Node) -> tuple[Step, ...]:
        """The step before an activation that ends with it; () where there is none."""
        kind = str(act["kind"])
        before = self._before(act)
        if before is not None and before.op == "add" and not before.act:
            return (replace(before, act=kind),)
        chain = self._convolution_before(act)
        # the largest of the activations is the activation of the largest, and so of the smallest
        if not chain or chain[0].act or (chain[1:] and not ACTIVATIONS[kind].increasing):
            return ()
        return (replace(chain[0], act=kind), *chain[1:])

    def _convolution_before(self, node: Node) -> tuple[Step, ...]:
        """The convolution that a node reads, or that and the max pool between the two; () where
        others read them, too.
        """
        before = self._before(node)
        if before is None or before.op not in ("conv", "maxpool"):
            return ()
        if before.op == "conv":
            return (before,)
        convolution = self._before(before.node)
        if convolution is None or convolution.op != "conv":
            return ()
        return (convolution, before)

    def _before(self, node: Node) -> Step | None:
        """The step that a node reads, where nothing else does."""
        read = node.inputs[0]
        return self.steps.get(self.tensors[read]) if self._alone(read) else None

    def _alone(self, name: str) -> bool:
        """Whether one node alone reads the tensor that a node's output is in."""
        tensor = self.tensors[name]
        readers = [
            reader
            for holder in self.holders[tensor]
            for reader in self.network.readers[holder]
            if self.tensors.get(reader.name) != tensor
        ]
        return len(readers) == 1

    def with_pools(self) -> dict[str, Step]:
        """The steps, with each 2×2 max pool of stride 2 computed with the convolution before it."""
        steps = dict(self.steps)
        for pool in self.steps.values():
            if pool.op != "maxpool" or not pool.node.kernel == pool.node.stride == 2:
                continue
            before = self._before(pool.node)
            if before is None or before.op != "conv" or steps[before.name].pool:
                continue
            del steps[pool.name]
            steps[before.name] = replace(before, pool=pool.node, signs=pool.signs, shape=pool.shape)
            for node in self.holders.pop(pool.name):
                self._hold(node, before.name)
        return {name: self._reading(step) for name, step in steps.items()}

    def _reading(self, step: Step) -> Step:
        """The step with the tensors that hold what it reads now."""
        read = tuple(self.tensors[name] for name in step.inputs)
        return step if read == step.inputs else replace(step, inputs=read)


def _map(shape: Shape) -> Shape:
    """A shape as that of a map: a vector is one of a single pixel."""
    return shape if len(shape) == 3 else (*shape, 1, 1)


def _needed(steps: dict[str, Step], output: str) -> tuple[Step, ...]:
    """Those on a way to the output, in their order."""
    needed, waiting = set[str](), [output]
    while waiting:
        name = waiting.pop()
        if name != IMAGE and name not in needed:
            needed.add(name)
            waiting.extend(steps[name].inputs)
    return tuple(step for step in steps.values() if step.name in needed)
