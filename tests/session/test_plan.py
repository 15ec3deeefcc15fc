"""What a search will take: against real studies by a clock that is not the machine's; and what can
hardly work.
"""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from nanonas import cli
from nanonas.commands.plan import in_words
from nanonas.config.duration import Duration
from nanonas.config.files import configure
from nanonas.config.parts import make_space, make_strategy
from nanonas.config.schema import Config, SpaceOptions
from nanonas.config.trainings import make_budget
from nanonas.core import Budget, Candidate, Epoch, Evaluation, Genome, Proposal, State
from nanonas.engine import study
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import RunError
from nanonas.session import plan, timing
from nanonas.session import session as session_module
from nanonas.session.finalists import FINALS_SHARE
from nanonas.session.plan import Forecast, _Planner
from nanonas.session.setup import Setup, resolved
from nanonas.session.timing import Timed
from nanonas.spaces.base import Space
from nanonas.training import graphs
from nanonas.training.measuring import costs
from nanonas.training.measuring.agent import Agent, Device, Measured
from nanonas.training.measuring.memory import peak_memory, training_memory
from nanonas.training.modules import build_module

BASE = {
    "data": "digits",
    "space": "nano",
    "channels": 2,
    "length": 6,
    "precision": "float32",
    "population": 6,
}


def config(**settings: Any) -> Config:
    """Of a search on the CPU with two workers."""
    return configure(**{**BASE, "device": "cpu", "workers": 2, **settings})


class Machine:
    """Seconds in proportion to MACs, and memory as one says."""

    epoch_seconds = 2.0  # of the middle network
    latency = 2.0
    memory = 0.5
    worker_memory = 400.0

    def timed(
        self, trials: Sequence[object], genomes: Sequence[Genome], patience: float
    ) -> tuple[Timed, ...]:
        networks = [trials[0].space.decode(genome) for genome in genomes]  # type: ignore[attr-defined]
        return tuple(
            Timed(
                network,
                epoch_seconds=self.epoch_seconds * network.macs / networks[1].macs,
                valid_seconds=0.1 * self.epoch_seconds,
                extra_seconds=0.0,
                latency=self.latency * (1 + place),
                memory=self.memory * (1 + place),
                step_memory=20.0,
                worker_memory=self.worker_memory,
            )
            for place, network in enumerate(networks)
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(plan, "timed", lambda *arguments: made.timed(*arguments))
    return made


def planner(made: Config) -> _Planner:
    setup = Setup(resolved(made))
    setup.check()
    return _Planner(setup, None, 0.0)


class Waiting(Machine):
    """As the machine, with candidates that wait for another device."""

    def timed(
        self, trials: Sequence[object], genomes: Sequence[Genome], patience: float
    ) -> tuple[Timed, ...]:
        return tuple(
            replace(timed, extra_seconds=1.5 + place)
            for place, timed in enumerate(super().timed(trials, genomes, patience))
        )


def test_another_device_that_measures_is_named_with_what_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Agent("http://127.0.0.1:9", Device("a board", 4, "1.23.2"))
    monkeypatch.setattr(Agent, "met", lambda self: board)
    monkeypatch.setattr(plan, "timed", Waiting().timed)
    made = config(max_latency_ms=5.0, latency_from=board.url, evaluations=4)
    found = planner(made).forecast()
    assert found.measured_on == ("a board (4 threads, onnxruntime 1.23.2)", 2.5)
    console = Console(width=200, file=io.StringIO())
    console.print(in_words(found))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2.5s a candidate, with 2 workers in its queue; on a board (4 threads, onnx" in said
    monkeypatch.setattr(plan, "timed", Machine().timed)
    alone = planner(config(max_latency_ms=5.0, evaluations=4)).forecast()
    assert alone.measured_on is None
    assert found.candidate_seconds > alone.candidate_seconds


def test_what_is_timed_with_another_device_is_its_latency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Agent("http://127.0.0.1:9", Device("a board", 1, "1.23.2"))
    took = Measured(7.5, 7.0, 8.0, 9.0, 60, True, None, 1.0, Device("a board", 1, "1.23.2"))
    monkeypatch.setattr(Agent, "met", lambda self: board)
    monkeypatch.setattr(Agent, "measure", lambda self, graph, go: took)
    for module in (costs, graphs):
        monkeypatch.setattr(module, "onnx_to_measure", lambda module: b"graph")
    made = config(max_latency_ms=5.0, latency_from=board.url, train_images=100)
    [trial, *_] = Setup(resolved(made)).trials()
    candidate = Candidate(0, Proposal((0, 1, 2, 3, 4, 5), budget=Budget(1)), "key")
    threads = torch.get_num_threads()
    found = timing.Timing(trial, 0.05)(candidate, lambda: True)
    torch.set_num_threads(threads)
    assert found.metrics["latency"] == 7.5


# --- when a search ends ---------------------------------------------------------------------------


@dataclass
class Clock:
    """Workers by a clock of their own: what is submitted ends after its time, or is cut at the
    deadline.
    """

    slots: int
    took: Callable[[Candidate], float]
    deadline: float | None = None
    now: float = 0.0
    running: list[tuple[float, Candidate]] = field(default_factory=list)
    ends: dict[int, float] = field(default_factory=dict)  # of what was evaluated in full

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        assert len(self.running) < self.slots
        self.running.append((self.now + self.took(candidate), candidate))

    def result(self, timeout: float | None = None) -> Evaluation | None:
        self.running.sort(key=lambda one: (one[0], one[1].number))
        end, candidate = self.running.pop(0)
        if self.deadline is not None and end > self.deadline:
            self.now = self.deadline
            return Evaluation(
                candidate.number, State.CUT, {"accuracy": 0.1}, reason="the time was up"
            )
        self.now = end
        self.ends[candidate.number] = end
        budget = candidate.proposal.budget
        assert budget is not None
        reached = 0.2 + 0.5 * float(np.random.default_rng(candidate.proposal.genome).random())
        curve = tuple(Epoch(1 - reached, reached) for _ in range(budget.begin, budget.epochs))
        return Evaluation(candidate.number, State.COMPLETE, {"accuracy": reached}, curve)

    def close(self) -> None:
        self.running.clear()


def searched(made: _Planner, clock: Clock, path: Path) -> list[Candidate]:
    """Runs the configured search by the clock; returns all candidates."""
    search, run = made.search, made.run
    with pytest.MonkeyPatch.context() as patch, RunStore.begin(path, {}) as store:
        patch.setattr(study, "time", SimpleNamespace(monotonic=lambda: clock.now))
        budget = make_budget(search.training, made.space.classes)
        real = Study(
            made.space,
            make_strategy(search, made.space),
            clock,
            store,
            budget,
            search.seed,
            grace=0.0,
        )
        generations = run.generations
        if (run.evaluations, generations, clock.deadline) == (None, None, None):
            generations = 100
        real.run(run.evaluations, generations, clock.deadline)
        return store.candidates()


STRATEGIES = st.sampled_from(["evolution", "aging", "random", "local", "nsga2", "screened"])
DURATIONS = st.lists(st.floats(0.1, 9), min_size=1, max_size=9)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    strategy=STRATEGIES,
    durations=DURATIONS,
    workers=st.integers(1, 4),
    lag=st.integers(1, 9),
    wrapped=st.sampled_from(
        [{}, {"inherit": True}, {"halving": 2}, {"halving": 3, "inherit": True}]
    ),
    ends=st.sampled_from(
        [(None, 3, None), (17, None, None), (17, 2, None), (None, None, 30.0), (25, None, 20.0)]
    ),
)
def test_an_imagined_search_ends_when_a_real_one_does(
    tmp_path_factory: pytest.TempPathFactory,
    strategy: str,
    durations: list[float],
    workers: int,
    lag: int,
    wrapped: dict[str, object],
    ends: tuple[int | None, int | None, float | None],
) -> None:
    if strategy == "random":
        wrapped = {name: value for name, value in wrapped.items() if name != "inherit"}
    evaluations, generations, deadline = ends
    made = config(strategy=strategy, lag=lag, **wrapped)
    run = replace(made.run, workers=workers, evaluations=evaluations, generations=generations)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "timed", Machine().timed)
        found = planner(
            replace(made, run=run if deadline is None else replace(run, time=Duration("1h")))
        )

    def took(candidate: Candidate) -> float:
        return durations[candidate.number % len(durations)]

    clock = Clock(workers, took, deadline)
    asked = searched(found, clock, tmp_path_factory.mktemp("run") / "study.db")
    expected = [clock.ends[number] for number in sorted(clock.ends)]
    assert found._ends(durations, found._wanted, deadline) == pytest.approx(expected)
    assert deadline is not None or len(asked) == len(expected)


# by budget, not by number: what the plan knows of a search is how many candidates are of which kind
COSTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "inherit": {"inherit": True, "inherit_audit": 0.25},
    "inherit, evolution": {"inherit": True, "strategy": "evolution"},
    "halving": {"halving": 3, "epochs": 9},
    "halving and shares": {"halving": 2, "rungs": 3, "rung_share": 0.25, "epochs": 8},
    "halving and inherit": {"halving": 2, "rungs": 2, "inherit": True, "epochs": 8},
    "shrunk images": {"halving": 3, "image_size": 16, "rung_image_size": 8, "epochs": 9},
}


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("timed", [False, True])
def test_what_is_imagined_of_a_search_is_nearly_what_a_real_one_comes_to(
    tmp_path: Path, machine: Machine, name: str, timed: bool
) -> None:
    given = {"strategy": "aging", "stop_epoch": 0, "length": 12, "evaluations": 150, **COSTS[name]}
    # on the highest rung are a few more than their share: those that were ahead for a while
    near = 0.25 if "rung_image_size" in given else 0.1
    found = planner(config(**given))
    if timed:  # about as long
        lasting = f"{found.forecast().search_seconds / (1 - found.run.kept_share):.0f}s"
        found = planner(config(**{**given, "evaluations": None, "time": lasting}))
    imagined = found.forecast()
    means: dict[Budget, float] = {}

    def took(candidate: Candidate) -> float:
        budget = candidate.proposal.budget
        assert budget is not None
        return means.setdefault(budget, float(found._seconds(budget).mean()))

    clock = Clock(2, took, found.deadline)
    candidates = searched(found, clock, tmp_path / "study.db")
    assert imagined.candidates == pytest.approx(len(clock.ends), rel=near)
    assert imagined.search_seconds == pytest.approx(clock.now, rel=near)
    assert timed or imagined.candidates == 150
    budgets = [c.proposal.budget for c in candidates][found.search.strategy.population :]
    epochs = [budget.epochs - budget.begin for budget in budgets if budget is not None]
    assert imagined.epochs == pytest.approx(np.mean(epochs), rel=near)


def test_a_candidate_takes_its_epochs_of_its_share_of_its_pixels(machine: Machine) -> None:
    found = planner(config(image_size=16, halving=3, epochs=9))
    training, validation = machine.epoch_seconds, 0.1 * machine.epoch_seconds
    middle = found.genomes[round(0.5 * (len(found.genomes) - 1))]
    place = [found.space.decode(genome).macs for genome in found.genomes].index(
        found.space.decode(middle).macs
    )
    for budget, epochs, pixels in (
        (Budget(9), 9, 1.0),
        (Budget(9, begin=3), 6, 1.0),
        (Budget(4, share=0.25), 4, 1.0),
        (Budget(2, image_size=8), 2, 0.25),
        (Budget(5, begin=4, share=0.5, image_size=12), 1, 0.5625),
    ):
        expected = epochs * pixels * (budget.share * training + validation)
        assert found._seconds(budget)[place] == pytest.approx(expected)


@pytest.mark.parametrize("inherit", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_whole_time_is_planned_and_what_a_search_leaves_is_the_winners(
    machine: Machine, inherit: bool, share: float
) -> None:
    full = planner(config(time="1h", inherit=inherit, final_share=share)).forecast()
    searching = 3600 * (1 - share)
    assert full.search_seconds == pytest.approx(searching * (1 - FINALS_SHARE * inherit))
    assert full.final_seconds == pytest.approx(
        full.seconds - full.search_seconds - full.finalists_seconds
    )
    assert full.seconds == pytest.approx(3600) or share == 0
    assert (full.final_epochs > 0) == (share > 0)
    early = planner(config(time="1h", evaluations=8, inherit=inherit, final_share=share)).forecast()
    assert early.candidates == 8
    assert early.search_seconds < 0.2 * full.search_seconds
    assert early.finalists_seconds == full.finalists_seconds  # they take what they take
    assert early.seconds == pytest.approx(3600) or share == 0
    assert early.final_epochs > 1.5 * full.final_epochs or share == 0
    short = planner(config(time="60s", inherit=inherit, final_share=share)).forecast()
    assert short.seconds <= 60 + 1e-6  # finalists are cut


@pytest.mark.parametrize("ends", [{"time": "1h"}, {"evaluations": 8}])
def test_no_final_training_is_planned_where_none_is_wanted(
    machine: Machine, ends: dict[str, object]
) -> None:
    found = planner(config(**ends, final_epochs=0)).forecast()
    assert (found.final_epochs, found.final_seconds) == (0, 0.0)
    assert found.seconds == found.search_seconds
    assert found.seconds == 3600 or "time" not in ends


def test_finalists_come_on_top_where_no_time_ends_the_search(machine: Machine) -> None:
    made = planner(config(evaluations=30, inherit=True, finalists=3, final_epochs=7))
    found = made.forecast()
    each = made._seconds(made.setup.budget).mean()
    assert found.finalists_seconds == pytest.approx(2 * each)  # three of them, on two workers
    assert found.final_epochs == 7
    assert planner(config(evaluations=30, final_epochs=7)).forecast().finalists_seconds == 0
    assert planner(
        config(evaluations=1, inherit=True, finalists=50)
    ).forecast().finalists_seconds == pytest.approx(each)


def test_the_networks_of_a_front_share_the_time_or_have_their_epochs(machine: Machine) -> None:
    both: dict[str, Any] = {"strategy": "nsga2", "objectives": ["accuracy", "params"]}
    one, three = (
        planner(config(**both, evaluations=8, final_epochs=7, front=front)).forecast()
        for front in (None, 3)
    )
    assert three.final_epochs == one.final_epochs == 7
    assert three.final_seconds == pytest.approx(3 * one.final_seconds)
    console = Console(width=200, file=io.StringIO())
    console.print(in_words(three))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3 of the front  7 epochs each, the larger the longer, in about" in said
    one, three = (
        planner(config(**both, time="1h", epochs=1, front=front)).forecast() for front in (None, 3)
    )
    assert three.final_seconds == one.final_seconds
    assert three.final_epochs == pytest.approx(one.final_epochs / 3, abs=1)


def test_weights_on_the_disk_are_those_that_a_search_keeps(machine: Machine) -> None:
    def disk(**more: object) -> list[float]:
        """How many weights, and MiB of them, those of the winner included."""
        made = planner(config(**({"epochs": 4, "evaluations": 200} | more))).forecast()
        return [made.weights, made.disk - made.candidates * plan._ROW / 2**20]

    [_, four] = disk(keep="front")  # with three of the winner
    one = four / 4
    assert disk() == pytest.approx([20, 23 * one])
    assert disk(keep="all") == pytest.approx([200, 203 * one])
    assert disk(halving=2) == pytest.approx([200, 203 * one])
    population, lag = 6, 4  # of two workers
    kept = 20 + population + 3 * lag
    assert disk(inherit=True, strategy="aging") == pytest.approx([kept, (kept + 3) * one])
    assert disk(inherit=True, evaluations=30) == pytest.approx([30, 33 * one])


# --- what can hardly work -------------------------------------------------------------------------


def advised(made: Config, words: str) -> str:
    """The one sentence of advice with these words, without its flags; "" where there is none."""
    found = [sentence for sentence in planner(made).forecast().advice if words in sentence]
    assert len(found) <= 1
    return found[0] if found else ""


def flag(sentence: str, name: str) -> str:
    """The value that a sentence gives a flag last."""
    return sentence.split(f"--{name} ")[-1].split()[0].rstrip(",:")


def test_who_asks_for_experience_in_vain_hears_it(machine: Machine) -> None:
    asked: dict[str, Any] = {"experience": True, "evaluations": 100}
    several = config(**asked, objectives=["accuracy", "params"], strategy="screened")
    assert advised(several, "with several objectives nothing is chosen by that")
    assert not advised(config(**asked, strategy="screened"), "--experience")
    assert not advised(config(evaluations=100, strategy="random"), "--experience")


def test_a_search_that_fits_needs_no_advice(machine: Machine) -> None:
    assert (
        planner(config(evaluations=100, max_params=10**6, max_latency_ms=100, max_memory_mb=100))
        .forecast()
        .advice
        == ()
    )


@pytest.mark.parametrize("name", ["params", "macs"])
@pytest.mark.parametrize("place", [0.0, 0.02])
def test_limits_that_hardly_a_network_meets(machine: Machine, name: str, place: float) -> None:
    space: Space = planner(config()).space
    costs = [getattr(network, name) for _, network in planner(config()).drawn]
    costs += [
        getattr(space.decode(space.sample(np.random.default_rng(seed))), name)
        for seed in range(400)
    ]
    limit = int(np.quantile(costs, place)) - (place == 0.0)
    said = advised(config(evaluations=100, **{f"max_{name}": limit}), "random networks have")
    assert f"at most {limit:,} {'parameters' if name == 'params' else 'MACs'}" in said
    wider = int(flag(said, f"max-{name}"))
    assert 0.15 < np.mean([cost <= wider for cost in costs]) < 0.5
    assert not advised(config(evaluations=100, **{f"max_{name}": wider}), "random networks have")


def test_of_two_limits_the_tighter_one_is_to_be_wider(machine: Machine) -> None:
    said = advised(config(evaluations=100, max_params=10**5, max_macs=1000), "random networks have")
    assert "at most 100,000 parameters and at most 1,000 MACs" in said
    assert "--max-macs" in said
    assert "--max-params" not in said


@pytest.mark.parametrize(("name", "limit"), [("latency_ms", 1.0), ("memory_mb", 0.25)])
def test_measured_limits_that_no_network_meets(machine: Machine, name: str, limit: float) -> None:
    hyphened = name.replace("_", "-")
    said = advised(config(evaluations=100, **{f"max_{name}": limit}), f"--max-{hyphened}")
    assert said.startswith(
        f"none of the timed networks meets --max-{hyphened} {limit:g}, the best has {2 * limit:g}: "
    )
    wider = float(flag(said, f"max-{hyphened}"))
    made = config(evaluations=100, **{f"max_{name}": wider})
    assert not advised(made, f"--max-{hyphened}")
    assert planner(made).forecast().within_measured == 2  # of three


@pytest.mark.parametrize(
    "more",
    [
        {"strategy": "evolution"},
        {"strategy": "aging", "inherit": True},
        {"strategy": "aging", "halving": 3, "epochs": 9},
    ],
)
@pytest.mark.parametrize(
    "ends",
    [{"time": "40s"}, {"evaluations": 7}, {"generations": 1}, {"time": "40s", "evaluations": 7}],
)
def test_a_search_of_fewer_than_two_populations(
    machine: Machine, more: dict[str, object], ends: dict[str, object]
) -> None:
    """What is advised helps, and gives five populations."""
    words = "fewer than two populations"
    said = advised(config(**ends, **more), words)
    assert all(
        f"--{name} " in said for name in ends if name != "evaluations" or "time" not in ends
    ), said
    better: dict[str, object] = {}
    for name in ends:
        value = flag(said, name) if f"--{name} " in said else ends[name]
        better[name] = value if name == "time" else int(str(value))
    made = planner(config(**better, **more))
    found = made.forecast()
    assert not any(words in sentence for sentence in found.advice)
    assert made.strategy.generation(found.candidates) >= 5
    fewer = int(flag(said, "population"))
    if fewer > 2:
        assert not advised(config(**ends, **{**more, "population": fewer}), words)


def test_random_search_has_no_populations(machine: Machine) -> None:
    assert planner(config(strategy="random", evaluations=3)).forecast().advice == ()


def test_more_workers_than_the_memory_holds(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonas.training.measuring.memory.device_memory", lambda device: 1000.0)
    machine.worker_memory = 300.0
    made = config(evaluations=100)
    crowded = replace(made, run=replace(made.run, workers=5))
    said = advised(crowded, "workers need")
    assert (
        said == "5 workers need 1.5 GiB, but there are 1000 MiB: take --workers 3 or a smaller "
        "--batch-size"
    )
    assert not advised(replace(made, run=replace(made.run, workers=3)), "workers need")
    monkeypatch.setattr("nanonas.training.measuring.memory.device_memory", lambda device: None)
    assert not advised(crowded, "workers need")  # who knows


def test_images_that_the_memory_does_not_hold(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 1,438 grey images of 8×8 that are not the test's are 0.09 MiB."""

    def said(memory: float) -> str:
        monkeypatch.setattr(
            "nanonas.training.measuring.memory.device_memory", lambda device: memory
        )
        console = Console(file=io.StringIO(), width=200)
        console.print(in_words(planner(config(evaluations=100)).forecast()))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    assert "0.09 MiB decoded, 0.17 MiB of memory here: they are read from the disk" in said(0.17)
    assert "decoded" not in said(0.18)


def test_weights_that_the_disk_does_not_hold(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=2**19)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    made = config(
        evaluations=500, inherit=True, out=tmp_path / "not" / "there", length=12, channels=8
    )
    said = advised(made, "of the disk are free")
    assert said.startswith("weights and store need ")
    assert "512 MiB" not in said
    assert "but 0.50 MiB of the disk are free" in said
    assert asked == [tmp_path]


# --- what is said ---------------------------------------------------------------------------------


def said(found: Forecast, width: int) -> list[str]:
    """The lines of a plan on a terminal of so many columns."""
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(in_words(found))
    return console.export_text().splitlines()


@pytest.mark.parametrize(
    "more",
    [
        {"evaluations": 100},
        {
            "time": "40s",
            "inherit": True,
            "max_latency_ms": 1.0,
            "max_memory_mb": 0.25,
            "max_params": 10,
        },
        {"evaluations": 7, "halving": 3, "max_macs": 1000, "max_params": 10**9},
    ],
)
def test_a_plan_has_eighty_columns_and_loses_no_word(
    machine: Machine, more: dict[str, object]
) -> None:
    machine.epoch_seconds, machine.worker_memory = 4000.0, 10**9
    found = planner(config(**more)).forecast()
    assert found.advice
    narrow = said(found, 80)
    assert max(len(line) for line in narrow) <= 80
    wide = Counter(word for line in said(found, 500) for word in line.split())
    assert Counter(word for line in narrow for word in line.split()) == wide
    assert "…" not in " ".join(narrow)


def test_the_command_takes_a_file_and_flags_and_says_what_it_has_found(
    tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "search": {**BASE, "epochs": 4},
        "run": {"evaluations": 50, "device": "cpu", "workers": 2},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert cli.main(["plan", "--config", str(tmp_path / "c.yaml")]) == 0
    by_file = capsys.readouterr().out
    assert "4 epochs" in by_file
    assert "50 candidates in" in by_file
    assert (
        cli.main(["plan", "--config", str(tmp_path / "c.yaml"), "--evaluations", "70", "--inherit"])
        == 0
    )
    by_flags = capsys.readouterr().out
    assert "70 candidates in" in by_flags
    assert "finalists" in by_flags
    assert "finalists" not in by_file
    assert all(len(line) <= 80 for line in by_flags.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_plan_is_made_by_real_workers_and_nothing_is_left_but_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NANONAS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(plan.forecast, "__defaults__", (0.1,))
    flags = (
        "--data digits --train-images 100 --space nano --channels 2 --length 4 --device cpu "
        "--workers 1 --epochs 2"
    )
    more = (
        "--evaluations 20 --strategy nsga2 --objectives accuracy latency memory --halving 2 "
        "--inherit"
    )
    assert cli.main(["plan", *flags.split(), *more.split()]) == 0
    words = capsys.readouterr().out
    assert "20 candidates in" in words
    assert "with 1 worker, measured" in words
    assert contents(tmp_path / "here") == set()
    assert {path.name for path in tmp_path.iterdir()} == {"here", "cache"}


def test_what_is_timed_is_what_a_trial_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one worker in this process; every figure that is not a time has an oracle."""
    made = config(max_memory_mb=100.0, train_images=100)
    [trial, *_] = Setup(resolved(made)).trials(Path("nowhere") / "weights")
    threads = torch.get_num_threads()
    genome = (0, 1, 2, 3, 4, 5)
    candidate = Candidate(0, Proposal(genome, budget=Budget(1)), "key")
    found = timing.Timing(trial, 0.05)(candidate, lambda: True)
    torch.set_num_threads(threads)
    assert found.metrics.keys() == {f.name for f in fields(Timed)} - {"network"}
    module = build_module(trial.space.decode(genome))
    assert found.metrics["memory"] == peak_memory(module)
    assert found.metrics["step_memory"] == training_memory(module, 100, "float32")
    assert all(value > 0 for value in found.metrics.values())
    assert not Path("nowhere").exists()


class Untrainable:
    """A trial whose networks cannot be trained."""

    space = make_space(SpaceOptions("nano"), (1, 8, 8), 10)
    threads = 1


def test_a_network_that_cannot_be_trained_here_is_one_sentence() -> None:
    with pytest.raises(
        RunError,
        match=r"parameters cannot be trained here: AttributeError: .*; a smaller --batch-size",
    ):
        timing.timed([Untrainable()], [(0,) * 6], 0.1)  # type: ignore[list-item]


# --- what cannot be searched cannot be planned, either --------------------------------------------


@pytest.mark.parametrize("verb", ["search", "plan"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "--halving 2 --rung-image-size 9",
            (
                "the first rung's images must be 8 pixels a side at most, as large as they are, "
                "but "
                "rung_image_size is 9"
            ),
        ),
        (
            "--halving 3 --epochs 1",
            "successive halving needs two rungs of different length, but 3 rungs up to epochs = 1 "
            "with halving = 3 "
            "make one; raise --epochs or --rungs",
        ),
        (
            "--halving 1",
            (
                "the command line: search.halving is 1, but one of 2 or more is promoted; 0 is for "
                "none (--halving)"
            ),
        ),
        (
            "--inherit --strategy random",
            "the command line: search.inherit is on (--inherit), but the strategy 'random' has no "
            "children that could "
            "inherit; take another --strategy",
        ),
        (
            "--rung-share 0",
            "the command line: search.rung_share is 0.0, but must be greater than 0 (--rung-share)",
        ),
        (
            "--inherit --finalists -2",
            (
                "the command line: search.finalists is -2, but must be greater than or equal to 0 "
                "(--finalists)"
            ),
        ),
        (
            "--strategy nsga2 --objectives accuracy speed",
            "the command line: search.objectives has 'speed', which is unknown (--objectives); "
            "known are accuracy, "
            "params, macs, latency, memory, flash, ram",
        ),
        (
            "--time soon",
            "--time is 'soon', but must be a duration above 0 such as 90s, 30m or 1h30m",
        ),
        ("--train-images 3", "train_images must be 10, one for each class, or more, but is 3"),
    ],
)
def test_what_cannot_work_is_one_sentence_before_anything_is_begun(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    flags: str,
    words: str,
) -> None:
    monkeypatch.setattr(plan, "timed", None)  # no network is timed
    monkeypatch.setattr(session_module, "WorkerPool", None)
    command = [
        verb,
        "--data",
        "digits",
        "--space",
        "nano",
        "--device",
        "cpu",
        "--out",
        str(tmp_path),
        "--name",
        "run",
    ]
    assert cli.main([*command, *flags.split()]) == 2
    assert capsys.readouterr().err == f"nanonas: {words}\n"
    assert list(tmp_path.iterdir()) == []
