"""The final training's share of `throughput.py`: how much of the machine it uses.

Each network is trained in every way that the final training chooses from: one thread, a thread for
each core, processes that train together. Beside them, bare steps (forward pass, backward pass,
optimizers on one batch that lies ready) show what the rest costs: drawing and augmenting batches,
clipping, the schedule. The recipe is the default one. All take turns, so that what else the machine
does hits all alike.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import torch.nn.functional as F

from nanonas.config.schema import TrainingOptions
from nanonas.data.images import DataSpec
from nanonas.machine import cores
from nanonas.networks.network import Network
from nanonas.session.setup import make_recipe
from nanonas.training.beginning import fresh_module
from nanonas.training.device import prepare
from nanonas.training.group import Group
from nanonas.training.measuring.pace import pace_of
from nanonas.training.pictures import Pictures, final_pictures
from nanonas.training.recipe import Recipe
from nanonas.training.team import Parallelism, Team, teams
from nanonas.training.train import Training, autocast

NETWORKS = ("plain_242k", "found_149k", "found_214k")


def run(
    names: Sequence[str], data: DataSpec, seconds: float, rounds: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Images a second of each network in each way; see `_summary`."""
    from recipe import network

    train = final_pictures(data, "cpu")
    recipe = make_recipe(TrainingOptions(), data.load(), "cpu")
    found = {}
    for name in names:
        made = network(name, data.load().input_shape, data.load().classes)
        with ExitStack() as stack:
            contenders = _contenders(made, train, recipe, stack)
            rates: dict[str, list[float]] = {label: [] for label in contenders}
            labels = list(contenders)
            for place in range(rounds):
                for number in range(len(labels)):  # no one always comes after the same other
                    label = labels[(place + number) % len(labels)]
                    rates[label].append(contenders[label](seconds))
                    say(
                        f"{place + 1} of {rounds} · {name} · {label} · {rates[label][-1]:,.0f} "
                        "images/s"
                    )
        found[name] = _summary(made, rates)
    return {"batch_size": recipe.batch_size, "precision": recipe.precision, "networks": found}


def _contenders(
    made: Network, train: Pictures, recipe: Recipe, stack: ExitStack
) -> dict[str, Callable[[float], float]]:
    """What measures images a second for so many seconds, by its name."""

    def begun(group: Group | None = None) -> Training:
        return Training(fresh_module(made, 0, train, recipe), train, recipe, 100, 0, group=group)

    found: dict[str, Callable[[float], float]] = {}
    alone = [Parallelism(threads) for threads in sorted({1, cores()})]
    for how in alone:
        found[f"bare steps, {how}"] = partial(_bare, begun(), how.threads)
    for how in alone:
        found[f"training, {how}"] = partial(_pace, begun(), how.threads, None)
    for how in teams(cores(), cores(), recipe.batch_size):
        devices = ["cpu"] * how.processes
        team = stack.enter_context(Team(made, train, recipe, 0, how, devices))
        found[f"training, {how}"] = partial(_pace, begun(team.group), how.threads, team)
    return found


def _pace(training: Training, threads: int, team: Team | None, seconds: float) -> float:
    prepare(threads)
    measure = pace_of if team is None else team.pace
    return len(training.pictures) / measure(training, seconds).mean


def _bare(training: Training, threads: int, seconds: float) -> float:
    """As `pace_of`: the median of steps, after two of them."""
    prepare(threads)
    recipe, pictures = training.recipe, training.pictures
    module = copy.deepcopy(training.module).train()
    training = Training(module, pictures, recipe, 100, 0)
    x = pictures.x[: recipe.batch_size].float() / 255
    y = pictures.y[: recipe.batch_size]
    ticks = [time.perf_counter()]
    while len(ticks) < 6 or ticks[-1] - ticks[2] < seconds:
        module.zero_grad(set_to_none=True)
        with autocast(training.device, recipe.precision):
            logits = module(x)
        F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing).backward()  # type: ignore[no-untyped-call]
        training.optimizer.step()
        if training.muon is not None:
            training.muon.step()
        ticks.append(time.perf_counter())
    return len(y) / median(after - before for before, after in pairwise(ticks[2:]))


def _summary(made: Network, rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Images a second, and the fastest training: by what the final training chooses from without
    processes, by one thread, and by the fastest bare steps. Ratios are medians over the rounds.
    """
    middle = {label: median(values) for label, values in rates.items()}

    def best(labels: Sequence[str]) -> str:
        return max(labels, key=middle.__getitem__)

    def times(label: str, other: str) -> float:
        pairs = zip(rates[label], rates[other], strict=True)
        return round(median(ours / theirs for ours, theirs in pairs), 3)

    trainings = [label for label in rates if label.startswith("training")]
    alone = [label for label in trainings if "processes" not in label]
    fastest = best(trainings)
    return {
        "params": made.params,
        "macs": made.macs,
        "images_per_second": {
            label: {"median": middle[label], "min": min(values), "max": max(values)}
            for label, values in rates.items()
        },
        "fastest": fastest,
        "times_one_thread": times(fastest, trainings[0]),
        "times_one_process": times(fastest, best(alone)),
        "times_bare_steps": times(fastest, best([each for each in rates if "bare" in each])),
    }


def table(result: Mapping[str, Any]) -> Any:
    """The result as a rich table: one row a network and way."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(
        title="The final training on the whole machine",
        caption=f"Median (smallest to largest); {result['precision']}, batches of "
        f"{result['batch_size']}. The fastest training in times of: one thread; the faster of one "
        "thread and all; the faster of the bare steps.",
        box=SIMPLE_HEAD,
    )
    for column in ("network", "what"):
        drawn.add_column(column)
    for column in ("images/s", "× 1 thread", "× 1 process", "× bare"):
        drawn.add_column(column, justify="right")
    for name, row in result["networks"].items():
        for place, (label, rate) in enumerate(row["images_per_second"].items()):
            spread = f"{rate['median']:,.0f} ({rate['min']:,.0f}–{rate['max']:,.0f})"
            ratios = ["", "", ""]
            if label == row["fastest"]:
                keys = ("times_one_thread", "times_one_process", "times_bare_steps")
                ratios = [f"{row[key]:.2f}" for key in keys]
            drawn.add_row("" if place else name, label, spread, *ratios)
        drawn.add_section()
    return drawn
