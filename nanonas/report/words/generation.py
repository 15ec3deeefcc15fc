"""One generation of a search in plain words: who is in it, what came of it, and what helped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import TWIN, Step, step
from nanonas.analysis.record import Entry, Record
from nanonas.config.parts import StrategyEntry, proposer
from nanonas.core import State
from nanonas.engine.ranking import front_of
from nanonas.maths.ranks import Correlation
from nanonas.networks.edits import REWIRED, SEVERAL, in_words
from nanonas.text import by_number, costs, count, interval, number_of, percent, points

_SHOWN = 4  # parents, kinds of edits, reasons: of more the rest is only counted
_KINDS = {SEVERAL: "several things at once", REWIRED: "only the connections"}
_LOST = {
    State.PRUNED: "stopped early",
    State.INFEASIBLE: "over a limit",
    State.FAILED: "lost",
    State.CUT: "cut off by the end of the time",
}


@dataclass
class Generation:
    """One generation, 0-based, and all that was told before its end.

    Attributes:
        findings: of the run up to the end of the generation.
    """

    findings: Findings
    number: int

    def paragraphs(self) -> Iterator[str]:
        """An answer to each question; empty where there is nothing to say to it."""
        yield from (self._begun(), self._recalled(), self._drawn(), self._bred(), self._edited())
        yield from (self._improved(), self._level(), self._best(), self._lost(), self._planted())
        yield from (self._predicted(), self._inherited(), self._promoted())

    # --- who is in it -----------------------------------------------------------------------------

    @property
    def record(self) -> Record:
        return self.findings.record

    @cached_property
    def members(self) -> list[Entry]:
        return [entry for entry in self.record.entries if entry.generation == self.number]

    @cached_property
    def before(self) -> list[Entry]:
        return [entry for entry in self.record.entries if entry.generation < self.number]

    @cached_property
    def steps(self) -> dict[int, Step]:
        return {entry.number: step(self.record, entry.number) for entry in self.members}

    @cached_property
    def new(self) -> list[Entry]:
        """Networks of the strategy's own that are new: not trained on, not tried again."""
        return [
            entry
            for entry in self.members
            if entry.proposal.resumes is None
            and not entry.proposal.planted
            and self.steps[entry.number].kind != TWIN
        ]

    @cached_property
    def first(self) -> list[Entry]:
        """Those that were bred from nothing."""
        return [entry for entry in self.new if self.steps[entry.number].parent is None]

    @cached_property
    def random(self) -> list[Entry]:
        first = [entry for entry in self.first if not entry.proposal.ancestor]
        return [entry for entry in first if not entry.proposal.recalled]

    @cached_property
    def recalled(self) -> list[Entry]:
        return [entry for entry in self.first if entry.proposal.recalled]

    @cached_property
    def hand_made(self) -> list[Entry]:
        return [entry for entry in self.first if entry.proposal.ancestor]

    @cached_property
    def children(self) -> list[Entry]:
        return [entry for entry in self.new if self._is_child(entry)]

    def _is_child(self, entry: Entry) -> bool:
        """Whether it was bred, and is not the network of its parent again."""
        proposal = entry.proposal
        if not proposal.parents or proposal.resumes is not None:
            return False
        return self.record.entries[proposal.parents[0]].candidate.key != entry.candidate.key

    @cached_property
    def strategy(self) -> StrategyEntry | None:
        """What there is to know of the strategy that proposes; None of a user's own."""
        search = self.record.search
        return proposer(str(search.get("strategy", "")), str(search.get("screens", "")))

    @property
    def _several(self) -> bool:
        return len(self.record.objectives) > 1

    def _first_with(self, has: Callable[[Entry], bool]) -> bool:
        """Whether this is the first generation with such a candidate: it is explained once."""
        return any(map(has, self.members)) and not any(map(has, self.before))

    # --- where it came from -----------------------------------------------------------------------

    def _begun(self) -> str:
        """Of the hand-made networks."""
        if not self.hand_made:
            return ""
        known = [entry for entry in self.hand_made if entry.accuracy is not None]
        known.sort(key=lambda entry: (-(entry.accuracy or 0.0), entry.number))
        told = [
            f"{entry.proposal.ancestor} (#{entry.number}, {percent(entry.accuracy or 0.0)})"
            for entry in known
        ]
        results = f" The most accurate first: {_list(told)}." if told else ""
        number = len(self.hand_made)
        return (
            f"{number_of(number, 'network')} {_were(number)} written down by hand and scaled to "
            f"the limits, so that the search begins with what people know.{results}"
        )

    def _recalled(self) -> str:
        """Of those that other runs have found."""
        if not self.recalled:
            return ""
        number = len(self.recalled)
        return (
            f"{number_of(number, 'network')} {_were(number)} found by other runs, on whatever "
            "images."
        )

    def _drawn(self) -> str:
        if not self.random:
            return ""
        number = len(self.random)
        begin, were = number_of(number, "network"), _were(number)
        known = sorted(entry.accuracy for entry in self.random if entry.accuracy is not None)
        spread = ""
        if len(known) > 2:
            spread = (
                f" They are right on {percent(known[0])} to {percent(known[-1])} of the "
                f"validation images, half of them on more than {percent(median(known))}."
            )
        strategy = self.strategy
        breeds = strategy is None or strategy.breeds
        if self.number and strategy is not None and not strategy.breeds:
            return (
                f"{begin} {were} drawn at random again: {strategy.title} learns nothing from those "
                f"before.{spread}"
            )
        if self.number and len(self.children) > 1:
            return (
                f"{begin} of this generation {were} drawn at random, so that something new comes "
                "in."
            )
        why = " Whatever comes later is bred from the best of these." if breeds else ""
        known_little = "" if self.hand_made or self.recalled else ", for nothing is known yet"
        return f"{begin} {were} drawn at random{known_little}.{spread}{why}"

    def _bred(self) -> str:
        if not self.children:
            return ""
        parents = Counter(p for entry in self.children for p in entry.proposal.parents)
        shown = [f"#{number} ({times})" for number, times in parents.most_common(_SHOWN)]
        if len(parents) > _SHOWN:
            shown.append(number_of(len(parents) - _SHOWN, "other"))
        two = sum(len(entry.proposal.parents) > 1 for entry in self.children)
        one = len(self.children) - two
        how = []
        if one:
            how.append(f"{one} by a change to one parent")
        if two:
            how.append(f"{two} by crossing two parents, then a change")
        words = (
            f"{number_of(len(self.children), 'child', 'children')} {_were(len(self.children))} "
            f"bred: {' and '.join(how)}. The parents, with how many children: {_list(shown)}."
        )
        strategy = self.strategy
        if strategy is not None and strategy.choice and self._first_with(self._is_child):
            words += f" {strategy.choice}"
        return words

    def _edited(self) -> str:
        steps = [self.steps[e.number] for e in self.children if len(e.proposal.parents) == 1]
        if not steps:
            return ""
        kinds = Counter(_KINDS.get(step.kind, step.kind) for step in steps)
        common = kinds.most_common(_SHOWN)
        shown = [f"{kind} ({times})" for kind, times in common]
        more = len(steps) - sum(times for _, times in common)
        if more:
            shown.append(f"something else ({more})")
        return f"What was changed: {_list(shown)}."

    # --- what came of it --------------------------------------------------------------------------

    def _gain(self, entry: Entry) -> float | None:
        """A child's accuracy minus that of its better parent; None if they did not train alike."""
        gains = []
        for number in entry.proposal.parents:
            parent = self.record.entries[number]
            alike = parent.proposal.budget == entry.proposal.budget or entry.proposal.inherits
            if entry.accuracy is None or parent.accuracy is None or not alike:
                return None
            gains.append(entry.accuracy - parent.accuracy)
        return min(gains, default=None)

    def _improved(self) -> str:
        gains = {e.number: gain for e in self.children if (gain := self._gain(e)) is not None}
        if not gains:
            return ""
        better = sum(gain > 0 for gain in gains.values())
        of = f"{better} of {len(gains)}" if better else f"None of {len(gains)}"
        crossed = any(len(self.record.entries[number].proposal.parents) > 1 for number in gains)
        than = "their parents" if len(gains) > 1 else "its parent"
        if crossed:
            than = f"the better of {'their' if len(gains) > 1 else 'its'} parents"
        words = f"{of} came out {'more accurate' if self._several else 'better'} than {than}."
        if better:
            number = max(gains, key=lambda child: (gains[child], -child))
            words += (
                f" The largest step was #{number}: {points(gains[number])} points over "
                f"{self._parents(number)}{self._how(number)}."
            )
        best = self.record.ranked[0].accuracy
        doubted = "" if best is None else doubt(self.record, best)
        if doubted and self._first_with(self._is_child):
            words += (
                " Most changes do harm, which is as it should be: selection keeps the few that "
                f"do not. And {doubted}, so part of each step is luck."
            )
        return words

    def _parents(self, number: int) -> str:
        parents = [f"#{parent}" for parent in self.record.entries[number].proposal.parents]
        return parents[0] if len(parents) == 1 else f"the better of {' and '.join(parents)}"

    def _how(self, number: int) -> str:
        if len(self.record.entries[number].proposal.parents) > 1:
            return ", by crossing"
        edits = in_words(self.steps[number].edits)
        if edits and len(edits) <= _SHOWN:
            return f", by {_list(edits)}"
        return f", by {len(edits)} edits"

    def _level(self) -> str:
        """The typical network against those that began the search, where they trained alike: what
        selection is for.
        """
        now = [entry for entry in self.children if entry.accuracy is not None]
        first = [e for e in self.record.ranked if e.generation == 0 and e.accuracy is not None]
        budgets = {entry.proposal.budget for entry in (*now, *first)}
        if self.number == 0 or self._several or min(len(now), len(first)) < 3 or len(budgets) > 1:
            return ""
        middle, before = (
            median(entry.accuracy for entry in entries if entry.accuracy is not None)
            for entries in (now, first)
        )
        pays = "pays, best or not" if middle > before else "has not paid yet"
        have, had = "are right on", "were on"
        if self.record.metric != "accuracy":
            have, had = f"have a {self.record.measure} of", "had one of"
        return (
            f"Half of the children {have} more than {percent(middle)}, of the first "
            f"generation half {had} more than {percent(before)}: so breeding {pays}."
        )

    def _best(self) -> str:
        if self._several:
            return self._front()
        if not self.record.ranked:
            return "No network has been judged yet."
        best = self.record.ranked[0]
        accuracy = best.accuracy or 0.0
        if best.generation < self.number:
            since = self.number - best.generation
            ago = "the generation before" if since == 1 else f"{since} generations ago"
            return f"Nothing beats #{best.number} of {ago}: {percent(accuracy)} remain the best."
        earlier = [e.accuracy for e in self.record.ranked if e.generation < self.number]
        words = (
            f"The best so far is #{best.number} with {percent(accuracy)} ({costs(best.metrics)})"
        )
        if earlier:
            words += f", {points(accuracy - (earlier[0] or 0.0))} points over the best before"
        words += "."
        parents = best.proposal.parents
        if best in self.children and len(parents) == 1:
            edits = few(in_words(self.steps[best.number].edits))
            words += f" It is #{parents[0]} with {edits}."
        return words

    def _front(self) -> str:
        objectives = self.record.objectives
        told = [entry.told for entry in self.record.ranked if entry.told is not None]
        front = [self.record.entries[one.number] for one in front_of(told, objectives)]
        if not front:
            return "No network has been judged yet."
        new = sum(member.generation == self.number for member in front)
        names = _list(self.record.weighed)
        least, best = (
            f"#{member.number}, {percent(member.accuracy or 0.0)} with "
            f"{count(member.metrics['params'])}"
            for member in (min(front, key=lambda member: member.metrics["params"]), front[0])
        )
        words = (
            f"The front, the networks that no other beats in {names} at once, has "
            f"{number_of(len(front), 'member')}, {new} of them new: from {least} parameters, to "
            f"{best}."
        )
        if self.number == 0:
            words += " There is no one best: choose among them by what you need."
        return words

    def _lost(self) -> str:
        """What was pruned, refused or lost, and why."""
        sentences = []
        for state, verb in _LOST.items():
            lost = [entry for entry in self.members if entry.state == state.value]
            if lost:
                why = f": {_reason(lost)}" if state is not State.CUT else ""
                sentences.append(
                    f"{number_of(len(lost), 'network')} {_were(len(lost))} {verb}{why}."
                )
        return " ".join(sentences)

    def _planted(self) -> str:
        planted = [f"#{entry.number}" for entry in self.members if entry.proposal.planted]
        if not planted:
            return ""
        return f"{_list(planted)} {_were(len(planted))} planted by a person."

    # --- what helped ------------------------------------------------------------------------------

    def _predicted(self) -> str:
        predictions = [
            entry.proposal.predicted
            for entry in self.members
            if entry.proposal.predicted is not None and entry.proposal.resumes is None
        ]
        if not predictions:
            return ""
        name, chosen = predictions[-1].by, sum(prediction.chosen for prediction in predictions)
        words = (
            f"The predictor ({name}) guessed the {self.record.measure} of "
            f"{number_of(len(predictions), 'network')} beforehand, and chose {chosen} of them."
        )
        if self._first_with(lambda entry: entry.proposal.predicted is not None):
            words += (
                " It has learnt from the networks so far, looks at many that were never trained, "
                "and picks the one that promises most."
            )
        return f"{words} {self._trust(self.findings.predictors.get(name))}"

    def _trust(self, trust: Correlation | None) -> str:
        """Whether predictions can be trusted."""
        if trust is None:
            return "Too few of its guesses have come out to say what they are worth."
        words = f"Of the last {trust.n} guesses Kendall's τ is {_interval(trust)}"
        if not Findings(self.record.first(len(self.before))).predictors:  # it is explained once
            words += ", where 1 is the right order and 0 is chance"
        if trust.worthless:
            return (
                f"{words}: worth nothing, so it stands aside, and the strategy chooses by itself "
                "until its guesses are better."
            )
        return (
            f"{words}: better than chance."
            if trust.low > 0
            else f"{words}: that can still be luck."
        )

    def _inherited(self) -> str:
        heirs = [entry for entry in self.members if entry.proposal.inherits]
        twins = sum(self.steps[entry.number].kind == TWIN for entry in self.members)
        if not heirs and not twins:
            return ""
        sentences = []
        if heirs:
            budgets = [entry.proposal.budget for entry in heirs]
            lengths = {budget.length for budget in budgets if budget is not None}
            trained = ""
            if len(lengths) == 1:
                trained = f" and trained for {min(lengths)} only"
            children = number_of(len(heirs), "child", "children")
            sentences.append(f"{children} began with the parents' weights{trained}.")
        if twins:
            sentences.append(
                f"{number_of(twins, 'twin')}, the same as a child but from scratch, "
                f"{_were(twins)} trained."
            )
        start = self.findings.head_start
        if start is None:
            sentences.append(
                "What inheriting does to accuracies is not known before three twins have been "
                "trained."
            )
            return " ".join(sentences)
        side = "above" if start.mean >= 0 else "below"
        unsure = "" if abs(start.mean) > 2 * start.error else ", which may be nothing"
        enough = "whether one may choose by it is open"
        if start.correlation.low > 0:
            enough = "enough to choose by"
        sentences += [
            f"By the {start.correlation.n} twins so far, an heir's accuracy is "
            f"{100 * abs(start.mean):.2f} ± {100 * start.error:.2f} points {side} what it would "
            f"have from scratch{unsure}.",
            "Heirs and twins agree on the order with Kendall's τ of "
            f"{_interval(start.correlation)}: {enough}.",
        ]
        return " ".join(sentences)

    def _promoted(self) -> str:
        promoted = [entry for entry in self.members if entry.proposal.resumes is not None]
        if not promoted:
            return ""
        budgets = [entry.proposal.budget for entry in promoted]
        rungs = Counter(budget.epochs for budget in budgets if budget is not None)
        rising = _list([f"{times} to epoch {epochs}" for epochs, times in sorted(rungs.items())])
        words = (
            f"{number_of(len(promoted), 'network')} trained on, {rising}: the best of those that "
            "had trained for less."
        )
        if self._first_with(lambda entry: entry.proposal.resumes is not None):
            words += " Most networks get little time, and only those that do well with it get more."
        return words


def few(edits: Sequence[str]) -> str:
    """Some edits in words, or their number."""
    if not edits:
        return "other connections"
    return _list(edits) if len(edits) <= _SHOWN else f"{len(edits)} edits"


def doubt(record: Record, accuracy: float) -> str:
    """What the validation images of a run can tell apart; "" where they were not noted."""
    valid, images = record.images.get("valid"), record.noise_images
    if not valid or not images:
        return ""
    error = 196 * (2 * max(accuracy * (1 - accuracy), 1 / images) / images) ** 0.5
    few = ""
    if round(images) < valid:
        few = f", whose {record.measure} is as noisy as an accuracy on {images:,.0f},"
    return (
        f"with {number_of(valid, 'validation image')}{few or ','} two networks less than "
        f"{error:.1f} points "
        "apart may well be alike"
    )


def _reason(lost: Sequence[Entry]) -> str:
    """Why these were lost: by the rule that stops them, or the most frequent reason."""
    budget, evaluation = lost[0].proposal.budget, lost[0].evaluation
    if lost[0].state == State.PRUNED.value and budget is not None and evaluation is not None:
        they = "it was" if len(lost) == 1 else "they were"
        return (
            f"after epoch {len(evaluation.curve)} {they} right on less than "
            f"{percent(budget.stop_below)}, hardly better than chance, and the time is better "
            "spent on others"
        )
    reasons = Counter(str(entry.evaluation.reason) for entry in lost if entry.evaluation)
    reason, times = reasons.most_common(1)[0]
    return reason.rstrip(".") if times == len(lost) else f"{reason.rstrip('.')} (in {times})"


def _interval(trust: Correlation) -> str:
    return interval(trust.tau, trust.low, trust.high)


def _were(number: int) -> str:
    return by_number(number, "was", "were")


def _list(words: Sequence[str]) -> str:
    """Words as a list: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
