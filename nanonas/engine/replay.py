"""A run derived again from its own store: what its strategy asks for, beside what was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nanonas.core import Candidate, Genome, Prediction, State, Told
from nanonas.engine.breeding import Breeding
from nanonas.engine.controls import Controls
from nanonas.engine.requests import briefly
from nanonas.engine.storage.store import RunStore
from nanonas.errors import NanonasError

# Predictions differ in their last digits from one kind of CPU to another.
_ROUNDING = 1e-6
_OF_PROPOSALS = (
    "genome",
    "parents",
    "budget",
    "resumes",
    "inherits",
    "planted",
    "ancestor",
    "recalled",
)
_OF_CANDIDATES = ("key", "asked_after", "generation")


@dataclass(frozen=True)
class Difference:
    """Something in a run that is not what it should be."""

    where: str  # "candidate #12", "weights/12.safetensors"
    what: str  # the rest of the sentence

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def replayed(store: RunStore, breeding: Breeding) -> Iterator[Difference]:
    """Derives every candidate of a run again, in number order, and gives what comes out otherwise.

    The strategy is told as many of the stored evaluations as it needs for each candidate. Bans and
    planted genomes are those of the run's events; a pause changes nothing that is asked for. Each
    candidate is derived from what the store says of those before it, so one that was changed is
    one difference, not the first of many.

    Args:
        breeding: of the run's configuration; its strategy was told nothing yet.

    Raises:
        RunError: the store cannot be read.
    """
    candidates, latest = store.candidates(), store.latest()
    controls = Controls(store, breeding.space, _accept, inbox=None, planted=0)
    strategy, told = breeding.strategy, 0
    for candidate in candidates:
        number, where = candidate.number, f"candidate #{candidate.number}"
        needs = range(told, strategy.needs(number))
        unknown = [n for n in needs if n not in latest or latest[n].state is State.CUT]
        if unknown:
            yield Difference(
                where,
                f"was asked for, but its strategy needs #{unknown[0]}, which has no evaluation; "
                "what comes from here on cannot be derived",
            )
            return
        planted = controls.plant(number)
        try:
            for n in needs:
                strategy.tell(Told(candidates[n], latest[n], candidates[n].asked_after))
            told = needs.stop if needs else told
            pending, banned = candidates[told:number], controls.banned(number)
            again = breeding.breed(number, told, pending, banned, planted)
        except NanonasError as error:
            yield Difference(where, f"cannot be derived, nor what comes after it: {error}")
            return
        if differing := _differing(candidate, again):
            yield Difference(where, "; ".join(differing))
        if planted is not None:
            controls.planted()
        breeding.take(candidate)


def _accept(genome: Genome) -> None:
    """What was planted, was planted."""


def _differing(stored: Candidate, again: Candidate) -> list[str]:
    """What a stored candidate has otherwise than one that was derived again, each as a clause."""
    pairs = {
        **{name: (getattr(stored, name), getattr(again, name)) for name in _OF_CANDIDATES},
        **{
            name: (getattr(stored.proposal, name), getattr(again.proposal, name))
            for name in _OF_PROPOSALS
        },
    }
    differing = [
        f"{name} is {_in_words(one)}, but comes to {_in_words(other)}"
        for name, (one, other) in sorted(pairs.items())
        if one != other
    ]
    predicted, expected = stored.proposal.predicted, again.proposal.predicted
    promoted_before = expected is None and stored.proposal.resumes is not None
    # earlier versions predicted promotions, too
    if not (_near(predicted, expected) or promoted_before):
        differing.append(f"the prediction is {predicted}, but comes to {expected}")
    return differing


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return briefly(value)
    return str(value) if not isinstance(value, str) else repr(value)


def _near(one: Prediction | None, other: Prediction | None) -> bool:
    """Whether two predictions are the same but for rounding."""
    if one is None or other is None:
        return one is other
    return (one.by, one.chosen) == (other.by, other.chosen) and all(
        math.isclose(ours, theirs, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        for ours, theirs in ((one.mean, other.mean), (one.std, other.std))
    )
