"""Which function of the image each channel is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanonas.core import Integers
from nanonas.networks.network import Network
from nanonas.networks.ops import Node
from nanonas.training.inheritance.parents import CHANNELWISE, IDENTITY_ABOVE_0

ZERO, NEW = -1, -2  # origins of channels: constantly zero; nobody's


class Terms:
    """Numbers for what the parents compute, channel by channel: equal numbers, equal functions of
    the image.
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
        """What a node without weights makes of channels; `NEW` where it is not known and not to be
        learnt.
        """
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


def origins(network: Network, terms: Terms, image: Integers) -> dict[str, Integers]:
    """The numbers of all that a parent computes: by node, shape (channels,)."""
    origins = {"input": image}
    for node in network.nodes:
        if node.op in (*CHANNELWISE, "add", "concat", "zero"):
            origins[node.name] = terms.computed(
                node, [origins[name] for name in node.inputs], learn=True
            )
        else:
            origins[node.name] = terms.draw(node.shape[0])
    return origins
