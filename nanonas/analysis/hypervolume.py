"""What a front is worth, and which of its networks are to be trained: by the volume that they
dominate.

It is taken in logs of the errors and of the costs: halving the errors counts the same from 20 to
10 % as from 2 to 1 %, and halving the parameters the same in a small network as in a large one.
With one cost it is, but for a factor, a mean over limits that lie evenly in logs: of how much
better than guessing the best network within the limit is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanonas.core import Floats, Objective, Told, losses_of
from nanonas.engine.ranking import comparable, front_of, ranking
from nanonas.maths.pareto import front, hypervolume, hypervolume_subset

BEYOND = 2.0  # times the dearest network of a front: up to there, a limit may lie


def chosen(
    told: Sequence[Told],
    objectives: Sequence[Objective],
    winner: int,
    number: int,
    images: int,
    classes: int,
) -> list[Told]:
    """The networks of a front that are trained at its end: the winner, which need not be on it, and
    those that dominate the most together with it; each network once, the winner first, then the
    most accurate.

    Accuracies count from halfway between guessing and the best one, in logs of the errors: down
    there, networks that are of no use to anybody are the smallest by far.

    Args:
        winner: its number.
        number: of networks, the winner among them; of a smaller front, all are returned.
        images: that the accuracies were measured on.
        classes: of the images.
    """
    ranked = ranking(told)
    best = next(one for one in ranked if one.number == winner)
    members = {best.candidate.key: best}
    for member in front_of(ranked, objectives):
        members.setdefault(member.candidate.key, member)
    distinct = list(members.values())
    losses = in_logs(distinct, objectives, images)
    reference = corner(losses, objectives, classes)
    for place, objective in enumerate(objectives):
        if objective.maximize:
            reference[place] = (reference[place] + float(losses[:, place].min())) / 2
    return [distinct[place] for place in hypervolume_subset(losses, number, reference, [0])]


def growth(
    told: Sequence[Told],
    objectives: Sequence[Objective],
    images: int,
    classes: int,
    places: Sequence[int],
) -> list[float]:
    """How large the volume is that the first networks dominate, as a share of what all of them do.

    Args:
        told: in the order in which they arrived.
        places: in `told`, ascending; the networks up to each are asked for.
    """
    losses = in_logs(told, objectives, images)
    compared = {one.number for one in comparable(told)}
    losses[[one.number not in compared for one in told]] = np.inf  # which dominates nothing
    members = in_logs(front_of(told, objectives), objectives, images)
    reference = corner(members, objectives, classes)
    whole = hypervolume(members, reference)
    shares, kept, seen = list[float](), losses[:0], 0
    for place in places:
        kept = np.concatenate([kept, losses[seen : place + 1]])
        kept, seen = kept[front(kept)], place + 1  # the others add nothing, and take long
        shares.append(hypervolume(kept, reference) / whole if whole else 1.0)
    return shares


def in_logs(told: Sequence[Told], objectives: Sequence[Objective], images: int) -> Floats:
    """Logs of errors and costs: shape (told, objectives), lower is better; infinite where something
    was not measured.

    Half an image is added to the errors, so that a network without any has a log.
    """
    losses = losses_of([one.evaluation for one in told], objectives)
    for place, objective in enumerate(objectives):
        if objective.maximize:  # an accuracy, of which the loss is its negative
            losses[:, place] += 1 + 0.5 / images
    return np.asarray(np.log(np.maximum(losses, np.finfo(np.float64).tiny)), dtype=np.float64)


def corner(losses: Floats, objectives: Sequence[Objective], classes: int) -> list[float]:
    """The point that volumes are measured from: to guess among the classes, at `BEYOND` times the
    dearest of each cost.

    Args:
        losses: of a front, as of `in_logs`.
    """
    dearest = np.max(losses, axis=0, where=np.isfinite(losses), initial=-np.inf) + np.log(BEYOND)
    guessing = np.log(1 - 1 / max(2, classes))
    return [
        float(guessing if objective.maximize else cost)
        for objective, cost in zip(objectives, dearest, strict=True)
    ]
