"""What a run found, for a reader who has never seen it, and whether to believe it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.config.parts import STRATEGIES, proposer
from nanonas.engine.storage.events import TEST_SET_OPENED
from nanonas.maths.intervals import Z, wilson
from nanonas.maths.ranks import Correlation, rank_sum
from nanonas.report.words.experience import experience
from nanonas.text import (
    began_with,
    by_number,
    count,
    duration,
    interval,
    milliseconds,
    number_of,
    percent,
    points,
)

Sign: TypeAlias = Literal["for", "against", "open"]

_GENERATION = 5  # networks that a generation must have to be compared with another
_SURE = 0.05  # the probability of luck below which a difference is told from it
_FAILURES = 0.1  # the share of trainings that may fail


@dataclass(frozen=True)
class Argument:
    """Something that speaks for what was found, against it, or that is open."""

    sign: Sign
    words: str


# --- what was found -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figures:
    """The figures of a run in words; "" for what there is none of.

    Attributes:
        accuracy: of the winner on the validation images; its last, if it is a finalist.
        tested: the accuracy of its final training on the test images.
        between: the ends of the 95 % interval of that.
        latency: of the trained network, for an image.
        balanced: the mean of the classes' accuracies on the test images.
    """

    seconds: str
    params: str = ""
    macs: str = ""
    accuracy: str = ""
    tested: str = ""
    between: str = ""
    latency: str = ""
    balanced: str = ""


def _figures(record: Record) -> _Figures:
    figures, winner, final = _Figures(duration(record.seconds)), record.winner, record.final
    if winner is not None:
        accuracy = record.finalists.get(winner.number, winner.accuracy)
        figures = replace(
            figures,
            params=count(winner.metrics["params"]),
            macs=count(winner.metrics["macs"]),
            accuracy="" if accuracy is None else percent(accuracy),
        )
    if final is not None:
        tested = float(final["test_accuracy"])
        low, high = wilson(tested, int(final["test_images"]))
        balanced = final.get("balanced_accuracy")
        figures = replace(
            figures,
            tested=percent(tested),
            between=f"{percent(low)} to {percent(high)}",
            latency=milliseconds(final["latency_ms"]),
            balanced="" if balanced is None else percent(float(balanced)),
        )
    return figures


def cards(findings: Findings) -> list[tuple[str, str]]:
    """The few figures that every reader asks for: a name and the figure."""
    record = findings.record
    winner, figures = record.winner, _figures(record)
    finalist = winner is not None and winner.number in record.finalists
    shown = {
        "test accuracy": figures.tested,
        "balanced test accuracy": figures.balanced if record.metric != "accuracy" else "",
        "validation, as a finalist"
        if finalist
        else f"validation {record.measure}": figures.accuracy,
        "parameters": figures.params,
        "MACs an image": figures.macs,
        "networks trained": f"{len(record.trained):,}",
        "time of the search": figures.seconds,
    }
    return [(name, figure) for name, figure in shown.items() if figure]


def headline(findings: Findings) -> list[str]:
    """What was searched and what came of it, in a few sentences."""
    record = findings.record
    winner, final, figures = record.winner, record.final, _figures(record)
    searched = _searched(record, figures)
    if record.ancestor is not None:
        searched += f" All of them began with the weights of {record.ancestor}, as far as they fit."
    if winner is None:
        return [searched, "No network was judged yet, so there is nothing to choose from."]
    size = f"{figures.params} parameters and {figures.macs} multiply-accumulates an image"
    if final is None:
        judged = "is"
        if figures.accuracy:
            judged = f"was right on {figures.accuracy} of the validation images and is"
            if record.metric != "accuracy":
                judged = f"has a {record.measure} of {figures.accuracy} in validation and is"
        return [
            searched,
            f"The best of them, #{winner.number}, has {size}. It {judged} without its final "
            "training yet: `nanonas train` does that, and tests it.",
            *choice(record),
        ]
    takes = f"takes {figures.latency} an image on {final.get('hardware', 'its machine')}"
    if record.measured_on is not None and "latency" in winner.metrics:
        measured = milliseconds(winner.metrics["latency"])
        takes += f", and {measured} on {record.measured_on}, where the search has measured it"
    return [
        searched,
        f"The winner, #{winner.number}, has {size}, and {takes}.",
        f"After its final training ({number_of(float(final['epochs']), 'epoch', form='.4g')}), it "
        f"is right on {figures.tested} of {number_of(int(final['test_images']), 'test image')} "
        f"that nothing was chosen by; with so many images, that is {figures.between} with 95 % "
        "confidence.",
        *choice(record),
        *([f"It {began_with(began)}."] if (began := final.get("began_with")) else []),
        *_balanced(findings, figures),
        *_others_of_the_front(record),
    ]


def choice(record: Record) -> Iterator[str]:
    """Why the winner of the search is not the network with the highest figure, where it is not."""
    chosen, highest = record.chosen, next(iter(record.ranked), None)
    if chosen is None or highest is None or record.finalists:
        return
    if record.entries[chosen.number].accuracy == highest.accuracy:  # of equal figures one
        return
    words = (
        f"#{chosen.number} was chosen by the {record.measure} that is expected of it after all "
        f"that was measured, {percent(chosen.accuracy)}: the highest of many figures is the "
        f"luckiest. That is {percent(highest.metrics['accuracy'])}, of #{highest.number}"
    )
    if chosen.of_highest is not None:
        words += f", of which {percent(chosen.of_highest)} is expected"
    yield f"{words}."


def _balanced(findings: Findings, figures: _Figures) -> Iterator[str]:
    """What the final training came to by the metric that chose, where that is not the accuracy."""
    record, judged = findings.record, findings.judgement
    if record.metric == "accuracy" or not figures.balanced:
        return
    known = ""
    if judged is not None:
        low, high = judged.balanced_interval
        known = f", which is {percent(low)} to {percent(high)} with 95 % confidence"
    yield f"With each class counting the same, that is {figures.balanced}{known}."


def _others_of_the_front(record: Record) -> Iterator[str]:
    """What else of the front was finally trained."""
    others = [one for one in record.trained_front if one[0] != record.winner]
    if others:
        each = [
            f"#{entry.number} with {count(entry.metrics['params'])} parameters is right on "
            f"{percent(float(result['test_accuracy']))} of them"
            for entry, result in others
        ]
        was = by_number(len(others), "one other network was", f"{len(others)} others were")
        yield f"Of the front, {was} finally trained, and tested once, too: {', '.join(each)}."


def _searched(record: Record, figures: _Figures) -> str:
    strategy = _strategy(record.search)
    budgets = [entry.proposal.budget for entry in record.trained]
    lengths = sorted({(b.seconds or 0.0, b.epochs, b.length) for b in budgets if b is not None})
    length = "no epochs"
    if lengths:
        first, last = lengths[0][-1], lengths[-1][-1]
        length = first if first == last else f"{first.split()[0]} to {last}"
        if record.search.get("typical_cost"):
            length += ", a costlier one for longer,"
    took = f" in {figures.seconds}" if record.seconds else ""
    shape = "×".join(map(str, record.space.input_shape))
    if (size := record.image_size) is not None:
        shape += f", seen at {size}×{size}"
    each = by_number(len(record.trained), "it", "each")
    what = "images" if record.images.get("backbone") is None else "feature maps"
    return (
        f"{strategy[:1].upper() + strategy[1:]} tried {number_of(len(record.trained), 'network')} "
        f"of the space {record.space.name}{took}: {each} was trained for {length} on "
        f"{_data(record.search)} ({record.space.classes} classes, {what} of {shape}) and judged on "
        f"validation images.{_behind(record)}"
    )


def _behind(record: Record) -> str:
    """What the backbone is, where networks were found behind one."""
    backbone = record.images.get("backbone")
    if backbone is None:
        return ""
    params, macs = count(backbone["params"]), count(backbone["macs"])
    return (
        f" The maps are what the frozen backbone {backbone['name']} makes of images: {params} "
        f"parameters and {macs} multiply-accumulates an image, which come on top of all that is "
        "said of networks here."
    )


def _strategy(search: Mapping[str, Any]) -> str:
    """The title of the strategy, with what screens its proposals."""
    name = str(search.get("strategy", "a strategy of the user's own"))
    strategy = STRATEGIES.get(name)
    if strategy is None:
        return name
    if not strategy.screens:
        return strategy.title
    proposes = proposer(name, str(search.get("screens"))) or strategy
    return f"{proposes.title}, screened by a predictor ({search.get('predictor')}),"


def _data(search: Mapping[str, Any]) -> str:
    """The last part of where the images lie."""
    return str(search.get("data", "the images")).rstrip("/").rsplit("/", 1)[-1] or "the images"


# --- whether to believe it ------------------------------------------------------------------------


def verdict(findings: Findings) -> list[Argument]:
    """Whether to believe it: what speaks for it, what against it, and what is open."""
    record = findings.record
    return [
        _tested(record),
        *_flattered(record),
        *_at_equal_time(record),
        *_compared(record),
        *_learned(record),
        *_predicted(findings),
        *_experienced(findings),
        *_inherited(findings),
        *_failures(record),
    ]


def _tested(record: Record) -> Argument:
    opened = [event for event in record.events if event.kind == TEST_SET_OPENED]
    purposes = [str(event.details.get("for", "")) for event in opened]
    compared = sum(purpose.startswith("compare") for purpose in purposes)
    exported = sum(purpose.startswith("export") for purpose in purposes)
    others = [purpose for purpose in purposes if purpose.startswith("front")]
    winners = len(purposes) - compared - exported - len(others)
    besides = f", and {_times(compared)} to compare it with others" if compared else ""
    besides += f", and {_times(exported)} to check what was exported" if exported else ""
    honest = "nothing was chosen by it, so its figures are honest."
    if not purposes:
        return Argument(
            "open",
            "No test image was looked at yet; validation accuracies choose, so they flatter.",
        )
    if others and winners == 1 and len(set(others)) == len(others):
        each = len(others) + 1
        return Argument(
            "for",
            f"The test set was opened once for each of {each} networks of the front, the winner "
            f"among them, after the search{besides}: these are {each} tests of {each} networks, "
            f"and {honest}",
        )
    winners += len(others)
    if winners == 0:
        why = ["to compare the found network with others"] if compared else []
        why += ["to check what was exported"] if exported else []
        times = _times(len(purposes))
        return Argument("for", f"The test set was opened {times}, {' and '.join(why)}: {honest}")
    if winners == 1:
        return Argument(
            "for",
            f"The test set was opened once for the winner, after the search{besides}: {honest}",
        )
    return Argument(
        "open",
        f"The test set was opened {_times(winners)} for winners{besides}: to choose among "
        "them by what came out there is to choose by luck, too.",
    )


def _flattered(record: Record) -> Iterator[Argument]:
    accuracies = [entry.accuracy for entry in record.ranked if entry.accuracy is not None]
    if record.winner is None or record.winner.accuracy is None:
        return
    best, tried = max(accuracies), len(record.ranked)
    valid, images = record.images.get("valid"), record.noise_images
    flatters = f"the best of {number_of(tried, 'try', 'tries')}: it flatters"
    if not valid or not images:
        if tried > 1:
            words = f"The best validation {record.measure}, {percent(best)}, is {flatters}."
            yield Argument("open", words)
        return
    noisy = ""
    if round(images) < valid:
        noisy = f" and, balanced, are as noisy as accuracies on {images:,.0f}"
    low, high = wilson(best, images)
    words = (
        f"Validation accuracies come from {number_of(valid, 'image')}{noisy}, so {percent(best)} "
        f"may be {percent(low)} to {percent(high)}"
    )
    words += f", and it is {flatters}." if tried > 1 else "."
    error = max(best * (1 - best), 1 / images) / images  # never none: as many images could be right
    level = best - Z * (2 * error) ** 0.5
    near = sum(e.accuracy is not None and e.accuracy >= level for e in record.distinct)
    if near > 1:
        words += f" So few images cannot tell {near:,} different networks from the best."
    # that no other comes near speaks for the best only where there are others
    yield Argument("for" if near == 1 < len(record.distinct) else "open", words)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _at_equal_time(record: Record) -> Iterator[Argument]:
    said = record.equal_time
    if said is not None and said.earned is not None:
        yield Argument(said.earned.sign, f"{said.sentence[:1].upper()}{said.sentence[1:]}.")


def _compared(record: Record) -> Iterator[Argument]:
    rows = {str(row["network"]): row for row in record.comparison}
    winner = rows.pop("found", None)
    if winner is None:
        if record.equal_time is None:
            yield Argument(
                "open",
                "Whether the search was worth it is not known: `nanonas compare` trains the "
                "winner, ResNet-18, a plain CNN and random networks alike, and tests each; with "
                "--equal-time it says whether the search was worth its time.",
            )
        return
    drawn = [row for name, row in rows.items() if name.startswith("random")]
    if drawn:
        yield _drawn_at_random(winner, drawn)
    for name, other in rows.items():
        if not name.startswith("random"):
            sign, gap = _against(winner, other)
            share = winner["params"] / max(1, other["params"])
            epochs, others = float(winner.get("epochs", 1)), float(other.get("epochs", 1))
            unlike = ""
            if epochs != others:
                had = number_of(others, "epoch", form=".3g")
                unlike = f", which had {had} in its time, and not {epochs:.3g}"
                sign = "open"
            yield Argument(
                sign, f"Against {name}{unlike}: {gap}, with {share:.2g} times its parameters."
            )


def _drawn_at_random(winner: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]]) -> Argument:
    """The winner against the best of the random networks."""
    accuracies = [float(row["test_accuracy"]) for row in drawn]
    sign, gap = _against(winner, drawn[accuracies.index(max(accuracies))])
    alike = "of the same space, trained alike"
    if len(drawn) == 1:
        return Argument(sign, f"Against a random network {alike}: {gap}.")
    over = _gap(winner, statistics.mean(accuracies))
    words = f"Against {len(drawn)} random networks {alike}: {over} over their mean, {gap} over the "
    return Argument(sign, f"{words}best of them.")


def _against(winner: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Sign, str]:
    """Whether a network's mean test accuracy is above another's by more than their trainings differ
    anyway; and by how much.
    """
    accuracy = float(other["test_accuracy"])
    gap, words = float(winner["test_accuracy"]) - accuracy, _gap(winner, accuracy)
    errors = _error(winner), _error(other)
    if errors[0] is None or errors[1] is None:
        return "open", f"{words}, of one training each"
    noise = Z * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    if abs(gap) <= noise:
        return "open", f"{words}, no more than trainings differ by (± {100 * noise:.2f})"
    return "for" if gap > 0 else "against", words


def _gap(winner: Mapping[str, Any], accuracy: float) -> str:
    of = " of balanced accuracy" if winner.get("metric") == "balanced_accuracy" else ""
    return f"{points(float(winner['test_accuracy']) - accuracy)} points{of}"


def _error(row: Mapping[str, Any]) -> float | None:
    """The standard error of a mean over trainings; None of fewer than two."""
    trainings = len(row.get("trainings") or ())
    if row.get("spread") is None or trainings < 2:
        return None
    return float(row["spread"]) / math.sqrt(trainings)


def _learned(record: Record) -> Iterator[Argument]:
    """The first generation against the last whole one, by the rank-sum test."""
    generations: dict[int, list[float]] = {}
    for entry in record.entries:
        if entry.accuracy is not None and entry.proposal.resumes is None:
            generations.setdefault(entry.generation, []).append(entry.accuracy)
    whole = [one for _, one in sorted(generations.items()) if len(one) >= _GENERATION]
    if len(whole) < 3:
        return
    first, last = (percent(statistics.median(whole[place])) for place in (0, -1))
    medians = f"the median {record.measure} was {first} in the first generation, {last} in the last"
    partly = ""
    if any(entry.proposal.inherits for entry in record.trained):
        partly = ", though part of it are the inherited weights"
    if rank_sum(whole[0], whole[-1]) < _SURE:
        yield Argument(
            "for", f"The search learned{partly}: {medians}, which luck alone hardly does."
        )
    else:
        yield Argument("open", f"Whether the search learned cannot be told from luck: {medians}.")


def _predicted(findings: Findings) -> Iterator[Argument]:
    for name, trust in findings.predictors.items():
        words = (
            f"The predictor {name} ordered the last {trust.n} networks beforehand with "
            f"{_interval(trust)}"
        )
        if trust.low > 0:
            yield Argument("for", f"{words}: better than chance.")
        else:
            sign: Sign = "against" if trust.tau <= 0 else "open"
            yield Argument(sign, f"{words}: no better than chance at the end.")


def _experienced(findings: Findings) -> Iterator[Argument]:
    if (words := experience(findings)) is not None:
        helps = findings.experience is not None and findings.experience.helps
        yield Argument("for" if helps else "open", words)


def _inherited(findings: Findings) -> Iterator[Argument]:
    heirs = sum(bool(entry.proposal.inherits) for entry in findings.record.trained)
    if not heirs:
        return
    begun = f"{number_of(heirs, 'network')} began with inherited weights"
    start = findings.head_start
    if start is None:
        yield Argument("open", f"{begun}; too few twins tell what that did.")
        return
    worth = f"{100 * start.mean:+.1f} ± {100 * start.error:.1f}"
    words = (
        f"{begun}. {start.correlation.n} of them were trained from scratch, too: inheriting is "
        f"worth {worth} points, so accuracies of the search are not those of the networks by "
        f"themselves; the order of the two agrees with {_interval(start.correlation)}."
    )
    sign: Sign = "for" if start.correlation.low > 0 else "open"
    yield Argument(sign, words.replace("+-", "−"))


def _failures(record: Record) -> Iterator[Argument]:
    trained = len(record.trained)
    failed = sum(entry.state == "failed" for entry in record.trained)
    if failed > _FAILURES * max(1, trained):
        yield Argument(
            "against",
            f"{failed:,} of {number_of(trained, 'training')} failed ({failed / trained:.0%}); see "
            "why below.",
        )


def _interval(trust: Correlation) -> str:
    return f"Kendall's τ of {interval(trust.tau, trust.low, trust.high)}"
