"""What a run found, in words a stranger understands, and whether to believe it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nanonas.analysis.record import Record
from nanonas.analysis.twins import head_start
from nanonas.core import Objective
from nanonas.engine.storage.events import IMAGES, TEST_SET_OPENED
from nanonas.maths.intervals import Z, wilson
from nanonas.maths.ranks import Correlation, rank_sum
from nanonas.predictors.audit import audited
from nanonas.text import count, duration, interval, milliseconds, percent, points


@dataclass(frozen=True)
class Finding:
    """Something that speaks for what was found, against it, or that nobody knows yet."""

    sign: Literal["for", "against", "open"]
    words: str


def headline(record: Record) -> list[str]:
    """What was searched and what came of it, in a few sentences."""
    said = [_searched(record)]
    winner, final = record.winner, record.final
    if winner is None or winner.evaluation is None:
        return [*said, "No network was judged yet, so there is nothing to choose from."]
    metrics = winner.evaluation.metrics
    size = f"{count(metrics['params'])} parameters and {count(metrics['macs'])} multiply-accumulates an image"
    if final is None:
        return [*said, f"The best of them, #{winner.number}, has {size}. {_in_the_search(record)}"]
    low, high = wilson(float(final["test_accuracy"]), int(final["test_images"]))
    speed = f", and takes {milliseconds(final['latency_ms'])} an image on {final.get('hardware', 'its machine')}"
    return [
        *said,
        f"The winner, #{winner.number}, has {size}{speed}.",
        f"Trained for good ({int(final['epochs'])} epochs), it is right on "
        f"{percent(final['test_accuracy'])} of "
        f"{int(final['test_images']):,} test images that nothing was chosen by; with so many "
        "images, that is "
        f"{percent(low)} to {percent(high)} with 95 % confidence.",
    ]


def findings(record: Record) -> list[Finding]:
    """Whether to believe it: what speaks for it, what against it, and what is open."""
    return [
        *_tested(record),
        *_flattered(record),
        *_compared(record),
        *_learned(record),
        *_predicted(record),
        *_inherited(record),
        *_failures(record),
    ]


def cards(record: Record) -> list[tuple[str, str]]:
    """The few figures that everybody asks for: a name and the figure."""
    winner, found = record.winner, []
    if record.final is not None:
        found.append(("test accuracy", percent(record.final["test_accuracy"])))
    if winner is not None and winner.accuracy is not None:
        scratch = record.finalists.get(winner.number)
        name = "validation accuracy" if scratch is None else "validation, from scratch"
        found.append((name, percent(winner.accuracy if scratch is None else scratch)))
    if winner is not None and winner.evaluation is not None:
        found.append(("parameters", count(winner.evaluation.metrics["params"])))
        found.append(("MACs an image", count(winner.evaluation.metrics["macs"])))
    found.append(("networks trained", f"{len(record.trained):,}"))
    found.append(("time of the search", duration(record.seconds)))
    return found


def _searched(record: Record) -> str:
    search, trained = record.search, record.trained
    strategy = search.get("strategy", "somebody's own strategy")
    if strategy == "screened":
        strategy = f"{search.get('screens')} evolution, screened by a predictor ({search.get('predictor')}),"
        strategy = strategy.replace("evolution evolution", "evolution").replace(
            "random evolution", "random search"
        )
    strategy = {
        "aging": "aging evolution",
        "local": "local search",
        "random": "random search",
        "nsga2": "NSGA-II",
    }.get(strategy, strategy)
    lengths = sorted(
        {
            e.candidate.proposal.budget.epochs
            for e in trained
            if e.candidate.proposal.budget is not None
        }
    )
    epochs = (
        f"{lengths[0]}"
        if len(lengths) == 1
        else f"{lengths[0]} to {lengths[-1]}"
        if lengths
        else "no"
    )
    times = f" in {duration(record.seconds)}" if record.seconds else ""
    begin = strategy[:1].upper() + strategy[1:]
    return (
        f"{begin} tried {len(trained):,} networks of the space {record.space.name}{times}: each "
        "was trained for "
        f"{epochs} epochs on {_data(search)} ({record.space.classes} classes, images of "
        f"{'×'.join(map(str, record.space.input_shape))}) and judged on validation images."
    )


def _data(search: Mapping[str, Any]) -> str:
    return str(search.get("data", "the images")).rstrip("/").rsplit("/", 1)[-1] or "the images"


def _in_the_search(record: Record) -> str:
    winner = record.winner
    assert winner is not None
    accuracy = record.finalists.get(winner.number, winner.accuracy)
    judged = (
        "is"
        if accuracy is None
        else f"was right on {percent(accuracy)} of the validation images and is"
    )
    return f"It {judged} not trained for good yet: `nanonas train` does that, and tests it."


def _tested(record: Record) -> Iterator[Finding]:
    opened = [
        str(event.details.get("for", ""))
        for event in record.events
        if event.kind == TEST_SET_OPENED
    ]
    compared = sum(purpose.startswith("compare") for purpose in opened)
    others = len(opened) - compared
    besides = f", and {compared:,} times to compare it with others" if compared else ""
    if not opened:
        yield Finding(
            "open",
            "No test image was looked at yet; validation accuracies choose, so they flatter.",
        )
    elif others == 0:
        times = "once" if compared == 1 else f"{compared:,} times"
        said = f"The test set was opened {times}, to compare the found network with others"
        yield Finding("for", f"{said}: nothing was chosen by it, so its figures are honest.")
    elif others == 1:
        once = f"The test set was opened once for the winner, after the search{besides}"
        yield Finding("for", f"{once}: nothing was chosen by it, so its figures are honest.")
    else:
        yield Finding(
            "open",
            f"The test set was opened {others:,} times for winners{besides}: whoever chooses "
            "among them by what came "
            "out there chooses by luck, too.",
        )


def _flattered(record: Record) -> Iterator[Finding]:
    winner, judged = record.winner, record.details(IMAGES).get("valid")
    if winner is None or winner.accuracy is None:
        return
    best = max(entry.accuracy for entry in record.ranked if entry.accuracy is not None)
    tried = len(record.ranked)
    if judged:
        error = (best * (1 - best) / judged) ** 0.5
        near = sum(
            e.accuracy is not None and e.accuracy >= best - Z * 2**0.5 * error
            for e in record.distinct
        )
        yield Finding(
            "open" if near > 1 else "for",
            f"Validation accuracies come from {judged:,} images, so {percent(best)} is known to ± "
            f"{100 * Z * error:.1f} points, and it is the best of {tried:,} tries: it flatters."
            + (
                f" So few images cannot tell {near:,} different networks from the best."
                if near > 1
                else ""
            ),
        )
    elif tried > 1:
        yield Finding(
            "open",
            (
                f"The best validation accuracy, {percent(best)}, is the best of {tried:,} tries: "
                "it "
                "flatters."
            ),
        )


def _compared(record: Record) -> Iterator[Finding]:
    rows = {str(row["network"]): row for row in record.comparison}
    found = rows.get("found")
    if found is None:
        yield Finding(
            "open",
            "Whether the search was worth it is not known: `nanonas compare` trains the winner, "
            "ResNet-18, a plain "
            "CNN and random networks alike, and tests each.",
        )
        return
    drawn = [row for name, row in rows.items() if name.startswith("random")]
    if drawn:
        mean = statistics.mean(float(row["test_accuracy"]) for row in drawn)
        best = max(drawn, key=lambda row: float(row["test_accuracy"]))
        sign, gap = _against(found, best)
        yield Finding(
            sign,
            f"Against {len(drawn)} random networks of the same space, trained alike: "
            f"{points(float(found['test_accuracy']) - mean)} points over their mean, {gap} over "
            "the best of them.",
        )
    for name, other in rows.items():
        if name != "found" and not name.startswith("random"):
            sign, gap = _against(found, other)
            share = found["params"] / max(1, other["params"])
            epochs = float(found.get("epochs", 1)), float(other.get("epochs", 1))
            alike = (
                ""
                if epochs[0] == epochs[1]
                else f", which had {epochs[1]:.3g} epochs in its time, and not {epochs[0]:.3g}"
            )
            sign = sign if epochs[0] == epochs[1] else "open"
            yield Finding(
                sign, f"Against {name}{alike}: {gap}, with {share:.2g} times its parameters."
            )


def _against(
    own: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[Literal["for", "against", "open"], str]:
    """Whether a network's mean test accuracy is above another's by more than their trainings differ
    anyway.
    """
    gap = float(own["test_accuracy"]) - float(other["test_accuracy"])
    errors = [_error(row) for row in (own, other)]
    if None in errors:
        return "open", f"{points(gap)} points, of one training each"
    noise = Z * sum(error**2 for error in errors if error is not None) ** 0.5
    if abs(gap) <= noise:
        return (
            "open",
            f"{points(gap)} points, no more than trainings differ by (± {100 * noise:.2f})",
        )
    return "for" if gap > 0 else "against", f"{points(gap)} points"


def _error(row: Mapping[str, Any]) -> float | None:
    """The standard error of a mean over trainings."""
    trainings = len(row.get("trainings") or ())
    return (
        None
        if row.get("spread") is None or trainings < 2
        else float(row["spread"]) / trainings**0.5
    )


def _learned(record: Record) -> Iterator[Finding]:
    """The first generation against the last whole one, by the rank-sum test."""
    generations: dict[int, list[float]] = {}
    for entry in record.entries:
        if entry.accuracy is not None and entry.candidate.proposal.resumes is None:
            generations.setdefault(entry.generation, []).append(entry.accuracy)
    whole = [some for _, some in sorted(generations.items()) if len(some) >= 5]
    if len(whole) < 3:
        return
    first, last = whole[0], whole[-1]
    medians = f"{percent(statistics.median(first))} in the first generation, {percent(statistics.median(last))} in the last"
    heirs = any(entry.candidate.proposal.inherits for entry in record.trained)
    partly = ", though part of it are the inherited weights" if heirs else ""
    if rank_sum(first, last) < 0.05:
        yield Finding(
            "for",
            (
                f"The search learned{partly}: the median accuracy was {medians}, which luck alone "
                "hardly does."
            ),
        )
    else:
        yield Finding(
            "open",
            (
                "Whether the search learned cannot be told from luck: the median accuracy was "
                f"{medians}."
            ),
        )


def _predicted(record: Record) -> Iterator[Finding]:
    for name, found in audited(record.told, Objective()).items():
        said = f"The predictor {name} ordered the last {found.n} networks beforehand with {_interval(found)}"
        if found.low > 0:
            yield Finding("for", f"{said}: better than chance.")
        else:
            yield Finding(
                "against" if found.tau <= 0 else "open",
                f"{said}: no better than chance at the end.",
            )


def _inherited(record: Record) -> Iterator[Finding]:
    heirs = sum(bool(entry.candidate.proposal.inherits) for entry in record.trained)
    if not heirs:
        return
    start = head_start(record.told)
    if start is None:
        yield Finding(
            "open",
            f"{heirs:,} networks began with inherited weights; too few twins tell what that did.",
        )
        return
    said = (
        f"{heirs:,} networks began with inherited weights. {start.correlation.n} of them were "
        "trained from scratch, "
        f"too: inheriting is worth {100 * start.mean:+.1f} ± {100 * start.error:.1f} points, so "
        "accuracies of the "
        "search are not those of the networks by themselves; the order of the two agrees with "
        f"{_interval(start.correlation)}"
    )
    yield Finding("for" if start.correlation.low > 0 else "open", f"{said.replace('+-', '−')}.")


def _failures(record: Record) -> Iterator[Finding]:
    failed = [entry for entry in record.trained if entry.state == "failed"]
    if len(failed) > 0.1 * max(1, len(record.trained)):
        share = len(failed) / len(record.trained)
        yield Finding(
            "against",
            (
                f"{len(failed):,} of {len(record.trained):,} trainings failed ({share:.0%}); see "
                "why "
                "below."
            ),
        )


def _interval(found: Correlation) -> str:
    return f"Kendall's τ of {interval(found.tau, found.low, found.high)}"
