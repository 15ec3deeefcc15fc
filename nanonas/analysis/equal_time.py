"""Whether a search was worth its time: what it came to beside what else the same time buys.

All contenders have the same limits and the same time in all, so only what the time was spent on
differs. Two of them are compared seed by seed, since a seed's split and order are common to both.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from nanonas.maths.intervals import mean_interval
from nanonas.text import duration, signed
from nanonas.typed import Check, finite, fitting, many, mapping, share, text, whole

SEARCH = "search"  # the run, whole: candidates, and the winner's training
RANDOM_NETWORK = "random-network"  # another one for each seed
RANDOM_SEARCH = "random-search"  # with the run's plan, without hand-made networks
RESNET18 = "resnet18"  # outside the limits

Sign: TypeAlias = Literal["for", "against", "open"]


@dataclass(frozen=True)
class Trained:
    """What came of a contender with one seed.

    Attributes:
        contender: one of the names above, or that of a hand-made network.
        test_accuracy: in [0, 1], by `metric`.
        epochs: of the final training.
        seconds: in all.
        metric: of the run: "accuracy" or "balanced_accuracy".
    """

    contender: str
    seed: int
    test_accuracy: float
    params: int
    macs: int
    epochs: float
    seconds: float
    metric: str = "accuracy"


@dataclass(frozen=True)
class Row:
    """A contender: means over its seeds.

    Attributes:
        spread: standard deviation of the test accuracy; None of one seed.
        ahead: by how much the search's accuracy is above this one's, the mean over the seeds that
            both have; None where there are none.
        half: half the width of its 95 % interval (Student's t); None of fewer than two seeds.
    """

    contender: str
    seeds: int
    test_accuracy: float
    spread: float | None
    params: float
    macs: float
    epochs: float
    seconds: float
    ahead: float | None
    half: float | None


@dataclass(frozen=True)
class Earned:
    """What the search is ahead of its yardstick by.

    Attributes:
        against: the contender.
        mean: difference of test accuracies, the mean over `seeds`.
        half: half the width of its 95 % interval; None of one seed.
        among: of how many hand-made networks it is the best; 0: it is no hand-made one.
    """

    against: str
    mean: float
    half: float | None
    seeds: int
    among: int

    @property
    def sign(self) -> Sign:
        """Whether it speaks for the search; "open" where the seeds cannot tell."""
        if self.half is None or abs(self.mean) <= self.half:
            return "open"
        return "for" if self.mean > 0 else "against"


@dataclass(frozen=True)
class EqualTime:
    """A comparison at equal size and equal total time, as far as it has come.

    Attributes:
        seconds: that each contender has for each seed.
        limits: on the networks' counts, in words; "" without any.
        hand_made: the names of the hand-made networks within the limits.
        trained: in any order.
        notes: sentences about what is not equal, or is missing.
    """

    seconds: float
    limits: str = ""
    hand_made: Sequence[str] = ()
    trained: Sequence[Trained] = ()
    notes: Sequence[str] = ()
    _by_name: Mapping[str, Mapping[int, Trained]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, dict[int, Trained]] = {}
        order = (SEARCH, *self.hand_made, RANDOM_NETWORK, RANDOM_SEARCH, RESNET18)
        places = {name: place for place, name in enumerate(order)}
        for one in sorted(self.trained, key=lambda one: (places.get(one.contender, -1), one.seed)):
            by_name.setdefault(one.contender, {})[one.seed] = one
        object.__setattr__(self, "_by_name", by_name)

    @property
    def metric(self) -> str:
        """What they are compared by."""
        return self.trained[0].metric if self.trained else "accuracy"

    @property
    def rows(self) -> list[Row]:
        """The contenders that have trained, the search first."""
        return [self._row(name, list(by.values())) for name, by in self._by_name.items()]

    def _row(self, name: str, trained: Sequence[Trained]) -> Row:
        accuracies = [one.test_accuracy for one in trained]
        ahead, half = (None, None) if name == SEARCH else self._ahead(name)
        return Row(
            name,
            len(trained),
            statistics.mean(accuracies),
            statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            statistics.mean(one.params for one in trained),
            statistics.mean(one.macs for one in trained),
            statistics.mean(one.epochs for one in trained),
            statistics.mean(one.seconds for one in trained),
            ahead,
            half,
        )

    def _pairs(self, name: str) -> list[tuple[float, float]]:
        """The search's and another's accuracies, by the seeds that both have."""
        searches, others = self._by_name.get(SEARCH, {}), self._by_name.get(name, {})
        seeds = [seed for seed in searches if seed in others]
        return [(searches[seed].test_accuracy, others[seed].test_accuracy) for seed in seeds]

    def _ahead(self, name: str) -> tuple[float | None, float | None]:
        differences = [own - other for own, other in self._pairs(name)]
        if not differences:
            return None, None
        mean, half = mean_interval(differences)
        return mean, half if len(differences) > 1 else None

    @property
    def earned(self) -> Earned | None:
        """What the search is ahead of the best hand-made network by, or, where the space has none,
        of random ones; None where there is nothing to compare.

        The best has the most seeds in common with the search, and the highest mean over them. To
        choose it by its accuracy favours the hand-made networks.
        """
        pairs = {name: self._pairs(name) for name in self.hand_made or (RANDOM_NETWORK,)}
        pairs = {name: some for name, some in pairs.items() if some}
        if not pairs:
            return None
        best = max(
            pairs,
            key=lambda name: (len(pairs[name]), statistics.mean(other for _, other in pairs[name])),
        )
        mean, half = self._ahead(best)
        assert mean is not None  # it has pairs
        equal = sum(len(some) == len(pairs[best]) for some in pairs.values())
        return Earned(best, mean, half, len(pairs[best]), equal if self.hand_made else 0)

    @property
    def sentence(self) -> str:
        """Whether the search was worth its time."""
        earned = self.earned
        if earned is None:
            return (
                "whether the search was worth its time is not known yet: it needs a seed with "
                "which both the search and a hand-made network are trained"
            )
        size = f"equal size ({self.limits})" if self.limits else "no limits on size"
        terms = f"at {size} and equal total time ({duration(self.seconds)})"
        whom = f"the best hand-made network ({earned.against})"
        if not earned.among:
            whom = "a random network, as there is no hand-made one within the limits,"
        if earned.half is None:
            return (
                f"one seed cannot tell whether the search was worth its time: "
                f"{signed(100 * earned.mean)} points {terms} against {whom.rstrip(',')}"
            )
        seeds = f"{earned.seeds} seeds"
        off = f"{100 * abs(earned.mean):.2f} ± {100 * earned.half:.2f} points"
        if earned.sign == "for":
            return f"the search earned {off} {terms} against {whom.rstrip(',')}, by {seeds}"
        if earned.sign == "against":
            return f"the search did not pay: {whom} came out {off} better {terms}, by {seeds}"
        return (
            f"{seeds} are too few to tell whether the search was worth its time: "
            f"{signed(100 * earned.mean)} ± {100 * earned.half:.2f} points {terms} against "
            f"{whom.rstrip(',')}"
        )

    @property
    def remarks(self) -> list[str]:
        """What a reader has to know beside it: how the best was chosen, then the notes."""
        earned, remarks = self.earned, []
        if earned is not None and earned.among:
            number, among = len(self.hand_made), earned.among
            if among < number:
                have = "has" if among == 1 else "have"
                remarks.append(
                    f"{among} of the {number} hand-made networks {have} trained with each of these "
                    "seeds so far"
                )
            if among > 1:
                remarks.append(
                    f"the best of {among} hand-made networks was chosen by its mean over these "
                    "very seeds, which favours the hand-made ones"
                )
        return [*remarks, *self.notes]

    def to_values(self) -> dict[str, Any]:
        """As plain values, with what follows from them, for whoever reads the file."""
        earned = self.earned
        return {
            "seconds": self.seconds,
            "limits": self.limits,
            "hand_made": list(self.hand_made),
            "trained": [asdict(one) for one in self.trained],
            "notes": list(self.notes),
            "sentence": self.sentence,
            "earned": None if earned is None else asdict(earned),
            "rows": [asdict(row) for row in self.rows],
        }


def from_values(values: object) -> EqualTime | None:
    """The comparison that `to_values` has written; None for anything else."""
    if not isinstance(values, dict):
        return None
    known = {one.name for one in fields(EqualTime) if one.init}
    try:
        fitted = fitting(values, "a comparison", _CHECKS, ("seconds", "trained"))
        kept = {key: value for key, value in fitted.items() if key in known}
        trained = [Trained(**fitting(one, "a training", _TRAINED)) for one in values["trained"]]
        return EqualTime(**{**kept, "trained": trained})
    except (ValueError, TypeError):
        return None


_CHECKS: dict[str, Check] = {
    "seconds": finite,
    "limits": text,
    "hand_made": many(text),
    "trained": many(mapping),
    "notes": many(text),
}
_TRAINED: dict[str, Check] = {
    "contender": text,
    "seed": whole,
    "test_accuracy": share,
    "params": whole,
    "macs": whole,
    "epochs": finite,
    "seconds": finite,
    "metric": text,
}
