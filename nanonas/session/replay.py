"""Is a run what its configuration and its seed come to?

Its candidates are derived again, its folder is compared with its store, and a few of its networks
are trained again.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nanonas.config.files import GONE, validated
from nanonas.core import Evaluation, State, Told
from nanonas.data.images import changed_message
from nanonas.engine.breeding import Breeding
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.needed import needed
from nanonas.engine.ranking import best_networks
from nanonas.engine.replay import Difference, replayed
from nanonas.engine.storage.events import MACHINE
from nanonas.engine.storage.store import RunStore
from nanonas.errors import NanonasError, RunError
from nanonas.files import weights_in
from nanonas.machine import described
from nanonas.networks.limits import Limits
from nanonas.runs import origin as origins
from nanonas.runs.checking import Stored, differences, without_weights
from nanonas.runs.experience import begun_with
from nanonas.runs.folder import RunFolder, fingerprint_of, read_config
from nanonas.runs.reading import noted_images
from nanonas.session.setup import Setup
from nanonas.session.start import counted

_ALIKE = ("torch", "numpy")  # versions that numbers depend on, besides the processor


@dataclass(frozen=True)
class Repeat:
    """A candidate that was trained once more."""

    told: Told  # as it is stored
    again: Evaluation
    # whether the accuracies must be equal: this is the kind of machine that trained it, with the
    # same versions
    comparable: bool

    @property
    def accuracies(self) -> tuple[float | None, float | None]:
        """On the validation images, in [0, 1]: as stored, and now; None where there is none."""
        return self.told.evaluation.accuracy, self.again.accuracy

    @property
    def equal(self) -> bool:
        """Whether the whole learning curve came out as it is stored."""
        return self.told.evaluation.curve == self.again.curve and len(set(self.accuracies)) == 1


class Replay:
    """The replay of one run, which is only read.

    Raises:
        NanonasError: the run, or the configuration in its store, cannot be read.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        with RunStore.read(folder.store) as store:
            self.stored = Stored.of(store)
            self.fingerprint = fingerprint_of(store)
            self.config = validated(store.config, str(folder.store))
            self.past = begun_with(folder, store, self.config.search)
            self.origin = origins.begun_with(folder, store)

    @property
    def goes_on(self) -> bool:
        """Whether a process writes the run now, so that its folder is ahead of what was read."""
        return RunStore.in_use(self.folder.store)

    def candidates(self) -> Iterator[Difference]:
        """What is asked for otherwise, when each candidate is derived again: needs no images."""
        with RunStore.read(self.folder.store) as store:
            yield from replayed(store, _breeding(self._without_images()))

    def files(self) -> Iterator[Difference]:
        """What lies in the folder otherwise than the store says; see `runs.checking`."""
        # images are the same by their fingerprint, wherever they lie now
        ignored = GONE if self.fingerprint is None else {*GONE, "data"}
        return differences(self.folder, self.stored, counted(), ignored, self.needed())

    def needed(self) -> Collection[int] | None:
        """The candidates whose weights the search needs to go on, when it is resumed; None: all."""
        setup, candidates = self._without_images(), self.stored.candidates
        if not setup.config.search.fidelity.needs_weights:
            return ()
        strategy = setup.strategy
        told = {
            one.number: one for one in self.stored.told if one.evaluation.state is not State.CUT
        }
        known = 0
        while known in told and known < strategy.needs(len(candidates)):
            strategy.tell(told[known])
            known += 1
        return needed(strategy, candidates[known:], told.__contains__)

    def _without_images(self) -> Setup:
        shape, names = noted_images(self.folder, self.stored.events)
        noted = shape, len(names)
        return Setup(self.config, noted=noted, past=self.past, origin=self.origin)

    def not_compared(self) -> list[str]:
        """The names of the folders that `files` passes over, because all their weights are gone."""
        return without_weights(self.folder, self.stored)

    def trainings(self, number: int) -> Iterator[Repeat]:
        """Trains the best networks of the search once more, so many of them, one after the other;
        the best first. Of those that were trained to the end, and that this machine can repeat: the
        weights that they began with are there.

        Raises:
            NanonasError: the images are gone, or others than the run was begun with.
        """
        setup = self._with_images()
        for told in self._repeatable()[:number]:
            yield Repeat(told, self._trained(setup, told), self._comparable(setup, told))

    def _repeatable(self) -> list[Told]:
        return [
            told
            for told in best_networks(self.stored.told)
            if told.evaluation.state is State.COMPLETE
            and told.evaluation.reason is None
            and all(path.exists() for path in self._begins_with(told))
        ]

    def _begins_with(self, told: Told) -> list[Path]:
        """The weights that a training begins with."""
        return [weights_in(self.folder.weights, n) for n in told.candidate.proposal.begins_with]

    def _with_images(self) -> Setup:
        """The configuration with the images and the device as they are now."""
        config = self.config
        try:
            now = read_config(self.folder)
        except NanonasError:  # a difference of its own
            now = config
        run = replace(now.run, latency_from=None)  # nothing is measured
        config = replace(config, search=replace(config.search, data=now.search.data), run=run)
        setup = Setup(config, origin=self.origin, kept_backbone=self.folder.backbone)
        if self.fingerprint not in (None, setup.images.fingerprint):
            raise RunError(changed_message(config.search.data.data, self.folder.path))
        return setup

    def _trained(self, setup: Setup, told: Told) -> Evaluation:
        """The candidate, trained as a worker trains it, in a folder of its own."""
        with tempfile.TemporaryDirectory(prefix="nanonas-replay-") as place:
            for path in self._begins_with(told):
                shutil.copy(path, place)
            trial = setup.trials(Path(place))[0]
            # it has met the limits, and what is measured differs each time
            evaluator = SerialEvaluator(replace(trial, limits=Limits(), measured=frozenset()))
            evaluator.submit(told.candidate)
            evaluation = evaluator.result()
        assert evaluation is not None  # one was submitted
        return evaluation

    def _comparable(self, setup: Setup, told: Told) -> bool:
        place = max(
            place
            for place, evaluation in enumerate(self.stored.arrived)
            if evaluation.number == told.number
        )
        arrival = self.stored.clocks[place]
        machines = [
            event.details
            for event in self.stored.events
            if event.kind == MACHINE and event.clock <= arrival
        ]
        if not machines or setup.device != "cpu":
            return False
        return _kind(machines[-1]) == _kind(described())


def _breeding(setup: Setup) -> Breeding:
    """How the candidates of a search come about, before the first one."""
    return Breeding(
        setup.space,
        setup.strategy,
        setup.limits,
        setup.bans,
        setup.budget,
        setup.rungs[0],
        setup.config.search.seed,
    )


def _kind(machine: object) -> object:
    """What equal numbers need of a machine, as `machine.described` has it: the processor, however
    many cores of it, and the versions.
    """
    assert isinstance(machine, dict)
    processor = str(machine.get("hardware")).partition(" of ")[2]
    return processor, *(machine.get(name) for name in _ALIKE)
