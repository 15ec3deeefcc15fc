"""Whole runs with all that makes candidates cheaper: inherited weights, rungs of
shrunk images.

Most of them are measured in this process, in the order in which workers of different speed would be
done; one has real workers, which are killed. The oracle is the run of one worker that nothing
interrupts.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from toys.commands import killed

import nanonas
from nanonas import cli
from nanonas.config.files import read_yaml
from nanonas.core import Candidate, Evaluation, Measure, State
from nanonas.engine.evaluators.attempt import attempt
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.runs.folder import RunFolder, search_seconds
from nanonas.runs.genome import read_genome
from nanonas.runs.models import best_module
from nanonas.session import session as session_module
from nanonas.session.finalists import accuracies, finalists
from nanonas.session.replay import Replay
from nanonas.session.setup import Setup
from nanonas.training.pictures import pictures
from nanonas.training.train import accuracy
from nanonas.training.weights import read_weights

SMALL = (
    "--data digits --image-size 16 --train-images 60 --space nano --channels 2 --length 3 "
    "--population 4 --lag 3 "
    "--stop-epoch 0 --batch-size 30 --precision float32 --device cpu --keep front "
    "--final-epochs 0"
)
EVERYTHING = (
    "--inherit --inherit-audit 0.5 --finalists 2 --halving 2 --rungs 3 --rung-image-size 8 "
    "--rung-share 0.5 "
    "--epochs 4"
)
STRATEGIES = {
    "evolution": "--strategy evolution",
    "aging": "--strategy aging",
    "nsga2": "--strategy nsga2 --objectives accuracy params memory",
    "screened": "--strategy screened --screens evolution --predictor gaussian",
}
TOTAL = 32


class Pool:
    """A `WorkerPool` in this process: which running candidate is done first is drawn."""

    slots = 1
    seed = 0
    cut_after = 10**9  # evaluations, of all pools: then the time is up
    done = 0

    def __init__(self, measures: Sequence[Measure], **options: object) -> None:
        self.measure = measures[0]
        self.rng = np.random.default_rng(self.seed)
        self.queue: list[Candidate] = []

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        self.queue.append(candidate)

    def result(self, timeout: float | None = None) -> Evaluation | None:
        candidate = self.queue.pop(int(self.rng.integers(min(self.slots, len(self.queue)))))
        type(self).done += 1
        return attempt(self.measure, candidate, lambda: self.done <= self.cut_after)

    def close(self) -> None:
        self.queue.clear()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Replaces the workers; how many there seem to be, and when their time is up, is to be said."""

    def work(**how: int) -> None:
        monkeypatch.setattr(session_module, "WorkerPool", type("Pool", (Pool,), how))

    threads = torch.get_num_threads()
    work()
    yield work
    torch.set_num_threads(threads)


def search(out: Path, name: str, more: str) -> Path:
    assert (
        cli.main(["search", *SMALL.split(), "--out", str(out), "--name", name, *more.split()]) == 0
    )
    return out / name


def everything(out: Path, name: str, strategy: str, total: int = TOTAL) -> Path:
    return search(out, name, f"{EVERYTHING} {STRATEGIES[strategy]} --evaluations {total}")


def content(run: Path) -> list[object]:
    """What two equal runs have in common: everything but times and the order of arrival."""
    with RunStore.read(run / "study.db") as store:
        latest = store.latest()
        told = [replace(latest[number], seconds=0.0) for number in sorted(latest)]
        from_scratch = accuracies(store)
        best = read_genome(run / "best_genome.json")
        return [
            *store.candidates(),
            *told,
            best.genome,
            best.known,
            from_scratch[best.known["candidate"]],
        ]


def weights(run: Path) -> dict[str, object]:
    """By number: whose they are, and every tensor."""
    found: dict[str, object] = {}
    for path in (run / "weights").iterdir():
        tensors, about = read_weights(path)
        found[path.stem] = about, {name: tensor.tolist() for name, tensor in tensors.items()}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a strategy by one worker, without an interruption. Tests must not change it."""
    made: dict[str, Path] = {}

    def run(strategy: str) -> Path:
        if strategy not in made:
            made[strategy] = everything(tmp_path_factory.mktemp("outputs"), "whole", strategy)
        return made[strategy]

    return run


# --- the same run, however it was run -------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_workers_come_to_the_same_run(
    tmp_path: Path, whole: Callable[[str], Path], here: Callable[..., None], strategy: str
) -> None:
    one = whole(strategy)
    for seed in range(2):
        here(slots=2, seed=seed)
        two = everything(tmp_path, f"two-{seed}", strategy)
        assert content(two) == content(one)
        assert weights(two) == weights(one)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("cut_after", [9, 17])
def test_what_a_deadline_cut_is_trained_again_to_the_same_end(
    tmp_path: Path,
    whole: Callable[[str], Path],
    here: Callable[..., None],
    strategy: str,
    cut_after: int,
) -> None:
    here(slots=2, cut_after=cut_after)
    run = everything(tmp_path, "cut", strategy)
    with RunStore.read(run / "study.db") as store:
        states = [evaluation.state for evaluation in store.evaluations()]
        assert 1 <= states.count(State.CUT) <= 2
        assert len(states) < TOTAL
        assert not accuracies(store)  # the finalists were cut, too
    here()
    assert cli.main(["resume", str(run)]) == 0
    assert content(run) == content(whole(strategy))
    assert weights(run) == weights(whole(strategy))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills like that here")
def test_two_real_workers_killed_and_gone_on_with_come_to_the_same_run(
    tmp_path: Path, whole: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SMALL.split(), *EVERYTHING.split(), *STRATEGIES["aging"].split()]
    run = tmp_path / "killed"
    before, said = killed(
        run, [*arguments, "--evaluations", str(TOTAL), "--workers", "2"], after=14
    )
    assert before >= 14, said
    monkeypatch.undo()  # real workers from here on
    assert cli.main(["resume", str(run), "--workers", "2"]) == 0
    assert content(run) == content(whole("aging"))
    assert weights(run) == weights(whole("aging"))


# --- what is in it --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_everything_happens_in_so_small_a_run(whole: Callable[[str], Path], strategy: str) -> None:
    with RunStore.read(whole(strategy) / "study.db") as store:
        told = store.told()
    assert len(told) == TOTAL
    by_number = {one.number: one.candidate for one in told}
    heirs = [one for one in told if one.candidate.proposal.inherits]
    promoted = [one for one in told if one.candidate.proposal.resumes is not None]
    assert len(heirs) > 4
    assert all(one.evaluation.metrics["inherited_tensors"] > 0 for one in [*heirs, *promoted])
    twins = [
        one.candidate
        for one in told
        if one.candidate.proposal.from_scratch and len(one.candidate.proposal.parents) == 1
    ]
    assert twins
    for twin in twins:
        assert by_number[twin.proposal.parents[0]].proposal.inherits
        assert by_number[twin.proposal.parents[0]].key == twin.key
    budgets = {one.candidate.proposal.budget for one in promoted}
    sizes = {(b.begin, b.epochs, b.image_size) for b in budgets if b is not None}
    assert sizes == {(1, 2, 11), (2, 4, None)}
    for one in promoted:
        candidate, evaluation = one.candidate, one.evaluation
        budget, resumes = candidate.proposal.budget, candidate.proposal.resumes
        assert budget is not None
        assert resumes is not None
        assert len(evaluation.curve) == budget.epochs - budget.begin
        assert by_number[resumes].key == candidate.key
        assert evaluation.metrics["inherited_share"] == 1.0
        assert one.comparable == (budget.image_size is None)
    assert all(one.evaluation.reason is None for one in told)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_that_keeps_what_it_needs_is_the_one_that_keeps_all(
    tmp_path: Path, whole: Callable[[str], Path], strategy: str
) -> None:
    kept = search(
        tmp_path,
        "kept",
        f"{EVERYTHING} {STRATEGIES[strategy]} --evaluations {TOTAL} --keep all",
    )
    assert content(kept) == content(whole(strategy))
    all_of_them, few = weights(kept), weights(whole(strategy))
    assert len(few) < len(all_of_them) == TOTAL
    assert few.items() <= all_of_them.items()
    assert [*Replay(RunFolder(whole(strategy))).files()] == []


@pytest.mark.parametrize(
    ("flags", "stay"),
    # the best; with it the two that live, and one that was not told; all but who was promoted
    [("", 1), ("--inherit", 4), ("--halving 2 --rungs 2", 7)],
)
def test_inheritance_and_halving_are_reasons_to_keep_weights(
    tmp_path: Path, flags: str, stay: int
) -> None:
    few = "--strategy aging --population 2 --lag 1 --epochs 2 --evaluations 8 --finalists 0"
    run = search(tmp_path, "run", f"{few} {flags}")
    assert 1 <= len(weights(run)) <= stay
    assert (len(weights(run)) > 1) == bool(flags)


def test_the_time_of_finalists_is_the_searchs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed among its finalists, and is resumed, has so much less of --time."""
    now = [0.0]
    folder = RunFolder(tmp_path / "run")
    with RunStore.begin(folder.store, {}) as store:
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        kinds = ("started", "ended", "finalists", "finalists", "test set opened")
        for now[0], kind in zip((1000, 1005, 1007, 1009, 1030), kinds, strict=True):
            store.event(kind, {"number": 0, "accuracy": 0.5} if kind == "finalists" else {})
    assert search_seconds(folder) == 9.0


def test_the_front_has_nothing_that_was_measured_on_shrunk_images(
    whole: Callable[[str], Path],
) -> None:
    with RunStore.read(whole("nsga2") / "study.db") as store:
        told = {one.number: one for one in store.told()}
    members = [told[int(path.stem)] for path in (whole("nsga2") / "front").glob("*.json")]
    assert members
    assert all(member.comparable for member in members)
    assert any(one.judged and not one.comparable for one in told.values())


def test_the_best_is_the_best_finalist_and_its_module_is_the_one_from_scratch(
    whole: Callable[[str], Path],
) -> None:
    run = whole("evolution")
    with RunStore.read(run / "study.db") as store:
        from_scratch = accuracies(store)
        chosen = finalists(store.told(), 2)
    assert from_scratch.keys() == {one.number for one in chosen}
    best = read_genome(run / "best_genome.json")
    number = best.known["candidate"]
    assert best.known["accuracy"] == from_scratch[number] == max(from_scratch.values())
    assert best.known["weights"] == f"finalists/{number}.safetensors"
    assert {path.stem for path in (run / "finalists").iterdir()} == {
        str(number) for number in from_scratch
    }
    valid = pictures(Setup(read_yaml(run / "config.yaml")).data, "cpu")[1]
    for module in (best_module(RunFolder(run)), nanonas.load(run)):
        assert accuracy(module, valid) == best.known["accuracy"]


def test_show_counts_the_epochs_of_all_that_went_before(
    whole: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = whole("aging")
    assert cli.main(["show", str(run), "--top", str(TOTAL)]) == 0
    said = capsys.readouterr().out
    rows: dict[int, list[str]] = {}
    for line in said.splitlines():
        words = line.split()
        if words and words[0].isdigit():  # further down they number the layers of the best
            rows.setdefault(int(words[0]), words)
    with RunStore.read(run / "study.db") as store:
        ranked = [told.evaluation for told in ranking(store.told())]
        candidates = store.candidates()
    for evaluation in ranked:
        budget = candidates[evaluation.number].proposal.budget
        assert budget is not None
        assert rows[evaluation.number][rows[evaluation.number].index("complete") + 1] == str(
            budget.epochs
        )


def test_finalists_of_an_earlier_session_are_not_trained_again(
    tmp_path: Path, here: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = search(
        tmp_path, "run", "--strategy aging --inherit --epochs 2 --evaluations 8 --finalists 9"
    )
    before = content(run)
    first = {path.name: path.stat().st_mtime_ns for path in (run / "finalists").iterdir()}
    assert first
    capsys.readouterr()
    for more in ([], ["--evaluations", "8"]):
        here(cut_after=-1)  # whatever is trained is cut
        assert cli.main(["resume", str(run), *more]) == 0
        assert content(run) == before
        assert {
            path.name: path.stat().st_mtime_ns for path in (run / "finalists").iterdir()
        } == first
    said = capsys.readouterr().out
    assert "from scratch" in said


@pytest.mark.parametrize("seed", [0, 1])  # an heir is the best, and one from scratch
def test_finalists_that_the_search_trained_from_scratch_keep_their_weights(
    tmp_path: Path, seed: int
) -> None:
    run = search(
        tmp_path,
        "run",
        f"--strategy aging --inherit --epochs 2 --evaluations 8 --finalists 9 "
        f"--keep all --seed {seed}",
    )
    with RunStore.read(run / "study.db") as store:
        told = store.told()
        heirs = {one.number for one in finalists(told, 9) if one.candidate.proposal.inherits}
        from_scratch = accuracies(store)
    assert {int(path.stem) for path in (run / "finalists").iterdir()} == heirs
    assert from_scratch.keys() > heirs
    best = read_genome(run / "best_genome.json")
    number, valid = (
        best.known["candidate"],
        pictures(Setup(read_yaml(run / "config.yaml")).data, "cpu")[1],
    )
    assert (
        best.known["weights"]
        == f"{'finalists' if number in heirs else 'weights'}/{number}.safetensors"
    )
    assert (
        accuracy(nanonas.load(run), valid) == best.known["accuracy"] == max(from_scratch.values())
    )


def test_without_finalists_the_best_is_that_of_the_search(tmp_path: Path) -> None:
    run = search(
        tmp_path, "run", "--strategy aging --inherit --epochs 2 --evaluations 8 --finalists 0"
    )
    with RunStore.read(run / "study.db") as store:
        best = ranking(store.told())[0].evaluation
    assert read_genome(run / "best_genome.json").known == {"candidate": best.number, **best.metrics}
    assert not (run / "finalists").exists()
    assert sum(p.numel() for p in nanonas.load(run).parameters()) == best.metrics["params"]


# --- runs of an earlier version -------------------------------------------------------------------

YOUNGER = {
    "search": [
        "max_latency_ms",
        "max_memory_mb",
        "halving",
        "rungs",
        "rung_share",
        "rung_image_size",
        "inherit",
        "inherit_epochs",
        "inherit_audit",
        "finalists",
    ],
    "proposal": ["resumes", "inherits"],
    "budget": ["begin", "share", "image_size"],
}


def begun_before(run: Path) -> None:
    """Makes the run as if it had been begun before there was any of this."""
    values: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    with closing(sqlite3.connect(run / "study.db")) as db, db:
        stored = json.loads(db.execute("SELECT config FROM run").fetchone()[0])
        for key in YOUNGER["search"]:
            del values["search"][key], stored["search"][key]
        db.execute("UPDATE run SET config = ?, checksum = NULL", [json.dumps(stored)])
        for number, text in db.execute("SELECT number, proposal FROM candidate").fetchall():
            proposal = json.loads(text)
            for key in YOUNGER["proposal"]:
                del proposal[key]
            for key in YOUNGER["budget"]:
                del proposal["budget"][key]
            db.execute(
                "UPDATE candidate SET proposal = ?, checksum = NULL WHERE number = ?",
                [json.dumps(proposal), number],
            )
    (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_of_an_earlier_version_goes_on_to_the_same_end(tmp_path: Path, strategy: str) -> None:
    flags = f"{STRATEGIES[strategy].replace(' memory', '')} --epochs 1"
    run = search(tmp_path, "run", f"{flags} --evaluations 7")
    begun_before(run)
    assert cli.main(["resume", str(run), "--evaluations", "12"]) == 0
    assert cli.main(["show", str(run)]) == 0
    through = search(tmp_path, "through", f"{flags} --evaluations 12")

    def told(path: Path) -> list[object]:
        with RunStore.read(path / "study.db") as store:
            return [
                *store.candidates(),
                *(replace(e, seconds=0.0) for e in store.latest().values()),
            ]

    assert told(run) == told(through)
    assert read_genome(run / "best_genome.json") == read_genome(through / "best_genome.json")
    assert weights(run) == weights(through)
    assert not (run / "finalists").exists()
