"""The findings of a run: which edits and decisions go with better networks, what inherited weights
and predictions were worth, and who came from whom; each analysis is made once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nanonas.analysis.answers import Judgement
from nanonas.analysis.effects import Effect, credit, effects
from nanonas.analysis.experience import Experience, experience_of
from nanonas.analysis.lineage import Step, Tree, step, tree
from nanonas.analysis.record import Record
from nanonas.analysis.remembered import of_networks
from nanonas.analysis.twins import HeadStart, head_start, twins
from nanonas.core import Objective, Told
from nanonas.maths.ranks import Correlation
from nanonas.networks.decisions import decisions
from nanonas.predictors.audit import audited, audited_scores

# Candidates that a report looks at one by one, which takes milliseconds for each; of more, evenly
# chosen ones, and the best
MOST = 10_000
BEST = 500


@dataclass(frozen=True)
class Findings:
    """A run, analysed. What figures, tables and words say of a run, they read here.

    An analysis is made when it is first read, and kept.
    """

    record: Record
    _steps: dict[int, Step] = field(default_factory=dict, init=False, repr=False, compare=False)

    def step(self, number: int) -> Step:
        """How one candidate came about: about 2 ms where it is asked for the first time."""
        if number not in self._steps:
            self._steps[number] = step(self.record, number)
            # for `effects`, while its network is at hand
            of_networks(decisions, self.record.space, self.record.entries[number].genome)
        return self._steps[number]

    @property
    def steps(self) -> list[Step]:
        """How each candidate came about, by number."""
        return [self.step(entry.number) for entry in self.record.entries]

    @cached_property
    def sample(self) -> list[int]:
        """The candidates that questions are asked of: all, or `MOST` evenly chosen by number, which
        says nothing of how good they are.
        """
        number = len(self.record.entries)
        return evenly(number, MOST)

    @cached_property
    def shown(self) -> list[int]:
        """The candidates that are shown one by one: the sample, the best, those that were trained
        again, and the way to the winner.
        """
        record = self.record
        if len(self.sample) == len(record.entries):
            return self.sample
        best = [entry.number for entry in record.distinct[:BEST]]
        again = [*record.finalists, *(entry.number for entry, _ in record.trained_front)]
        return sorted({*self.sample, *best, *again, *self.tree.way})

    @cached_property
    def tree(self) -> Tree:
        """Who came from whom."""
        return tree(self.record)

    @cached_property
    def credit(self) -> list[Effect]:
        """What each kind of edit earned over the average child, the largest gain first."""
        return credit(self.record, self.sampled)

    @property
    def sampled(self) -> list[Step]:
        """How each candidate of the sample came about."""
        return [self.step(number) for number in self.sample]

    @cached_property
    def effects(self) -> list[Effect]:
        """How accuracy goes with each decision, the largest effect first."""
        return effects(self.record, self.tree.families, self.sample)

    @cached_property
    def predictors(self) -> dict[str, Correlation]:
        """How the last predictions of each predictor, by name, came out."""
        return audited(self.record.told, Objective())

    @cached_property
    def free_scores(self) -> dict[str, Correlation]:
        """How well the free scores, such as the number of parameters, rank the networks."""
        return audited_scores(self.record.told, Objective())

    @cached_property
    def experience(self) -> Experience | None:
        """What the run began with of what other runs have shown; None where that was nothing."""
        return experience_of(self.record.events)

    @cached_property
    def twins(self) -> list[tuple[Told, Told]]:
        """Candidates with inherited weights, each with the same network from scratch."""
        return twins(self.record.told)

    @cached_property
    def head_start(self) -> HeadStart | None:
        """What inheriting did to accuracies and to their order; None for fewer than 3 twins."""
        return head_start(self.twins)

    @cached_property
    def judgement(self) -> Judgement | None:
        """What the trained winner gets wrong; None where its answers were not kept."""
        answers, names = self.record.answers, self.record.class_names
        return None if answers is None else Judgement(answers, names)

    @property
    def trade_offs(self) -> list[str]:
        """The metrics that are weighed against accuracy: the other objectives, or parameters."""
        names = [objective.name for objective in self.record.objectives]
        return [name for name in names if name != "accuracy"] or ["params"]


def evenly(number: int, most: int) -> list[int]:
    """At most so many of the numbers below `number`, evenly, the first and the last among them."""
    return [int(place) for place in np.linspace(0, number - 1, min(number, most))]
