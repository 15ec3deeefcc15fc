"""One candidate in words: what there is to say of it, and how it came about."""

from __future__ import annotations

from dataclasses import dataclass

from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import Step
from nanonas.analysis.record import Entry
from nanonas.networks.edits import in_words
from nanonas.text import costs, duration, number_of, percent, points


@dataclass(frozen=True)
class Portrait:
    """What a page says of a candidate beside its drawing, a line each.

    Attributes:
        facts: its accuracy, costs, time and weights, and what became of it.
        came_about: the kind of its step and its edits; of a child by edits, these alone.
        gone: layers that its parent had and it lacks.
        gain: its accuracy minus its parent's, in points; "" where either has none.
    """

    facts: list[str]
    came_about: list[str]
    gone: list[str]
    gain: str


def portrait(findings: Findings, step: Step) -> Portrait:
    """What there is to say of the candidate of a step."""
    entry = findings.record.entries[step.number]
    edits = in_words(step.edits)
    by_edits = edits and len(entry.proposal.parents) == 1
    return Portrait(
        _facts(findings, entry),
        edits if by_edits else [step.kind, *edits],
        [node.words for node in step.gone],
        "" if step.gain is None else points(step.gain),
    )


def _facts(findings: Findings, entry: Entry) -> list[str]:
    evaluation, proposal, metrics = entry.evaluation, entry.proposal, entry.metrics
    if evaluation is None:
        return ["running, or lost"]
    state = entry.state if entry.accuracy is None else f"{percent(entry.accuracy)}, {entry.state}"
    facts = [f"{state}, generation {entry.generation + 1}"]
    again = findings.record.finalists.get(entry.number)
    if again is not None:
        facts.append(f"as a finalist, from scratch: {percent(again)}")
    if proposal.ancestor:
        facts.append(f"the hand-made network {proposal.ancestor!r}, scaled to the limits")
    if proposal.recalled:
        facts.append("found by another run")
    if "params" in metrics and "macs" in metrics:
        facts.append(costs(metrics))
    if evaluation.curve:
        epochs = number_of(len(evaluation.curve), "epoch")
        facts.append(f"{epochs} in {duration(evaluation.seconds)}")
    if "ancestor_share" in metrics and findings.record.ancestor is not None:
        share = f"{metrics['ancestor_share']:.0%} of its parameters"
        facts.append(f"began with the weights of {findings.record.ancestor}, {share}")
    if proposal.resumes is not None:
        facts.append(f"goes on with the training of #{proposal.resumes}")
    elif "inherited_share" in metrics:
        tensors = number_of(metrics.get("inherited_tensors", 0), "tensor", form=".0f")
        sources = " and ".join(f"#{number}" for number in proposal.inherits)
        facts.append(
            f"inherited {metrics['inherited_share']:.0%} of its parameters ({tensors}) from "
            f"{sources}"
        )
    if (predicted := proposal.predicted) is not None:
        expected = f"{percent(-predicted.mean)} ± {100 * predicted.std:.2f}"
        how = "chosen because of it" if predicted.chosen else "not chosen by it"
        facts.append(f"{predicted.by} had expected {expected}, {how}")
    if evaluation.reason:
        facts.append(evaluation.reason)
    return facts
