"""Which function of the image each channel is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanonas.core import Integers
from nanonas.networks.network import Network
from nanonas.networks.ops import ACTIVATIONS, Activation, Node

# Origins of channels are numbers from 0 up; besides: constantly zero; what no parent computes.
ZERO, NEW = -1, -2


class ChannelNumbers:
    """Numbers for what the parents compute, channel by channel: equal numbers, equal functions of
    the image in eval mode.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, tuple[int, ...]], int] = {}
        self._nonnegative: set[int] = set()
        self._count = 0

    def draw(self, channels: int) -> Integers:
        """Numbers for channels that are like no others."""
        self._count += channels
        return np.arange(self._count - channels, self._count)

    def computed(self, node: Node, inputs: Sequence[Integers], learn: bool = False) -> Integers:
        """What a node without tensors makes of channels, shape (channels of its output,).

        Args:
            inputs: the numbers of each input's channels.
            learn: gives a number to a function that was not seen before; otherwise it is `NEW`.
        """
        if node.op == "zero":
            return np.full(node.shape[0], ZERO)
        if node.op == "concat":
            return np.concatenate(inputs)
        if node.traits.identity is not None:
            return inputs[0]
        if node.channelwise:
            function = str(node)
            columns = zip(*(numbers.tolist() for numbers in inputs), strict=True)
            return np.array([self._number(node, function, read, learn) for read in columns])
        read = tuple(np.concatenate(inputs).tolist())
        channels = range(node.shape[0])
        return np.array([self._number(node, f"{node}[{n}]", read, learn) for n in channels])

    def _number(self, node: Node, function: str, read: tuple[int, ...], learn: bool) -> int:
        """The number of a function of the channels that are read."""
        if node.op == "add":
            read = tuple(sorted(number for number in read if number != ZERO))
            if len(read) == 1:
                return read[0]
        if NEW in read:
            return NEW
        if node.traits.keeps_zero and all(number == ZERO for number in read):
            return ZERO
        nonnegative = self._nonnegative.issuperset(read)
        activation = _activation(node)
        if activation.identity_above_0 and nonnegative:
            return read[0]
        number = self._numbers.get((function, read))
        if number is not None:
            return number
        if not learn:
            return NEW
        number = self._numbers[function, read] = self._count
        self._count += 1
        if activation.nonnegative or (node.traits.keeps_sign and nonnegative):
            self._nonnegative.add(number)
        return number


def origins(network: Network, numbers: ChannelNumbers, image: Integers) -> dict[str, Integers]:
    """The numbers of all that a parent computes: by node, shape (channels,)."""
    origins = {"input": image}
    for node in network.nodes:
        if node.tensors:
            origins[node.name] = numbers.draw(node.shape[0])
        else:
            inputs = [origins[name] for name in node.inputs]
            origins[node.name] = numbers.computed(node, inputs, learn=True)
    return origins


def _activation(node: Node) -> Activation:
    """What is known of an activation; nothing for other operations."""
    kind = node.values.get("kind", "") if node.op == "act" else ""
    return ACTIVATIONS.get(str(kind), Activation())
