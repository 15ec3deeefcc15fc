"""Who came from whom, and how: by which edit, or as the same network again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from nanonas.analysis.record import Record
from nanonas.core import Genome
from nanonas.networks.align import align
from nanonas.networks.edits import Difference, Edit, edits
from nanonas.networks.ops import Node
from nanonas.spaces.base import Space

RANDOM, PLANTED, CROSSED = "random", "planted by a person", "crossover"
TWIN, RESUMED = "the same, from scratch", "trained on"


@dataclass(frozen=True)
class Step:
    """How a candidate came about."""

    number: int
    kind: str  # that of its edits (see `Difference.kind`), or one of the constants above
    parent: int | None = None  # its first one
    edits: tuple[Edit, ...] = ()
    marks: Mapping[str, str] = field(
        default_factory=dict
    )  # "new" or "changed", by the name of a node of the child
    gone: tuple[Node, ...] = ()  # the parent's nodes that it lacks
    gain: float | None = None  # its accuracy minus its parent's

    @property
    def bred(self) -> bool:
        """Whether it is one parent's child by edits, and not the same network again."""
        return self.parent is not None and self.kind not in (CROSSED, TWIN, RESUMED)


def steps(record: Record) -> list[Step]:
    """How each candidate of a run came about, by number.

    About 2 ms for each that was not looked at before.
    """
    return [step(record, entry.number) for entry in record.entries]


def step(record: Record, number: int) -> Step:
    """How one candidate came about."""
    entry = record.entries[number]
    proposal = entry.candidate.proposal
    parent = next((one for one in proposal.parents if one < number), None)
    if parent is None:
        return Step(number, PLANTED if proposal.planted else RANDOM)
    before = record.entries[parent]
    gain = (
        None
        if entry.accuracy is None or before.accuracy is None
        else entry.accuracy - before.accuracy
    )
    if before.candidate.key == entry.candidate.key:
        again = TWIN if proposal.resumes is None else RESUMED
        return Step(number, again, parent, gain=gain)
    found = difference(record.space, before.genome, entry.genome)
    kind = CROSSED if len(proposal.parents) > 1 else found.kind
    return Step(number, kind, parent, found.edits, found.marks, found.gone, gain)


def family(record: Record) -> list[int]:
    """Of each candidate, the number of the random one that it goes back to by its first parents."""
    roots: list[int] = []
    for entry in record.entries:
        parents = entry.candidate.proposal.parents
        roots.append(roots[parents[0]] if parents and parents[0] < len(roots) else entry.number)
    return roots


def ancestors(record: Record, number: int) -> list[int]:
    """A candidate, its first parent, that one's first parent, …"""
    way = [number]
    while (parents := record.entries[way[-1]].candidate.proposal.parents) and parents[0] < way[-1]:
        way.append(parents[0])
    return way


def rows(record: Record) -> list[float]:
    """A place, from 0 up, for each candidate of the tree.

    Families are together. The way to the winner, and elsewhere the child with the most descendants,
    keeps its parent's place, so that lines of descent are straight. The other children lie above
    and below it by turns, the first ones
    outermost: their lines are short and steep, and those of the later ones pass inside of them.
    """
    children: dict[int, list[int]] = {}
    sizes, roots = [1] * len(record.entries), []
    for entry in reversed(record.entries):
        parents = entry.candidate.proposal.parents
        if parents and parents[0] < entry.number:
            sizes[parents[0]] += sizes[entry.number]
            children.setdefault(parents[0], []).append(entry.number)
        else:
            roots.append(entry.number)
    spine = set(ancestors(record, record.winner.number)) if record.winner is not None else set()

    def heavy(numbers: list[int]) -> int:
        return max(numbers, key=lambda number: (number in spine, sizes[number], -number))

    places = [0.0] * len(record.entries)
    free, waiting = 0, [roots] if roots else []
    while waiting:
        siblings = waiting.pop()
        if len(siblings) > 1:
            middle = heavy(siblings)
            others = sorted(number for number in siblings if number != middle)
            ordered = [*others[::2], middle, *others[1::2][::-1]]
            waiting += [[number] for number in reversed(ordered)]
        elif siblings[0] in children:
            waiting.append(children[siblings[0]])
        else:
            places[siblings[0]], free = float(free), free + 1
    for entry in reversed(record.entries):
        if entry.number in children:
            places[entry.number] = places[heavy(children[entry.number])]
    return places


def difference(space: Space, parent: Genome, child: Genome) -> Difference:
    """What a child's network has otherwise than its parent's; remembered, for it takes 1 to 2 ms."""
    try:
        return _remembered(cast(Hashable, space), parent, child)
    except TypeError:  # somebody's own space that cannot be hashed
        return _remembered.__wrapped__(space, parent, child)


@lru_cache(maxsize=20_000)
def _remembered(space: Any, parent: Genome, child: Genome) -> Difference:
    old, young = space.decode(parent), space.decode(child)
    alignment = align(old, young)
    marks = dict.fromkeys(alignment.new, "new")
    for name, was in alignment.changed.items():
        if young.named[name].attributes != old.named[was].attributes:
            marks[name] = "changed"
    gone = tuple(old.named[name] for name in alignment.gone)
    return Difference(edits(old, young, alignment), marks, gone)
