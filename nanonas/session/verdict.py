"""Was the search worth its time? The whole run against what else its time buys: each hand-made
network, random ones, and a random search.

A run of T seconds has searched, and trained its winner, in T. So every other contender has T, too:
a network trains for all of it, as a winner trains that is given a time; a search is planned as the
run was. What is done is kept below RUN/compare/equal-time, by time, contender and seed, and is not
done again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.analysis.equal_time import (
    RANDOM_NETWORK,
    RANDOM_SEARCH,
    RESNET18,
    SEARCH,
    EqualTime,
    Trained,
)
from nanonas.config.duration import Duration
from nanonas.config.files import nearest
from nanonas.config.schema import EPOCHS, Config
from nanonas.engine.storage.lock import make_folder_of
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.files import read_json, write_text
from nanonas.runs.folder import RunFolder, read_config, search_seconds, total_seconds
from nanonas.runs.source import Source
from nanonas.session.compare import trained_alike
from nanonas.session.contenders import Contenders
from nanonas.session.listener import Listener, Listeners
from nanonas.session.start import begin, resume
from nanonas.session.winner import alone_in, run_training
from nanonas.text import command, duration

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult

_OVERTIME = 1.1  # times the others' time: a run that took longer is said to have
_TRAINED = "trained.json"  # in the folder of each contender and seed


@dataclass(frozen=True)
class Verdict:
    """The comparison of a run with others that have its limits and its time. `verdict_of` makes
    one.

    Attributes:
        source: the run's best network, with its images.
        run: the run.
        config: of the run, both halves, on the device that all train on.
        whole: what the run itself has come to; None where it is not at its end.
        counts: whether the run itself is the search of its seed, since it had `seconds`, too.
        seconds: that each contender has for each seed.
        listener: makes what hears of one training or search.
    """

    source: Source
    run: RunFolder
    config: Config
    whole: Trained | None
    counts: bool
    seconds: float
    listener: Callable[[], Listener] = Listener

    @property
    def path(self) -> Path:
        """The file that the comparison is written to."""
        return self.source.folder / "compare" / "equal-time.json"

    def names(self, only: Sequence[str] = (), resnet18: bool = False) -> list[str]:
        """The contenders that are to take part.

        Args:
            only: some of their names; none: all within the limits.
            resnet18: ResNet-18, too.

        Raises:
            ConfigError: a name that is no contender's, or of one that exceeds the limits.
        """
        all_names = [SEARCH, *self.contenders.hand_made, RANDOM_NETWORK, RANDOM_SEARCH]
        for name in only:
            if name in self.contenders.left_out:
                raise ConfigError(
                    f"--only has {name!r}, which {self.contenders.left_out[name]}; leave it out"
                )
            if name not in (*all_names, RESNET18):
                raise ConfigError(
                    f"--only has {name!r}, which is no contender"
                    f"{nearest(name, (*all_names, RESNET18))}"
                )
        more = [RESNET18] if resnet18 else []
        return list(dict.fromkeys([*(only or all_names), *more]))

    def missing(self, names: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
        """The contenders and seeds that are still to be trained."""
        pairs = [(name, seed) for seed in seeds for name in names]
        return [pair for pair in pairs if not self._is_run(*pair) and self._kept(*pair) is None]

    def trained(self, names: Sequence[str], seeds: Sequence[int]) -> Iterator[Trained]:
        """Has each contender train with each seed, all of them with one seed before the next; gives
        what came of each, and writes the file after each.

        Raises:
            RunError: the run itself is not at its end; a training that diverges; a folder that
                cannot be written.
            KeyboardInterrupt: Ctrl-C; what is done is kept.
        """
        make_folder_of(self.path)
        try:
            for seed in seeds:
                for name in names:
                    one = self._one(name, seed)
                    write_text(self.path, json.dumps(self.so_far().to_values(), indent=1) + "\n")
                    yield one
        except KeyboardInterrupt:
            raise KeyboardInterrupt("what is done is kept, and the same command goes on") from None

    def so_far(self) -> EqualTime:
        """What there is, of this call and of earlier ones."""
        kept = [self._read(path) for path in sorted(self._folder.glob(f"*/{_TRAINED}"))]
        own = [self.whole] if self.counts else []
        trained = tuple(one for one in (*own, *kept) if one is not None)
        return EqualTime(
            self.seconds,
            self.contenders.terms,
            tuple(self.contenders.hand_made),
            trained,
            self._notes(),
        )

    @cached_property
    def contenders(self) -> Contenders:
        """Who can take part."""
        search = self._search(RANDOM_SEARCH, 0).search  # it has one objective: networks fill limits
        return Contenders(self.config, self.source, search)

    # --- their time -------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return self.path.with_suffix("") / f"{self.seconds:.10g}s"

    def _place(self, name: str, seed: int) -> Path:
        return self._folder / f"{name}-seed{seed}"

    def _one(self, name: str, seed: int) -> Trained:
        """What came of a contender, now or earlier."""
        if self._is_run(name, seed):
            if self.whole is None:
                raise RunError(_unfinished(self.run, "so there is nothing to compare"))
            return self.whole
        if (known := self._kept(name, seed)) is not None:
            return known
        searches = name in (SEARCH, RANDOM_SEARCH)
        one = self._searched(name, seed) if searches else self._alone(name, seed)
        path = self._place(name, seed) / _TRAINED
        write_text(path, json.dumps(asdict(one), indent=1) + "\n")
        return one

    def _is_run(self, name: str, seed: int) -> bool:
        """Whether the contender is the run itself."""
        return self.counts and (name, seed) == (SEARCH, self.config.search.seed)

    def _kept(self, name: str, seed: int) -> Trained | None:
        return self._read(self._place(name, seed) / _TRAINED)

    def _read(self, path: Path) -> Trained | None:
        """What is kept of a contender; nothing where an earlier version kept it by another metric
        than the run's: then its training, which is there, is only read again.
        """
        found = _read(path)
        return found if found is not None and found.metric == self._metric else None

    @property
    def _metric(self) -> str:
        return self.config.search.strategy.metric

    def _alone(self, name: str, seed: int) -> Trained:
        """A network, trained for all of the time."""
        folder, label = self._place(name, seed), f"{name}, seed {seed}"
        network, clock = self.contenders.network(name, seed), _Clock(folder / "clock.json")
        training = trained_alike(
            self.source, network, seed, self.config.run.device, folder, _purpose(name, seed)
        )
        listener, deadline = Listeners(self.listener(), clock), clock.start + self.seconds
        with alone_in(folder):
            result = run_training(training, label, listener, None, deadline)
        return replace(_from(result, name, seed, self._metric), seconds=clock.seconds)

    def _searched(self, name: str, seed: int) -> Trained:
        """A search and its winner's training, in all of the time: a run of its own."""
        folder = RunFolder(self._place(name, seed))
        if folder.store.exists():
            resume(folder.path, listener=self.listener())
        else:
            begin(self._search(name, seed), self.listener())
        one = _whole(folder, name, seed, self._metric)
        if one is None:
            raise RunError(_unfinished(folder, "so there is nothing to compare"))
        self.source.opened(_purpose(name, seed))
        return one

    def _search(self, name: str, seed: int) -> Config:
        """The run's configuration with another seed; for a random search without what breeds."""
        search = replace(self._planned.search, seed=seed)
        if name == RANDOM_SEARCH:
            search = replace(
                search,
                space=replace(search.space, ancestors=False),
                strategy=replace(search.strategy, strategy="random", objectives=()),
                fidelity=replace(search.fidelity, inherit=False),
            )
        place = self._place(name, seed)
        run = replace(self._planned.run, out=place.parent, name=place.name, requests_of=None)
        run = replace(run, cluster=None)  # equal time is time of one machine
        return Config(search, run)

    @cached_property
    def _planned(self) -> Config:
        """The run's configuration for the time.

        A run that was given a time has its plan in its configuration; another time needs another
        plan. A run that was not is given the time that it took, and its winner the share that it
        had. One that trained several networks of its front trains the winner alone.
        """
        from nanonas.training.final import read_result

        search, run = self.config.search, self.config.run
        training, fidelity = search.training, search.fidelity
        if run.time is None:
            if not (fidelity.inherit or fidelity.finalists or fidelity.finalist_seconds):
                fidelity = replace(fidelity, finalists=0)
            if training.epochs is None and training.candidate_seconds is None:
                training = replace(training, epochs=EPOCHS)
            final = read_result(self.run.final)
            if final is not None:
                share = final.seconds / (final.seconds + search_seconds(self.run))
                run = replace(run, final_share=share)
        elif run.time != self.seconds and training.epochs is None:
            training = replace(training, candidate_seconds=None)
            fidelity = replace(fidelity, finalists=None, finalist_seconds=None)
            # one evaluation is the plan of a time that was too short for a search
            evaluations = None if run.evaluations == 1 else run.evaluations
            run = replace(run, final_share=None, evaluations=evaluations)
        if run.time != self.seconds:
            run = replace(run, time=Duration(f"{self.seconds:.3f}s"))
        run = replace(run, front=None)  # each contender is one network
        return Config(replace(search, training=training, fidelity=fidelity), run)

    def _notes(self) -> list[str]:
        """What is not equal."""
        notes = []
        if self.config.search.fidelity.ancestor is not None:
            notes.append(
                "searches began with the weights of an ancestor, and so did what they trained; the "
                "networks that nobody searched for began from scratch"
            )
        with RunStore.read(self.run.store) as store:
            tried = len(store.evaluations())
        if self.counts and tried == 1:
            notes.append(
                "the run tried one network and trained it: its time was too short for a search"
            )
        if self.counts and self.whole is not None:
            took = self.whole.seconds
            if took > _OVERTIME * self.seconds:
                notes.append(
                    f"the run itself took {duration(took)}, more than the "
                    f"{duration(self.seconds)} of the others; --time gives all of them the same"
                )
        if self.counts and (self.config.run.front or 1) > 1:
            notes.append(
                f"the run had --front {self.config.run.front}, so other networks of its front took "
                "a part of its time; --time has all of them train one"
            )
        notes += [
            f"{name} takes no part: it {why}" for name, why in self.contenders.left_out.items()
        ]
        return notes


def verdict_of(
    source: Source,
    seconds: float | None = None,
    device: str | None = None,
    listener: Callable[[], Listener] = Listener,
) -> Verdict:
    """The comparison of a run at equal time.

    Args:
        source: with its images, see `fitting`.
        seconds: that each contender has; None: as many as the run had, by its --time or, without
            one, by the clock.
        device: that all train on; None: the run's.
        listener: makes what hears of one training or search.

    Raises:
        RunError: the source is no run, trains no winner, or is not at its end and has no --time.
    """
    run = source.run
    if run is None:
        raise RunError(
            f"{str(source.folder)!r} comes from a genome's file, but --equal-time compares a run, "
            "which has taken some time; name a run's folder"
        )
    config = read_config(run)
    if not config.run.trains_winner:
        raise RunError(
            f"the run {str(run.path)!r} was told to train no winner (--final-epochs, "
            "--final-share), so it has no accuracy to compare; search with one"
        )
    if device is not None:
        config = replace(config, run=replace(config.run, device=device))
    whole = _whole(run, SEARCH, config.search.seed, config.search.strategy.metric)
    had: float | None = config.run.time
    if had is None and whole is not None:
        had = round(whole.seconds, 1)
    if seconds is None and had is None:
        raise RunError(_unfinished(run, "so how long it takes is not known; or give --time"))
    return Verdict(
        source, run, config, whole, seconds in (None, had), float(seconds or had or 0), listener
    )


class _Clock(Listener):
    """Tells the seconds that a training has taken, over all sessions; what was not kept of them
    does not count.
    """

    def __init__(self, path: Path) -> None:
        kept = read_json(path)
        self.path = path
        self.start = time.monotonic() - (float(kept) if isinstance(kept, float | int) else 0.0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start

    def epoch(self, done: int, of: int, loss: float) -> None:
        """Keeps the time together with the checkpoint."""
        write_text(self.path, f"{self.seconds:.3f}\n")


def _from(result: FinalResult, name: str, seed: int, metric: str) -> Trained:
    return Trained(
        name,
        seed,
        result.accuracy_by(metric),
        result.params,
        result.macs,
        result.epochs,
        result.seconds,
        metric,
    )


def _whole(run: RunFolder, name: str, seed: int, metric: str) -> Trained | None:
    """A run with its search and its winner's training; None where it is not at its end."""
    from nanonas.training.final import read_result

    result = read_result(run.final)
    if result is None:
        return None
    seconds = total_seconds(run, result.seconds)
    return replace(_from(result, name, seed, metric), seconds=seconds)


def _read(path: Path) -> Trained | None:
    """What `Verdict` has kept of a contender; None where it is not there, or damaged."""
    try:
        return Trained(**(read_json(path) or {}))
    except TypeError:
        return None


def _purpose(name: str, seed: int) -> str:
    """What the test set is opened for, as the run records it."""
    return f"compare at equal time: {name}, seed {seed}"


def _unfinished(run: RunFolder, consequence: str) -> str:
    return (
        f"the run {str(run.path)!r} is not at its end, {consequence}; "
        f"`{command('nanonas resume', run.path)}` goes on"
    )
