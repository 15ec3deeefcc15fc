"""Who trains a network on this machine: one process or several, and with how many threads."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from loguru import logger
from torch import nn

from nanonas.machine import cores
from nanonas.networks.network import Network
from nanonas.training.beginning import fresh_module
from nanonas.training.device import default_workers, prepare, slots
from nanonas.training.joined import TunedBackbone
from nanonas.training.measuring.pace import Pace, pace_of
from nanonas.training.pictures import Pictures, minibatch
from nanonas.training.pretrained import NOTHING, Begun, Pretrained
from nanonas.training.recipe import Recipe
from nanonas.training.team import START_SECONDS, Parallelism, ProcessLost, Team, teams
from nanonas.training.train import Training

WORTH_A_TEAM = 120.0  # seconds of training below which processes are not tried: they take some
CLEARLY = 1.03  # times as fast as one process: what several must be to be taken


@dataclass(frozen=True)
class Crew:
    """Who trains."""

    how: Parallelism
    pace: Pace | None = None  # None: not measured
    team: Team | None = None  # of several processes

    @property
    def leaves_cores_idle(self) -> bool:
        """Whether there are cores that it does not use."""
        return self.how.threads * self.how.processes < cores()


@dataclass(frozen=True)
class Crews:
    """The crews that may train a network on this machine.

    Args:
        network: to train.
        train: the images.
        recipe: the hyperparameters.
        seed: of the training.
        device: of the images; "cuda" stands for all GPUs. None: the one they are on.
        threads: of PyTorch in each process; None: whatever is measured to be fastest.
        processes: that train together; None: one where `threads` are given, else whatever is
            measured to be fastest.
        pretrained: whose weights it begins with; None: nobody's.
        backbone: what learns with it, and `train` is what that sees; None: none does.
    """

    network: Network
    train: Pictures
    recipe: Recipe
    seed: int
    device: str | None = None
    threads: int | None = None
    processes: int | None = None
    pretrained: Pretrained | None = None
    backbone: TunedBackbone | None = None

    @property
    def asked(self) -> Parallelism | None:
        """What is given; None: it is to be measured."""
        if self.threads is None and self.processes in (None, 1):
            return None
        processes = self.processes or 1
        return Parallelism(self.threads or max(1, cores() // processes), processes)

    def begun(self, epochs: float, team: Team | None = None) -> Training:
        """A training of so many epochs, by this process or as the leader of a team."""
        module, begun = self.beginning()
        group, body = None if team is None else team.group, begun.body
        return Training(module, self.train, self.recipe, epochs, self.seed, group=group, body=body)

    def beginning(self) -> tuple[nn.Module, Begun]:
        """The module as a training begins, on the CPU, and what it has of a pretrained network."""
        module = fresh_module(self.network, self.seed, self.train, self.recipe)
        if self.pretrained is None:
            return module, NOTHING
        images = minibatch(self.train, seed=0).cpu()
        if self.backbone is None:
            return module, self.pretrained.begin(module, images)
        joined = self.backbone.before(module)
        with torch.inference_mode():
            maps = joined.maps(images)
        return joined, self.backbone.begun(joined, self.pretrained.begin(module, maps))

    def gathered(self, stack: ExitStack, how: Parallelism) -> Crew:
        """One that is known. Raises `ProcessLost`.

        Args:
            stack: ends the processes.
        """
        return Crew(how, None, None if how.processes == 1 else stack.enter_context(self._team(how)))

    def timed(self, crew: Crew, patience: float) -> Crew:
        """The crew with its pace, measured for so many seconds."""
        return replace(crew, pace=self._pace(crew.team, patience))

    def fastest(self, stack: ExitStack, patience: float, epochs: int | None, left: float) -> Crew:
        """Whatever trains fastest: one thread, all of them, or processes.

        Args:
            stack: ends the processes.
            patience: seconds to measure each for, about.
            epochs: to train; None: as many as fit, or one.
            left: seconds until the deadline, if there is one; else infinite.
        """
        threads, pace = self.fastest_threads(patience)
        best = Crew(Parallelism(threads), pace)
        fills_the_time = epochs is None and left < math.inf
        seconds = math.inf if fills_the_time else (epochs or 1) * pace.mean
        if min(left, seconds) < WORTH_A_TEAM or self.processes is not None:
            return best
        if self.train.spec is None:
            return best
        units = default_workers(self.device or str(self.train.device))
        for how in teams(units, cores(), min(self.recipe.batch_size, len(self.train))):
            prepare(how.threads)
            try:
                team = stack.enter_context(self._team(how, min(START_SECONDS, 0.1 * left)))
                its = self._pace(team, patience)
            except ProcessLost as lost:
                logger.debug("{} are not used: {}", how, lost)
                continue
            logger.debug("{}: {:.1f} s an epoch; {}: {:.1f} s", best.how, pace.mean, how, its.mean)
            loser: Team | None = team
            if CLEARLY * its.mean < pace.mean:
                best, pace, loser = Crew(how, its, team), its, best.team
            if loser is not None:
                loser.close()
        return best

    def fastest_threads(self, patience: float = 2.0) -> tuple[int, Pace]:
        """The fastest number of threads for the network in this process alone, and its pace.

        More threads are faster for most networks on an idle machine; for tiny networks, and on
        cores that are busy, they wait for each other and can be fifty times slower.

        Args:
            patience: seconds to measure for, about, with each number of threads.
        """
        training = self.begun(1)
        candidates = {1, cores()} if self.train.device.type == "cpu" else {cores()}
        paces: dict[int, Pace] = {}
        for threads in candidates:
            prepare(threads)
            paces[threads] = pace_of(training, patience)
        fastest = min(paces, key=lambda number: paces[number].mean)
        return fastest, paces[fastest]

    def _team(self, how: Parallelism, patience: float = START_SECONDS) -> Team:
        devices = slots(self.device or str(self.train.device), how.processes)
        what = (self.network, self.train, self.recipe, self.seed, how, devices, patience)
        return Team(*what, self.beginning()[1].body)

    def _pace(self, team: Team | None, patience: float) -> Pace:
        training = self.begun(1, team)
        return pace_of(training, patience) if team is None else team.pace(training, patience)
