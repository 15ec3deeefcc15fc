"""One generation of a search in plain words: who is in it, what came of it, and what helped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from nanonas.analysis.lineage import TWIN, Step, step
from nanonas.analysis.record import Entry, Record
from nanonas.analysis.twins import head_start
from nanonas.core import Objective, State
from nanonas.engine.ranking import front_of, ranking
from nanonas.maths.ranks import Correlation
from nanonas.networks.edits import REWIRED, SEVERAL, in_words
from nanonas.predictors.audit import audited
from nanonas.text import costs, count, interval, percent, points

_SHOWN = 4  # parents, kinds of edits, reasons: of more the rest is only counted
_CHOICE = {
    "evolution": "Who may be a parent is settled by tournament: a few of the best quarter are drawn, and the best of "
    "them wins. So the good breed often, and the best does not crowd out all others.",
    "aging": "For each child a handful of the living is drawn, and the best of it becomes the parent. The oldest dies, "
    "however good it is, so that a network that was only lucky does not breed forever.",
    "local": "Local search changes the one network that it stands on until a change is better, and goes on from there.",
    "nsga2": "A parent wins a duel of two: the better trade-off wins, of equally good ones that with more room around "
    "it, so that the population spreads along the front.",
}


@dataclass
class Generation:
    """One generation and all that was told before its end."""

    record: Record
    number: int

    def paragraphs(self) -> Iterator[str]:
        """What there is to say; empty where there is nothing to a question."""
        yield from (self._drawn(), self._bred(), self._edited())
        yield from (self._improved(), self._level(), self._best(), self._lost(), self._planted())
        yield from (self._predicted(), self._inherited(), self._promoted())

    # --- who is in it -----------------------------------------------------------------------------

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
    def trained(self) -> list[Entry]:
        """New networks that were to be trained: not gone on with, not tried again."""
        return [
            entry
            for entry in self.members
            if entry.candidate.proposal.resumes is None
            and not entry.candidate.proposal.planted
            and self.steps[entry.number].kind != TWIN
        ]

    @cached_property
    def random(self) -> list[Entry]:
        return [entry for entry in self.trained if self.steps[entry.number].parent is None]

    @cached_property
    def children(self) -> list[Entry]:
        return [entry for entry in self.trained if self._child(entry)]

    def _child(self, entry: Entry) -> bool:
        """Whether it was bred, and is not the network of its parent again."""
        proposal = entry.candidate.proposal
        if not proposal.parents or proposal.resumes is not None:
            return False
        return self.record.entries[proposal.parents[0]].candidate.key != entry.candidate.key

    @property
    def strategy(self) -> str:
        name = str(self.record.search.get("strategy", ""))
        return str(self.record.search.get("screens", "")) if name == "screened" else name

    @property
    def _several(self) -> bool:
        return len(self.record.objectives) > 1

    def _first_with(self, has: Callable[[Entry], bool]) -> bool:
        """Whether this is the first generation that has such a candidate: then what it means is
        said once.
        """
        return any(map(has, self.members)) and not any(map(has, self.before))

    # --- where it came from -----------------------------------------------------------------------

    def _drawn(self) -> str:
        if not self.random:
            return ""
        drawn, known = (
            len(self.random),
            sorted(e.accuracy for e in self.random if e.accuracy is not None),
        )
        spread = ""
        if len(known) > 2:
            spread = (
                f" They are right on {percent(known[0])} to {percent(known[-1])} of the "
                "validation images, half of "
                f"them on more than {percent(median(known))}."
            )
        if self.strategy == "random" and self.number:
            again = "were drawn at random again: random search learns nothing from those before"
            return f"{_networks(drawn)} {again}.{spread}"
        if self.number and len(self.children) > 1:
            return f"{_networks(drawn)} of this generation {_were(drawn)} drawn at random, so that something new comes in."
        why = (
            " Whatever comes later is bred from the best of these."
            if self.strategy != "random"
            else ""
        )
        return f"{_networks(drawn)} {_were(drawn)} drawn at random, for nothing is known yet.{spread}{why}"

    def _bred(self) -> str:
        if not self.children:
            return ""
        parents = Counter(p for entry in self.children for p in entry.candidate.proposal.parents)
        named = [f"#{number} ({times})" for number, times in parents.most_common(_SHOWN)]
        more = len(parents) - len(named)
        two = sum(len(entry.candidate.proposal.parents) > 1 for entry in self.children)
        one = len(self.children) - two
        how = [f"{one} by a change to one parent"] if one else []
        how += [f"{two} by crossing two parents, then a change"] if two else []
        first = self._first_with(self._child)
        shown = _list([*named, *([f"{more} others"] if more else [])])
        words = (
            f"{_networks(len(self.children), 'child', 'children')} {_were(len(self.children))} "
            "bred: "
            f"{' and '.join(how)}. The parents, with how many children: {shown}."
        )
        return f"{words} {_CHOICE[self.strategy]}" if first and self.strategy in _CHOICE else words

    def _edited(self) -> str:
        single = [e for e in self.children if len(e.candidate.proposal.parents) == 1]
        if not single:
            return ""
        kinds = Counter(
            _KINDS.get(kind, kind) for kind in (self.steps[entry.number].kind for entry in single)
        )
        shown = [f"{kind} ({times})" for kind, times in kinds.most_common(_SHOWN)]
        more = sum(kinds.values()) - sum(times for _, times in kinds.most_common(_SHOWN))
        return (
            f"What was changed: {_list([*shown, *([f'something else ({more})'] if more else [])])}."
        )

    # --- what came of it --------------------------------------------------------------------------

    def _gain(self, entry: Entry) -> float | None:
        """A child's accuracy minus that of its better parent; None where they did not train alike."""
        proposal, gains = entry.candidate.proposal, []
        for number in proposal.parents:
            parent = self.record.entries[number]
            alike = parent.candidate.proposal.budget == proposal.budget or proposal.inherits
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
        crossed = any(
            len(self.record.entries[number].candidate.proposal.parents) > 1 for number in gains
        )
        whose = "their" if len(gains) > 1 else "its"
        than = (
            f"the better of {whose} parents"
            if crossed
            else f"{whose} parent{'s' if len(gains) > 1 else ''}"
        )
        words = f"{of} came out {'more accurate' if self._several else 'better'} than {than}."
        if better:
            number = max(gains, key=lambda n: (gains[n], -n))
            how = self._difference(number)
            words += f" The largest step was #{number}: {points(gains[number])} points over {_parents(self, number)}{how}."
        judged, best = self.record.details("images").get("valid"), self.record.ranked[0].accuracy
        if judged and best is not None and self._first_with(self._child):
            words += (
                " Most changes do harm, which is as it should be: selection keeps the few that "
                "do not. And "
                f"{doubt(best, judged)}, so part of each step is luck."
            )
        return words

    def _level(self) -> str:
        """The typical network against those that began the search, where they trained alike: what
        selection is for.
        """
        now = [e for e in self.children if e.accuracy is not None]
        first = [e for e in self.record.trained if e.generation == 0 and e.accuracy is not None]
        budgets = {entry.candidate.proposal.budget for entry in (*now, *first)}
        if self.number == 0 or self._several or min(len(now), len(first)) < 3 or len(budgets) > 1:
            return ""
        medians = [
            median(sorted(e.accuracy for e in some if e.accuracy is not None))
            for some in (now, first)
        ]
        verdict = (
            "so breeding pays, best or not"
            if medians[0] > medians[1]
            else "so breeding has not paid yet"
        )
        return (
            f"Half of the children are right on more than {percent(medians[0])}, of the first "
            "generation half were on "
            f"more than {percent(medians[1])}: {verdict}."
        )

    def _difference(self, number: int) -> str:
        found = self.steps[number]
        if len(self.record.entries[number].candidate.proposal.parents) > 1:
            return ", by crossing"
        said = in_words(found.edits)
        return (
            f", by {_list(said[:_SHOWN])}"
            if said and len(said) <= _SHOWN
            else f", by {len(said)} edits"
        )

    def _best(self) -> str:
        if self._several:
            return self._front()
        if not self.record.ranked:
            return "No network has been judged yet."
        best = self.record.ranked[0]
        assert best.evaluation is not None
        if best.generation < self.number:
            since = self.number - best.generation
            ago = "the generation before" if since == 1 else f"{since} generations ago"
            return f"Nothing beats #{best.number} of {ago}: {percent(best.accuracy or 0)} remain the best."
        earlier = ranking(e.evaluation for e in self.before if e.evaluation is not None)
        over = (best.accuracy or 0) - (earlier[0].accuracy or 0) if earlier else None
        words = f"The best so far is #{best.number} with {percent(best.accuracy or 0)} ({costs(best.evaluation.metrics)})"
        words += "." if over is None else f", {points(over)} points over the best before."
        proposal = best.candidate.proposal
        if best in self.children and len(proposal.parents) == 1:
            words += f" It is #{proposal.parents[0]} with {few(in_words(self.steps[best.number].edits))}."
        return words

    def _front(self) -> str:
        objectives = self.record.objectives
        found = front_of(
            [e.evaluation for e in self.record.ranked if e.evaluation is not None], objectives
        )
        if not found:
            return "No network has been judged yet."
        new = sum(self.record.entries[one.number].generation == self.number for one in found)
        names = _list([objective.name for objective in objectives])
        best, least = found[0], min(found, key=lambda one: one.metrics["params"])
        words = (
            f"The front, the networks that no other beats in {names} at once, has "
            f"{_networks(len(found), 'member')}, "
            f"{new} of them new: from #{least.number}, {percent(least.accuracy or 0)} with "
            f"{count(least.metrics['params'])} parameters, to #{best.number}, "
            f"{percent(best.accuracy or 0)} with "
            f"{count(best.metrics['params'])}."
        )
        first = self.number == 0
        return (
            f"{words} There is no one best: whoever uses it chooses among them." if first else words
        )

    def _lost(self) -> str:
        """What was pruned, refused or lost, and why."""
        said = []
        for state, verb in _LOST.items():
            some = [
                e for e in self.members if e.evaluation is not None and e.evaluation.state is state
            ]
            if some:
                why = f": {_reason(some)}" if state is not State.CUT else ""
                said.append(f"{_networks(len(some))} {_were(len(some))} {verb}{why}.")
        return " ".join(said)

    def _planted(self) -> str:
        some = [entry for entry in self.members if entry.candidate.proposal.planted]
        return (
            f"{_list([f'#{entry.number}' for entry in some])} {_were(len(some))} planted by a "
            "person."
            if some
            else ""
        )

    # --- what helped ------------------------------------------------------------------------------

    def _predicted(self) -> str:
        own = [e for e in self.members if _guessed(e)]
        if not own:
            return ""
        said = [
            e.candidate.proposal.predicted
            for e in own
            if e.candidate.proposal.predicted is not None
        ]
        chosen, name = sum(one.chosen for one in said), said[-1].by
        words = (
            f"The predictor ({name}) guessed the accuracy of {_networks(len(own))} beforehand, "
            f"and chose {chosen} of "
            "them."
        )
        if self._first_with(_guessed):
            words += (
                " It has learnt from the networks so far, looks at many that nobody has trained, "
                "and picks the one "
                "that promises most."
            )
        trust = audited(self.record.told, Objective()).get(name)
        aside = "stands aside, and the strategy chooses by itself until its guesses are better"
        return f"{words} {_trust(trust, aside, self._untrusted)}"

    @cached_property
    def _untrusted(self) -> bool:
        """Whether nobody has heard before how guesses came out."""
        return not audited(with_entries(self.record, self.before).told, Objective())

    def _inherited(self) -> str:
        heirs = [entry for entry in self.members if entry.candidate.proposal.inherits]
        twins = [entry for entry in self.members if self.steps[entry.number].kind == TWIN]
        if not heirs and not twins:
            return ""
        epochs = sorted(
            {
                e.candidate.proposal.budget.epochs
                for e in heirs
                if e.candidate.proposal.budget is not None
            }
        )
        trained = (
            f" and trained for {epochs[0]} epoch{'s' if epochs[0] > 1 else ''} only"
            if len(epochs) == 1
            else ""
        )
        words = (
            f"{_networks(len(heirs), 'child', 'children')} began with the parents' "
            f"weights{trained}."
            if heirs
            else ""
        )
        if twins:
            words += f" {_networks(len(twins), 'twin')}, the same as a child but from scratch, {_were(len(twins))} trained."
        start = head_start(self.record.told)
        if start is None:
            return f"{words} What inheriting does to accuracies is not known before three twins have been trained.".strip()
        side = "above" if start.mean >= 0 else "below"
        gain = f"{100 * abs(start.mean):.2f} ± {100 * start.error:.2f} points {side} what it would have from scratch"
        gain += "" if abs(start.mean) > 2 * start.error else ", which may be nothing"
        words += f" By the {start.correlation.n} twins so far, an heir's accuracy is {gain}. {_order(start.correlation)}"
        return words.strip()

    def _promoted(self) -> str:
        some = [e for e in self.members if e.candidate.proposal.resumes is not None]
        if not some:
            return ""
        rungs = Counter(
            e.candidate.proposal.budget.epochs
            for e in some
            if e.candidate.proposal.budget is not None
        )
        rising = _list([f"{times} to epoch {epochs}" for epochs, times in sorted(rungs.items())])
        words = f"{_networks(len(some))} trained on, {rising}: the best of those that had trained for less."
        if self._first_with(lambda entry: entry.candidate.proposal.resumes is not None):
            words += " Most networks get little time, and only who does well with it gets more."
        return words


_KINDS = {SEVERAL: "several things at once", REWIRED: "only the connections"}
_LOST = {
    State.PRUNED: "stopped early",
    State.INFEASIBLE: "over a limit",
    State.FAILED: "lost",
    State.CUT: "cut off by the end of the time",
}


def _reason(some: Sequence[Entry]) -> str:
    """Why these were lost: by the rule that stops them, or the most frequent reason."""
    budget, evaluation = some[0].candidate.proposal.budget, some[0].evaluation
    if evaluation is not None and evaluation.state is State.PRUNED and budget is not None:
        were, after = _were(len(some)), f"after epoch {budget.stop_epoch}"
        return (
            f"{after} {'it' if len(some) == 1 else 'they'} {were} right on less than "
            f"{percent(budget.stop_below)}, "
            "hardly better than chance, and the time is better spent on others"
        )
    reasons = Counter(
        str(entry.evaluation.reason) for entry in some if entry.evaluation is not None
    )
    reason, times = reasons.most_common(1)[0]
    return reason.rstrip(".") if times == len(some) else f"{reason.rstrip('.')} (in {times})"


def _guessed(entry: Entry) -> bool:
    predicted = entry.candidate.proposal.predicted
    return predicted is not None and entry.candidate.proposal.resumes is None


def _trust(found: Correlation | None, otherwise: str, first: bool) -> str:
    """Whether predictions can be trusted; `first`: what the figure means is said, too."""
    if found is None:
        return "Too few of its guesses have come out to say what they are worth."
    said = f"Of the last {found.n} guesses Kendall's τ is {_interval(found)}"
    said += ", where 1 is the right order and 0 is chance" if first else ""
    if found.worthless:
        return f"{said}: worth nothing, so it {otherwise}."
    return f"{said}: better than chance." if found.low > 0 else f"{said}: that can still be luck."


def _order(found: Correlation) -> str:
    said = f"Heirs and twins agree on the order with Kendall's τ of {_interval(found)}"
    return (
        f"{said}: enough to choose by."
        if found.low > 0
        else f"{said}: whether one may choose by it is open."
    )


def _interval(found: Correlation) -> str:
    return interval(found.tau, found.low, found.high)


def with_entries(record: Record, entries: Sequence[Entry]) -> Record:
    """The same run with other candidates."""
    return replace(record, entries=tuple(entries))


def _parents(generation: Generation, number: int) -> str:
    parents = generation.record.entries[number].candidate.proposal.parents
    return (
        f"#{parents[0]}"
        if len(parents) == 1
        else f"the better of {' and '.join(f'#{p}' for p in parents)}"
    )


def few(said: Sequence[str]) -> str:
    """Some edits in words, or their number."""
    return (
        "other connections"
        if not said
        else _list(said)
        if len(said) <= _SHOWN
        else f"{len(said)} edits"
    )


def doubt(accuracy: float, judged: int) -> str:
    """What so many images can tell apart."""
    error = 196 * (2 * max(accuracy * (1 - accuracy), 1 / judged) / judged) ** 0.5
    return f"with {judged:,} validation images, two networks less than {error:.1f} points apart may well be alike"


def _networks(number: int, one: str = "network", several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _list(words: Sequence[str]) -> str:
    """Words as a list: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
