"""Who came from whom, and how each candidate came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nanonas.analysis.record import Record
from nanonas.analysis.remembered import of_networks
from nanonas.networks.edits import Edit, difference
from nanonas.networks.ops import Node

# how a candidate came about, but for edits
RANDOM, PLANTED, CROSSED = "random", "planted by a person", "crossover"
HAND_MADE, RECALLED = "hand-made", "found by another run"
TWIN, RESUMED = "the same, from scratch", "trained on"


@dataclass(frozen=True)
class Step:
    """How a candidate came about.

    Attributes:
        kind: that of its edits (see `Difference.kind`), or one of the constants above.
        parent: the first one.
        marks: "new" or "changed", by the name of a node of the child.
        gone: the parent's nodes that it lacks.
        gain: its accuracy minus its parent's.
    """

    number: int
    kind: str
    parent: int | None = None
    edits: tuple[Edit, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[Node, ...] = ()
    gain: float | None = None

    @property
    def bred(self) -> bool:
        """Whether it is one parent's child by edits, and not the same network again."""
        return self.parent is not None and self.kind not in (CROSSED, TWIN, RESUMED)


def step(record: Record, number: int) -> Step:
    """How one candidate came about; takes about 2 ms where it was not looked at before."""
    entry = record.entries[number]
    proposal = entry.proposal
    parent = next((ancestor for ancestor in proposal.parents if ancestor < number), None)
    if parent is None:
        kind = HAND_MADE if proposal.ancestor else RECALLED if proposal.recalled else RANDOM
        return Step(number, PLANTED if proposal.planted else kind)
    before = record.entries[parent]
    gain = None
    if entry.accuracy is not None and before.accuracy is not None:
        gain = entry.accuracy - before.accuracy
    if before.candidate.key == entry.candidate.key:
        again = TWIN if proposal.resumes is None else RESUMED
        return Step(number, again, parent, gain=gain)
    how = of_networks(difference, record.space, before.genome, entry.genome)
    kind = CROSSED if len(proposal.parents) > 1 else how.kind
    return Step(number, kind, parent, how.edits, how.marks, how.gone, gain)


@dataclass(frozen=True)
class Tree:
    """Who came from whom, by first parents; everything by number of the candidate.

    Attributes:
        families: the candidate, random or hand-made, that each goes back to.
        children: in the order of their numbers.
        way: the winner, its first parent, that one's first parent, …; empty without a winner.
        places: where each is drawn, from 0 up.
    """

    families: list[int]
    children: list[list[int]]
    way: list[int]
    places: list[float]


def tree(record: Record) -> Tree:
    """The tree of a run."""
    families: list[int] = []
    children: list[list[int]] = [[] for _ in record.entries]
    for entry in record.entries:
        parent = _first_parent(record, entry.number)
        if parent is None:
            families.append(entry.number)
        else:
            families.append(families[parent])
            children[parent].append(entry.number)
    way = ancestors(record, record.winner.number) if record.winner is not None else []
    roots = [number for number, root in enumerate(families) if number == root]
    return Tree(families, children, way, _places(roots, children, set(way)))


def _first_parent(record: Record, number: int) -> int | None:
    parents = record.entries[number].proposal.parents
    return parents[0] if parents and parents[0] < number else None


def ancestors(record: Record, number: int) -> list[int]:
    """A candidate, its first parent, that one's first parent, …"""
    way = [number]
    while (parent := _first_parent(record, way[-1])) is not None:
        way.append(parent)
    return way


def _places(roots: list[int], children: list[list[int]], spine: set[int]) -> list[float]:
    """A place for each candidate, so that lines of descent are straight and families together.

    The way to the winner (`spine`), and elsewhere the child with the most descendants, keeps its
    parent's place. The other children lie above and below it by turns, the first ones outermost:
    their lines are short and steep, and those of the later ones pass inside of them.
    """
    sizes = [1] * len(children)
    for number in reversed(range(len(children))):
        sizes[number] += sum(sizes[child] for child in children[number])

    def heavy(numbers: list[int]) -> int:
        return max(numbers, key=lambda number: (number in spine, sizes[number], -number))

    places = [0.0] * len(children)
    free, waiting = 0, [roots] if roots else []
    while waiting:
        siblings = waiting.pop()
        if len(siblings) > 1:
            middle = heavy(siblings)
            others = sorted(number for number in siblings if number != middle)
            ordered = [*others[::2], middle, *others[1::2][::-1]]
            waiting += [[number] for number in reversed(ordered)]
        elif children[siblings[0]]:
            waiting.append(children[siblings[0]])
        else:
            places[siblings[0]], free = float(free), free + 1
    for number in reversed(range(len(children))):
        if children[number]:
            places[number] = places[heavy(children[number])]
    return places
