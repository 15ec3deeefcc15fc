"""What the operations of a space are called: the names by which people ban them.

A space says so itself, with `operation_names` and `operations(genome)`. Of one that does not, they
are the operations of its networks, convolutions with their kernel, the classifier left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nanonas.core import Genome
from nanonas.networks.ops import Node
from nanonas.spaces.base import Space

_SAMPLES = 200  # random networks that say what a space is made of


def known_operations(space: Space) -> tuple[str, ...]:
    """The names of all operations that a space chooses from."""
    names: Iterable[str] | None = getattr(space, "operation_names", None)
    if names is None:
        rng = np.random.default_rng(0)
        names = sorted(
            frozenset().union(*(operations(space, space.sample(rng)) for _ in range(_SAMPLES)))
        )
    return tuple(names)


def operations(space: Space, genome: Genome) -> frozenset[str]:
    """The operations that a genome has chosen.

    Raises `GenomeError` for what is no genome of the space.
    """
    own = getattr(space, "operations", None)
    if own is not None:
        return frozenset(own(genome))
    return frozenset(_name(node) for node in space.decode(genome).nodes[:-1])


@dataclass
class Bans:
    """Whether a genome uses an operation that is banned now.

    The study says which ones are, each time before it asks; strategies that search for the best of
    many read it, so that they do not come up with the same banned network again and again.
    """

    space: Space
    operations: frozenset[str] = frozenset()

    def __call__(self, genome: Genome) -> bool:
        return bool(self.operations) and not self.operations.isdisjoint(
            operations(self.space, genome)
        )


def _name(node: Node) -> str:
    return f"conv{node['kernel']}x{node['kernel']}" if node.op == "conv" else node.op
