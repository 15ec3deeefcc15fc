"""What can be built: the base of all search spaces, and the bans of their operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

from nanonas.core import Floats, Genome, Integers, Shape
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.features import GROUPS, features
from nanonas.networks.network import Network
from nanonas.networks.ops import Attribute

_SAMPLES = 200  # random networks that show which operations a space chooses from


@dataclass(frozen=True)
class Space(ABC):
    """What can be built, for one input shape and one number of classes. Frozen and picklable.

    A space writes `sample`, `mutate`, `crossover` and `decode`; everything else follows from the
    networks, and can be replaced by what fits the space better. Options of a space are further
    fields; a space that has some is a frozen dataclass, too.

    Raises:
        ConfigError: the shape is not (channels, height, width), each 1 or more, or the classes are
            fewer than 2.
    """

    input_shape: Shape = (3, 32, 32)  # (channels, height, width)
    classes: int = 10

    def __post_init__(self) -> None:
        check_problem(self.input_shape, self.classes)

    @property
    def name(self) -> str:
        """By default that of the class, as in "widths" for `Widths` or `WidthsSpace`."""
        return type(self).__name__.removesuffix("Space").lower()

    # --- what every space has to say --------------------------------------------------------------

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Genome:
        """A random genome."""

    @abstractmethod
    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child whose network differs from the genome's, one edit away."""

    @abstractmethod
    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """A child of both."""

    @abstractmethod
    def decode(self, genome: Genome) -> Network:
        """The network. Raises `GenomeError` for what is no genome of this space."""

    # --- what follows from the networks -----------------------------------------------------------

    def key(self, genome: Genome) -> str:
        """Equal for genomes of one network, and only for them: `Network.key`, where a space has
        nothing that is quicker. Raises `GenomeError`.
        """
        return self.decode(genome).key

    @property
    def groups(self) -> tuple[int, ...]:
        """How many features belong to each group of features, in the order of `encode`."""
        return tuple(GROUPS.values())

    def encode(self, genome: Genome) -> Floats:
        """What predictors read: shape (sum of groups,), the same features in the same places for
        every genome. Raises `GenomeError`.
        """
        return features(self.decode(genome))

    def tokens(self, genome: Genome) -> Integers:
        """What sequence models read: shape (steps, fields), whole numbers of 0 or more; steps may
        differ by genome. By default the genome itself, one number a step.

        Raises `GenomeError`.
        """
        return np.array(integers(genome), dtype=np.int64)[:, None]

    def describe(self, genome: Genome) -> list[str]:
        """The genome for people, one line a decision. By default the network, one line an
        operation.

        Raises `GenomeError`.
        """
        return [str(node) for node in self.decode(genome).nodes]

    def genomes(self) -> Iterator[Genome] | None:
        """All genomes, one after the other; None where they are too many to be enumerated."""
        return None

    def ancestors(self) -> Mapping[str, Genome]:
        """Hand-made networks by name, with which a first generation may begin; none by default."""
        return {}

    def adopted(self, genome: Sequence[int], drawn_for: Shape) -> Genome:
        """A genome of this space for other images, of the shape `drawn_for`, as one for these, with
        what it may cost here. By default as it is.

        Raises `GenomeError` for what is no genome of this space.
        """
        adopted = integers(genome)
        self.decode(adopted)
        return adopted

    def options(self) -> Mapping[str, tuple[Attribute, ...]]:
        """The decisions of a genome, and the options of each in the order of their numbers."""
        return {}

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operations that can be banned. By default those of 200 random networks."""
        rng = np.random.default_rng(0)
        used = [self.operations(self.sample(rng)) for _ in range(_SAMPLES)]
        return tuple(sorted(frozenset().union(*used)))

    def operations(self, genome: Genome) -> frozenset[str]:
        """The operations that a genome has chosen, out of `operation_names`. By default those of
        its network, convolutions with their kernel, the classifier left out.

        Raises `GenomeError`.
        """
        return frozenset(node.operation for node in self.decode(genome).nodes[:-1])

    def at(self, image_size: int | None) -> Space:
        """The space for images of `image_size` pixels a side; None: as they are.

        Raises `ConfigError` where there is none.
        """
        if image_size is None:
            return self
        try:
            return replace(self, input_shape=(self.input_shape[0], image_size, image_size))
        except (TypeError, ValueError):  # its class is made of something else
            raise ConfigError(
                f"the space {self.name!r} cannot be seen at {image_size} pixels, for it is not "
                "made with an input_shape; leave the image size of the rungs out"
            ) from None


@dataclass
class Bans:
    """Whether a genome uses an operation that is banned now.

    The study sets the banned ones, each time before it asks; strategies that search for the best of
    many read them, so that they do not propose the same banned network again and again.
    """

    space: Space
    operations: frozenset[str] = frozenset()

    def __call__(self, genome: Genome) -> bool:
        if not self.operations:
            return False
        return not self.operations.isdisjoint(self.space.operations(genome))


# --- checks of what a space is handed -------------------------------------------------------------


def check_problem(input_shape: Shape, classes: int) -> None:
    """Raises `ConfigError` unless the shape is (channels, height, width), each 1 or more, and
    classes are 2 or more.
    """
    if len(input_shape) != 3 or any(not _whole(size) or size < 1 for size in input_shape):
        raise ConfigError(
            "input_shape must be (channels, height, width), whole numbers of 1 or more, but is "
            f"{input_shape!r:.80}; give for instance (3, 32, 32)."
        )
    if not _whole(classes) or classes < 2:
        raise ConfigError(f"classes must be a whole number of 2 or more, but is {classes!r:.80}.")


def integers(genome: Sequence[int]) -> Genome:
    """The genome as a tuple of Python's own integers.

    Raises `GenomeError` for what is no list of integers.
    """
    if type(genome) is tuple and set(map(type, genome)) == {int}:
        return genome  # as nearly always: in a third of the time
    if isinstance(genome, (str, bytes)) or not isinstance(genome, (Sequence, np.ndarray)):
        raise GenomeError(
            f"a genome must be a list of integers, but is {genome!r}; give for instance [0, 1, 2, "
            "3]."
        )
    for position, value in enumerate(genome):
        if type(value) is not int and not _whole(value):
            raise GenomeError(
                f"a genome must be a list of integers, but position {position} holds {value!r}."
            )
    return tuple(map(int, genome))


def check_options(space: str, genome: Genome, names: Sequence[str]) -> None:
    """Raises `GenomeError` unless each number of the genome is a position in `names`, the options
    of the space.
    """
    for position, number in enumerate(genome):
        if not 0 <= number < len(names):
            table = ", ".join(f"{n} {name}" for n, name in enumerate(names))
            raise GenomeError(
                f"position {position} of a genome of the space {space!r} must be 0 to "
                f"{len(names) - 1} ({table}), but is {number}."
            )


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
