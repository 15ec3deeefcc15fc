"""What a search began with of other runs' experience, and whether it could rely on that."""

from __future__ import annotations

from nanonas.analysis.experience import Experience
from nanonas.analysis.findings import Findings
from nanonas.config.parts import begins_without
from nanonas.maths.ranks import Correlation
from nanonas.text import interval, number_of

_NAMED = 3  # kinds of images


def experience(findings: Findings) -> str | None:
    """A sentence on what a search began with, how well that ordered the networks that it measured,
    and whether it was left out; None where it began with nothing.
    """
    found, search = findings.experience, findings.record.search
    if found is None:
        return None
    if not found.networks:
        return "The search began without experience, for no other run over its space was known."
    begun = (
        f"The search began with what {number_of(found.networks, 'network')} of "
        f"{number_of(found.runs, 'other run')} have shown{_images(found)}"
    )
    if found.foretold is not None and found.foretold.left_out:
        order = _interval(found.foretold.worth)
        return f"{begun}; these do not foretell each other ({order}), so that was left out."
    names = [objective.name for objective in findings.record.objectives]
    lacks = begins_without(search.get("strategy", ""), search.get("predictor", ""), names)
    if lacks is not None:
        return f"{begun}; {lacks}."
    if not found.judged:
        return f"{begun}; how well that orders the networks here is not known."
    worth = found.judged[-1].worth
    return (
        f"{begun}; the order of the first {worth.n} networks here agrees with that by "
        f"{_interval(worth)}, {_consequence(found)}."
    )


def _images(found: Experience) -> str:
    if not found.tasks:
        return ""
    kinds = [
        f"{'×'.join(map(str, (*shape[1:], shape[0])))} in {number_of(classes, 'class', 'classes')}"
        for shape, classes in found.tasks[:_NAMED]
    ]
    others = ["others"] if len(found.tasks) > _NAMED else []
    *first, last = kinds + others
    return f" on images of {', '.join(first)}{' and ' if first else ''}{last}"


def _consequence(found: Experience) -> str:
    """What the search has made of it."""
    turns, worth = found.turns, found.judged[-1].worth
    if not turns:
        if worth.low > 0:
            return "which is better than chance: it was heeded"
        return "which so few networks cannot tell from chance: it was heeded"
    was = [f"{'left out' if out else 'heeded again'} after {n} networks" for n, out in turns]
    chance = "better than chance"
    why = chance if found.helps else f"no {chance}" if worth.tau <= 0 else f"not surely {chance}"
    *first, last = was
    return f"{why}: it was {', '.join(first)}{' and ' if first else ''}{last}"


def _interval(worth: Correlation) -> str:
    return f"Kendall's τ of {interval(worth.tau, worth.low, worth.high)}"
