"""A run's folder without images or training: what the tests of the dashboard look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nanonas.config.files import to_values, to_yaml, validated
from nanonas.config.parts import make_space, make_strategy
from nanonas.config.schema import Config
from nanonas.config.trainings import make_budget
from nanonas.core import Candidate, Epoch, Evaluation, Pulse, State
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.requests import RequestFiles
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.runs.folder import RunFolder
from nanonas.serving.server import Server


def configured(**search: object) -> Config:
    values = {
        "data": "digits",
        "space": "nano",
        "strategy": "aging",
        "population": 6,
        "lag": 2,
        **search,
    }
    return validated({"search": values})


def score(candidate: Candidate, pulse: Pulse) -> Evaluation:
    """An accuracy that follows from the genome; some fail, some are pruned."""
    rng = np.random.default_rng(abs(hash(candidate.proposal.genome)))
    if candidate.number % 11 == 7:
        raise RuntimeError("out of luck <b>here</b>")
    state = State.PRUNED if candidate.number % 7 == 5 else State.COMPLETE
    accuracy = 0.5 + 0.4 * float(rng.random())
    reason = "below chance" if state is State.PRUNED else None
    return Evaluation(
        candidate.number, state, {"accuracy": accuracy}, (Epoch(1.0, accuracy),), 2.0, reason
    )


@dataclass
class Run:
    """A run that goes on when it is told to."""

    path: Path
    config: Config = field(default_factory=configured)
    pace: float = 0.0  # seconds that a training takes

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    def go(self, evaluations: int) -> None:
        """Begins the search, or goes on with it, to so many evaluations."""
        self.path.mkdir(parents=True, exist_ok=True)
        values = to_values(self.config)
        search = self.config.search
        fresh = not self.folder.store.exists()
        with (
            RunStore.begin(self.folder.store, values)
            if fresh
            else RunStore.resume(self.folder.store, values) as store
        ):
            if fresh:
                self.folder.config.write_text(to_yaml(self.config))
                names = [str(n) for n in range(10)]
                store.event(
                    "images", {"fingerprint": "0", "input_shape": [1, 8, 8], "class_names": names}
                )
            space = make_space(search.space, (1, 8, 8), 10)
            evaluator = SerialEvaluator(self._measure)
            inbox = RequestFiles(self.folder.requests)
            budget = make_budget(search.training, 10)
            study = Study(
                space,
                make_strategy(search, space),
                evaluator,
                store,
                budget,
                search.seed,
                inbox=inbox,
            )
            study.run(evaluations)

    def start(self, evaluations: int) -> threading.Thread:
        """As `go`, beside the test."""
        thread = threading.Thread(target=self.go, args=(evaluations,), daemon=True)
        thread.start()
        return thread

    def _measure(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        time.sleep(self.pace)
        return score(candidate, pulse)


def begun(path: Path, evaluations: int = 20, **search: object) -> Run:
    """A run with so many evaluations."""
    run = Run(path, configured(**search))
    run.go(evaluations)
    return run


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """A server that answers beside the test."""
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join()


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until something holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:g} s"
        time.sleep(0.05)
