"""NAS-Bench-201: 15,625 cells of four nodes with one of five operations on each of six edges.

Dong & Yang, ICLR 2020, https://arxiv.org/abs/2001.00326; details as in their code, so that counts
are as published:

    image → conv3x3, norm (16 channels) → 5 cells
          → residual block of stride 2 → 5 cells of 32 channels
          → residual block of stride 2 → 5 cells of 64 channels
          → norm, relu, global average pooling → dense

A node of a cell is the sum of what its edges bring, node 0 is the cell's input and node 3 its
output. A genome has the operations of the edges in the order of the official string,
``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

What is drawn is what a cell computes: nothing for an edge that is dead (no path from the input or
none to the output) or a skip, one sum where sums are nested, one pool where two pools read the
same. So cells that are written differently and compute the same have one network. Convolutions that
read the same stay two: their weights differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

import numpy as np

from nanonas.core import Floats, Genome, Integers
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.network import Draft, Network, classifier, conv_norm, relu
from nanonas.spaces.base import Space, check_options, integers
from nanonas.spaces.choices import point_mutation, uniform_crossover

# a genome's numbers are positions
NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV1, CONV3, POOL = range(len(NAMES))
KERNELS = {CONV1: 1, CONV3: 3}

# in the order of a genome
EDGES = tuple((source, target) for target in (1, 2, 3) for source in range(target))

Sum = tuple[int, ...]  # numbers of the values that are added up, sorted; () is zero
Step = tuple[int, Sum]  # an operation and what it reads


@dataclass(frozen=True)
class NASBench201Space(Space):
    """The cells for one input shape (C, H, W) and number of classes.

    `channels` is the width of the first stage; the second has twice as many, the third four times.
    `cells` is how many a stage has. Strides stop where a side of the map is 1. With the defaults a
    network has 73 thousand (no convolution) to 1.53 million parameters (six of 3×3).
    """

    channels: int = 16
    cells: int = 5
    name = "nasbench201"

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, value in (("channels", self.channels), ("cells", self.cells)):
            if value < 1:
                raise ConfigError(f"{what} must be 1 or more, but is {value}.")

    def options(self) -> dict[str, tuple[str, ...]]:
        """The decision at every edge, and its options in the order of their numbers."""
        return {"operation": NAMES}

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operations that can be banned."""
        return NAMES

    def operations(self, genome: Sequence[int]) -> frozenset[str]:
        """Those on the edges; a dead edge has `none`. Raises `GenomeError`."""
        return frozenset(NAMES[number] for number in self.live(genome))

    def genomes(self) -> Iterator[Genome]:
        """All 15,625 genomes, in lexicographic order."""
        return product(range(len(NAMES)), repeat=len(EDGES))

    def sample(self, rng: np.random.Generator) -> Genome:
        """A canonical genome: each of the 5,260 networks is as likely as the others.

        Of 200 cells of random operations about 50 would be others over again.
        """
        networks = tuple(_first_of_key().values())
        return networks[int(rng.integers(len(networks)))]

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """One edge with another operation; drawn again until the network is another.

        Raises `GenomeError`.
        """
        genome = _checked(genome)
        while True:
            child = point_mutation(genome, len(NAMES), rng)
            if self.key(child) != self.key(genome):
                return child

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """Each edge from either parent, as likely as from the other."""
        return uniform_crossover(a, b, rng)

    def decode(self, genome: Sequence[int]) -> Network:
        """The network; cells that compute the same have the same one. Raises `GenomeError`."""
        return _network(self, self.canonical(genome))

    def live(self, genome: Sequence[int]) -> Genome:
        """The genome with `none` on its dead edges. Raises `GenomeError`."""
        return _live(_checked(genome))

    def key(self, genome: Sequence[int]) -> str:
        """What the cell computes, in words: equal where `Network.key` is, in microseconds.

        Raises `GenomeError`.
        """
        return _key(self.live(genome))

    def canonical(self, genome: Sequence[int]) -> Genome:
        """The first genome, in the order of `genomes`, with the same network.

        Raises `GenomeError`.
        """
        return _first_of_key()[self.key(genome)]

    def params(self, genome: Sequence[int]) -> int:
        """The network's trainable parameters, without drawing it. Raises `GenomeError`."""
        frame = _network(self, (NONE,) * len(EDGES)).params
        widths = [self.channels * factor for factor in (1, 2, 4)]
        kernels = [KERNELS[number] for number in self.live(genome) if number in KERNELS]
        return frame + self.cells * sum(
            (kernel * width) ** 2 + 2 * width for kernel in kernels for width in widths
        )

    @property
    def groups(self) -> tuple[int, ...]:
        """Of the features: paths, size, operations, depth."""
        return (len(_PATHS), 1, len(NAMES) - 1, 4)

    def encode(self, genome: Sequence[int]) -> Floats:
        """The canonical cell in numbers: shape (sum of `groups`,). Raises `GenomeError`.

        How many paths lead from input to output with each sequence of operations, skips left out;
        log parameters; how many edges have each operation; convolutions (of any size, of 3×3) on
        the longest path, and nodes and paths alive.
        """
        numbers = self.canonical(genome)
        used = [numbers.count(number) for number in range(1, len(NAMES))]
        paths, depth = np.split(_cell_features(numbers), [len(_PATHS)])
        return np.concatenate([paths, [np.log(self.params(genome))], used, depth])

    def tokens(self, genome: Sequence[int]) -> Integers:
        """The operations, `none` on dead edges: shape (6, 1). Raises `GenomeError`."""
        return super().tokens(self.live(genome))

    def describe(self, genome: Sequence[int]) -> list[str]:
        """One line an edge, as in "node 0 to 1: nor_conv_3x3"; says which are dead.

        Raises `GenomeError`.
        """
        genome = _checked(genome)
        return [
            f"node {source} to {target}: {NAMES[number]}{'' if number == living else ' (dead)'}"
            for (source, target), number, living in zip(
                EDGES, genome, self.live(genome), strict=True
            )
        ]

    def parse(self, arch: str) -> Genome:
        """The genome of an official string. Raises `GenomeError` for what is none."""
        names = re.findall(r"(\w+)~", arch)
        genome = tuple(NAMES.index(name) for name in names if name in NAMES)
        if len(genome) != len(EDGES) or self.arch_string(genome) != arch:
            raise GenomeError(
                "a cell must read |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, each op one of "
                f"{', '.join(NAMES)}, "
                f"but is {arch!r}."
            )
        return genome

    def arch_string(self, genome: Sequence[int]) -> str:
        """The official string of a genome. Raises `GenomeError`."""
        nodes = [""] * 3
        for (source, target), number in zip(EDGES, _checked(genome), strict=True):
            nodes[target - 1] += f"{NAMES[number]}~{source}|"
        return "+".join(f"|{node}" for node in nodes)


def _checked(genome: Sequence[int]) -> Genome:
    genome = integers(genome)
    if len(genome) != len(EDGES):
        raise GenomeError(
            "a genome of the space 'nasbench201' must have 6 operations, one an edge, but has "
            f"{len(genome)}."
        )
    check_options("nasbench201", genome, NAMES)
    return genome


# --- what a cell computes -------------------------------------------------------------------------


def _live(genome: Genome) -> Genome:
    # a published network keeps a convolution that reads a zero, and so the shift of its norm; here
    # zero stays zero
    edges = [edge for edge, number in zip(EDGES, genome, strict=True) if number != NONE]
    reached, needed = {0}, {3}
    for source, target in edges:  # in the order of targets: a source is decided before it is read
        if source in reached:
            reached.add(target)
    for source, target in reversed(edges):
        if target in needed:
            needed.add(source)
    return tuple(
        number if source in reached and target in needed else NONE
        for (source, target), number in zip(EDGES, genome, strict=True)
    )


def _steps(live: Genome) -> tuple[list[Step], Sum]:
    """The steps of a live cell, and its output.

    Value 0 is the cell's input, value n what the n-th step makes.
    """
    nodes: list[Sum] = [(0,), (), (), ()]
    steps: list[Step] = []
    for (source, target), number in zip(EDGES, live, strict=True):
        if number == NONE:
            continue
        brought = nodes[source]
        if number != SKIP:
            step = (number, brought)
            if number == POOL and step in steps:  # without weights, the same again
                brought = (steps.index(step) + 1,)
            else:
                steps.append(step)
                brought = (len(steps),)
        nodes[target] = tuple(sorted(nodes[target] + brought))
    return steps, nodes[3]


def _key(live: Genome) -> str:
    """The output, and all values and sums on the way to it: as in `Network.key`, shared and doubled
    ones differ.
    """
    steps, output = _steps(live)
    words = ["x"]

    def in_words(values: Sum) -> str:
        return "+".join(sorted(words[value] for value in values))

    for number, read in steps:
        words.append(f"{NAMES[number]}({in_words(read)})")
    sums = {read for read in (*(read for _, read in steps), output) if len(read) > 1}
    return "; ".join([in_words(output), *sorted(words[1:]), *sorted(map(in_words, sums))])


@lru_cache(maxsize=1)
def _first_of_key() -> dict[str, Genome]:
    """The lexicographically first genome of every key: about 0.3 s once a process."""
    first: dict[str, Genome] = {}
    for genome in product(range(len(NAMES)), repeat=len(EDGES)):
        if _live(genome) == genome:  # the first of its key is live: `none` comes first
            first.setdefault(_key(genome), genome)
    return first


Path = tuple[int, ...]  # the operations from the input to a node, skips left out
_PATHS: dict[Path, int] = {  # and their places among the features
    path: place
    for place, path in enumerate(
        path for length in range(4) for path in product((CONV1, CONV3, POOL), repeat=length)
    )
}


@cache  # of 5,260 canonical cells at most
def _cell_features(canonical: Genome) -> Floats:
    """How often each of the `_PATHS` is there; then what `encode` calls the depth: shape (paths +
    4,).
    """
    into: dict[int, list[Path]] = {0: [()], 1: [], 2: [], 3: []}
    for (source, target), number in zip(EDGES, canonical, strict=True):
        if number == NONE:
            continue
        step = () if number == SKIP else (number,)
        into[target] += [path + step for path in into[source]]
    features = np.zeros(len(_PATHS) + 4)
    for path in into[3]:
        features[_PATHS[path]] += 1
    features[len(_PATHS) :] = [
        max((path.count(CONV1) + path.count(CONV3) for path in into[3]), default=-1),
        max((path.count(CONV3) for path in into[3]), default=-1),
        sum(bool(into[node]) for node in (1, 2, 3)),
        len(into[3]),
    ]
    return features


# --- drawing --------------------------------------------------------------------------------------


@lru_cache(maxsize=256)  # 90 KB each
def _network(space: NASBench201Space, live: Genome) -> Network:
    steps, output = _steps(live)
    draft = Draft(space.input_shape, space.classes)
    x = conv_norm(draft, "input", space.channels, 3)
    for stage in range(3):
        if stage:
            x = _residual_block(draft, x, space.channels * 2**stage)
        for _ in range(space.cells):
            x = _cell(draft, x, steps, output)
    x = relu(draft, draft.add("norm", x))
    return classifier(draft, x)


def _cell(draft: Draft, x: str, steps: Sequence[Step], output: Sum) -> str:
    """The cell's output; zeros where nothing reaches it."""
    values = [x]
    sums: dict[Sum, str] = {}

    def added(numbers: Sum) -> str:
        if len(numbers) == 1:
            return values[numbers[0]]
        if not numbers:
            return draft.add("zero", x)
        if numbers not in sums:
            sums[numbers] = draft.add("add", *(values[number] for number in numbers))
        return sums[numbers]

    for number, read in steps:
        y = added(read)
        if number == POOL:
            y = draft.add("avgpool", y, kernel=3, stride=1)
        else:
            y = conv_norm(draft, relu(draft, y), draft.shape(x)[0], KERNELS[number])
        values.append(y)
    return added(output)


def _residual_block(draft: Draft, x: str, filters: int) -> str:
    """Halves the map: two of relu, conv3x3, norm; around them average pooling and conv1x1 without
    norm.
    """
    y = conv_norm(draft, relu(draft, x), filters, 3, stride=2)
    y = conv_norm(draft, relu(draft, y), filters, 3)
    _, height, width = draft.shape(x)
    if min(height, width) > 1:
        # 2×2 as published, but it loses the last row of an odd side, which the convolution keeps
        x = draft.add("avgpool", x, kernel=3 if height % 2 or width % 2 else 2, stride=2)
    x = draft.add("conv", x, filters=filters, kernel=1, stride=1, groups=1, bias=False)
    return draft.add("add", x, y)
