"""Was the search worth its time? Others with the run's limits and its time."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys.session import InProcess

from nanonas import cli
from nanonas.analysis.equal_time import SEARCH, EqualTime, from_values
from nanonas.config.files import configure, read_yaml
from nanonas.config.schema import LimitOptions, SpaceOptions, StrategyOptions
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError
from nanonas.runs.folder import RunFolder, search_seconds, total_seconds
from nanonas.runs.reading import read_record
from nanonas.runs.source import fitting, open_source
from nanonas.session import session as session_module
from nanonas.session import verdict as verdict_module
from nanonas.session import winner
from nanonas.session.listener import Listener
from nanonas.session.start import begin
from nanonas.session.verdict import Verdict, verdict_of
from nanonas.text import duration

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")

SECONDS = 21.0  # enough on a busy machine; an epoch counts as one second, and takes some hundredths


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "WorkerPool", InProcess)
        yield


def searched(out: Path, name: str = "run", **more: Any) -> RunFolder:
    settings: dict[str, Any] = {
        "data": "digits",
        "train_images": 60,
        "max_params": 3000,
        "epochs": 1,
        "evaluations": 2,
        "population": 2,
        "workers": 1,
        "device": "cpu",
        "time": f"{SECONDS}s",
        "seed": 3,
    }
    return begin(configure(**{**settings, "out": out, "name": name, **more})).folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on digits of at most 3,000 parameters; nobody may change it."""
    return searched(tmp_path_factory.mktemp("outputs"))


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))


def verdict(run: RunFolder, seconds: float | None = None, **more: Any) -> Verdict:
    return verdict_of(fitting(open_source(run.path)), seconds, **more)


def opened(run: RunFolder) -> list[str]:
    """What the test set was opened for."""
    with RunStore.read(run.store) as store:
        events = store.events()
    return [str(event.details["for"]) for event in events if event.kind == "test set opened"]


def compare(run: RunFolder, *words: str) -> int:
    return cli.main(["compare", str(run.path), "--equal-time", *words])


def written(run: RunFolder) -> EqualTime:
    read = from_values(json.loads((run.path / "compare" / "equal-time.json").read_text()))
    assert read is not None
    return read


def test_the_run_meets_others_of_its_size_and_time(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ("--only", "search", "plain", "random-network", "--seeds", "1")
    assert compare(run, *only) == 0
    said = capsys.readouterr().out
    result = json.loads((run.final / "result.json").read_text())
    one = written(run)
    assert (one.seconds, one.limits) == (SECONDS, "at most 3,000 parameters")
    rows = {row.contender: row for row in one.rows}
    assert list(rows) == ["search", "plain", "random-network"]
    assert rows["search"].test_accuracy == result["test_accuracy"]  # as it stands
    assert rows["search"].epochs == result["epochs"]
    for row in rows.values():
        assert 1500 < row.params <= 3000
        assert 0 < row.seconds < 2 * SECONDS
    # an epoch a second, and two seconds for the test
    for name in ("plain", "random-network"):
        assert rows[name].epochs == pytest.approx(0.95 * (SECONDS - 2.1), abs=0.5)
    assert one.sentence.split(":")[0] in " ".join(said.split()).replace("One seed", "one seed")
    assert opened(run) == [
        "the winner",
        "compare at equal time: plain, seed 3",
        "compare at equal time: random-network, seed 3",
    ]

    before = (run.path / "compare" / "equal-time.json").read_text()
    assert compare(run, *only) == 0  # what is trained is only read
    assert (run.path / "compare" / "equal-time.json").read_text() == before
    assert len(opened(run)) == 3
    assert compare(run, "--only", "resnet", "--seeds", "1") == 0  # and joins the table
    assert [row.contender for row in written(run).rows] == [
        "search",
        "plain",
        "resnet",
        "random-network",
    ]
    record = read_record(run)
    assert record.equal_time == written(run)


def test_another_seed_is_another_run_of_the_same_configuration(run: RunFolder) -> None:
    (one,) = verdict(run).trained([SEARCH], [4])
    place = run.path / "compare" / "equal-time" / f"{SECONDS:g}s" / "search-seed4"
    ours, theirs = (read_yaml(folder / "config.yaml") for folder in (run.path, place))
    assert theirs.search.seed == 4
    assert vars(theirs.search) | {"seed": 3} == vars(ours.search)
    assert theirs.run.time == ours.run.time == SECONDS
    assert theirs.run.evaluations == 2
    final = json.loads((place / "final" / "result.json").read_text())
    assert (one.test_accuracy, one.params) == (final["test_accuracy"], final["params"])
    assert opened(run)[-1] == "compare at equal time: search, seed 4"


def test_a_random_search_has_the_plan_and_nothing_that_learns(run: RunFolder) -> None:
    (one,) = verdict(run).trained(["random-search"], [3])
    place = run.path / "compare" / "equal-time" / f"{SECONDS:g}s" / "random-search-seed3"
    ours, theirs = (read_yaml(folder / "config.yaml") for folder in (run.path, place))
    assert theirs.search.strategy.strategy == "random"
    assert not theirs.search.space.ancestors
    assert theirs.search.limits == ours.search.limits
    assert theirs.search.training == ours.search.training
    assert theirs.run.final_share == ours.run.final_share
    assert one.params <= 3000


def test_an_interrupted_training_has_what_is_left_of_its_time(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = verdict_module._Clock.epoch

    def stopped(self: Any, *words: Any) -> None:
        clock(self, *words)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verdict_module._Clock, "epoch", stopped)
        with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
            list(verdict(run).trained(["plain"], [3]))
    place = run.path / "compare" / "equal-time" / f"{SECONDS:g}s" / "plain-seed3"
    assert 0 < json.loads((place / "clock.json").read_text()) < SECONDS
    (place / "clock.json").write_text("1.5")

    left: list[float] = []
    real: Callable[..., Any] = winner.run_training

    def noted(training: Any, label: str, listener: Any, epochs: Any, deadline: float) -> Any:
        left.append(deadline - time.monotonic())
        return real(training, label, listener, epochs, deadline)

    monkeypatch.setattr(verdict_module, "run_training", noted)
    (one,) = verdict(run).trained(["plain"], [3])
    assert left == [pytest.approx(SECONDS - 1.5, abs=1.0)]
    assert one.epochs == pytest.approx(0.95 * (SECONDS - 2.1), abs=0.5)  # the cycle that was begun
    assert one.seconds > 1.5
    assert len(opened(run)) == 2  # the interrupted one had not got there


class Interrupts(Listener):
    """Ctrl-C after the first candidate."""

    def evaluated(self, progress: Any, front: Any) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_search_goes_on(run: RunFolder) -> None:
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        list(verdict(run, listener=Interrupts).trained([SEARCH], [4]))
    place = RunFolder(run.path / "compare" / "equal-time" / f"{SECONDS:g}s" / "search-seed4")
    with RunStore.read(place.store) as store:
        assert len(store.evaluations()) == 1
    assert verdict(run).missing([SEARCH], [3, 4]) == [(SEARCH, 4)]
    (one,) = verdict(run).trained([SEARCH], [4])
    with RunStore.read(place.store) as store:
        assert len(store.evaluations()) == 2
    assert one.seconds == pytest.approx(total_seconds(place, 0.0))
    assert verdict(run).missing([SEARCH], [3, 4]) == []


def test_another_time_is_planned_anew_for_the_search_too(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def noted(config: Any, listener: Any) -> None:
        begun.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(verdict_module, "begin", noted)
    assert compare(run, "--time", "8s", "--only", "search") == 130
    (config,) = begun
    assert (config.run.time, config.search.seed) == (8.0, 3)
    assert config.run.out == run.path / "compare" / "equal-time" / "8s"
    assert not verdict(run, 8.0).so_far().trained  # the run had another time


def test_the_plan_of_a_time_is_no_plan_of_another(run: RunFolder) -> None:
    config = (run.path / "config.yaml").read_text()
    config = config.replace("  epochs: 1\n", "  epochs: null\n")
    config = config.replace("candidate_seconds: null", "candidate_seconds: 0.5")
    config = config.replace("final_share: null", "final_share: 0.8")
    config = config.replace("finalists: null", "finalists: 4")
    config = config.replace("finalist_seconds: null", "finalist_seconds: 9.0")
    (run.path / "config.yaml").write_text(config.replace("evaluations: 2", "evaluations: 1"))
    same, other = (verdict(run, seconds)._search(SEARCH, 4) for seconds in (None, 60.0))
    assert (same.search.training.candidate_seconds, same.run.final_share) == (0.5, 0.8)
    assert same.run.evaluations == 1
    finals = [
        (c.search.fidelity.finalists, c.search.fidelity.finalist_seconds) for c in (same, other)
    ]
    assert finals == [(4, 9.0), (None, None)]
    assert other.search.training.candidate_seconds is None
    assert (other.run.final_share, other.run.evaluations) == (None, None)


def test_a_run_without_a_time_had_what_it_took(tmp_path: Path) -> None:
    run = searched(tmp_path, time=None, final_epochs=2)
    one = verdict(run)
    took = total_seconds(run, 0.0)
    assert one.seconds == pytest.approx(took, abs=0.06)
    assert one.whole is not None
    config = one._search(SEARCH, 4)
    assert config.run.time == pytest.approx(one.seconds)
    final = json.loads((run.final / "result.json").read_text())
    share = final["seconds"] / (final["seconds"] + search_seconds(run))
    assert config.run.final_share == pytest.approx(share)
    assert (config.search.training.epochs, config.run.evaluations) == (1, 2)
    assert config.search.fidelity.finalists == 0  # it had none, so a time is no reason to have some


def test_the_time_of_a_run_is_from_its_begin_to_its_test_without_pauses(tmp_path: Path) -> None:
    """The clock of each event is set by hand."""
    run = searched(tmp_path, evaluations=1)
    with sqlite3.connect(run.store) as db:
        db.execute("UPDATE event SET clock = 0, checksum = NULL")
        db.execute("UPDATE evaluation SET clock = 4, checksum = NULL")
        for kind, clock in (("started", 1), ("ended", 10), ("test set opened", 30)):
            db.execute("UPDATE event SET clock = ? WHERE kind = ?", [clock, kind])
    db.close()
    assert search_seconds(run) == 9
    assert total_seconds(run, 5.0) == 30
    with RunStore.resume(run.store) as store:
        store.event("request", {"id": "a", "what": "pause", "first": 1})
        store.event("request", {"id": "b", "what": "resume", "first": 1})
        store.event("test set opened", {"for": "compare: found-seed0"})
        store.event("test set opened", {"for": "export"})
        store.event("test set opened", {"for": "front, #3"})
    with sqlite3.connect(run.store) as db:
        kinds = db.execute("SELECT seq FROM event WHERE kind = 'request' ORDER BY seq").fetchall()
        for (seq,), clock in zip(kinds, (5, 8), strict=True):
            db.execute("UPDATE event SET clock = ?, checksum = NULL WHERE seq = ?", [clock, seq])
    db.close()
    assert search_seconds(run) == 6
    assert total_seconds(run, 5.0) == 27
    with RunStore.resume(run.store) as store:
        store.event("test set opened", {"for": "train, 9 epochs, seed 0"})
    assert total_seconds(run, 5.0) == 6 + 5  # another training than the run's own


def within(run: RunFolder, **limits: Any) -> Verdict:
    """The verdict of a run that had other limits."""
    one = verdict(run)
    search = replace(one.config.search, limits=LimitOptions(**limits))
    return replace(one, config=replace(one.config, search=search))


def test_who_exceeds_the_limits_takes_no_part(kept: RunFolder) -> None:
    assert within(kept).so_far().limits == ""
    one = within(kept, max_macs=1000)
    assert one.contenders.hand_made == {}  # the smallest has 1,384
    with pytest.raises(
        ConfigError,
        match=r"--only has 'plain', which exceeds the limits: it has .* 1,384 MACs, where at most "
        "1,000 MACs are allowed; leave it out",
    ):
        one.names(["plain"])
    assert any(note.startswith("plain takes no part: it exceeds") for note in one.so_far().notes)


def test_who_is_too_slow_takes_no_part(kept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = within(kept, max_params=3000).contenders.hand_made["convnext"].key
    measured = {"latency": 1.0}
    monkeypatch.setattr(
        "nanonas.training.trial.measure",
        lambda network, *more: {"latency": 9.0} if network.key == slow else measured,
    )
    one = within(kept, max_params=3000, max_latency_ms=5)
    assert one.so_far().limits == "at most 3,000 parameters, at most 5 ms an image"
    assert "convnext" not in one.contenders.hand_made
    assert "plain" in one.contenders.hand_made
    with pytest.raises(ConfigError, match=r"the latency of 9 ms is above the limit of 5 ms"):
        one.names(["convnext"])


def test_equal_networks_take_part_once(kept: RunFolder) -> None:
    one = within(kept, max_params=300)  # so small, several of them have no block left
    keys = [network.key for network in one.contenders.hand_made.values()]
    assert len(keys) == len(set(keys)) < 9
    notes = one.so_far().notes
    assert sum(" takes no part: it is the same network as " in note for note in notes) == 9 - len(
        keys
    )


def test_resnet18_takes_part_where_it_is_asked_for(kept: RunFolder) -> None:
    one = verdict(kept)
    everybody = one.names()
    assert everybody[0] == "search"
    assert everybody[-2:] == ["random-network", "random-search"]
    assert "resnet18" not in everybody
    assert one.names(["plain"], resnet18=True) == ["plain", "resnet18"]
    assert one.names(["resnet18"]) == ["resnet18"]
    assert one.contenders.network("resnet18", 0).params > 10_000_000


def test_another_seed_is_another_random_network(kept: RunFolder) -> None:
    one = verdict(kept)
    keys = [one.contenders.network("random-network", seed).key for seed in (3, 4, 3)]
    assert keys[0] == keys[2] != keys[1]


def test_who_meets_a_search_for_trade_offs_fills_the_limits(kept: RunFolder) -> None:
    one = verdict(kept)
    options = StrategyOptions(strategy="nsga2", objectives=("accuracy", "params"))
    search = replace(one.config.search, strategy=options)
    one = replace(one, config=replace(one.config, search=search))
    others = [
        *one.contenders.hand_made.values(),
        *(one.contenders.network("random-network", n) for n in range(5)),
    ]
    assert all(1500 < network.params <= 3000 for network in others)
    assert one._search("random-search", 3).search.strategy.objectives == ()


def test_a_space_without_hand_made_networks_has_random_ones(kept: RunFolder) -> None:
    one = verdict(kept)
    space = SpaceOptions(space="nano", channels=2, length=2)
    search = replace(one.config.search, space=space, limits=LimitOptions())
    one = replace(one, config=replace(one.config, search=search))
    assert one.names() == ["search", "random-network", "random-search"]


def test_a_run_that_took_longer_than_its_time_says_so(run: RunFolder) -> None:
    one = verdict(run)
    assert one.whole is not None
    longer = replace(one, whole=replace(one.whole, seconds=3 * SECONDS))
    (note,) = longer.so_far().notes
    took, had = duration(3 * SECONDS), duration(SECONDS)
    assert note.startswith(f"the run itself took {took}, more than the {had} of the others")


# --- what cannot be -------------------------------------------------------------------------------


def complaint(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert cli.main([str(word) for word in ("compare", *words)]) == 2
    said = capsys.readouterr().err.splitlines()
    return said[-1].removeprefix("nanonas: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--equal-time --seeds 0", "--seeds must be 1 or more, but is 0"),
        ("--equal-time --time soon", "--time is 'soon', but must be a duration above 0"),
        ("--equal-time --epochs 20", "so there is no --epochs; leave one of the two out"),
        ("--equal-time --random 0", "so there is no --random; leave one of the two out"),
        ("--equal-time --time-per-network 1m", "so there is no --time-per-network; leave one of"),
        ("--equal-time --data digits", "so there is no --data; leave one of the two out"),
        ("--only plain", "--only belongs to --equal-time; give that, too, or leave --only out"),
        ("--time 1m", "--time belongs to --equal-time; give that, too, or leave --time out"),
        ("--resnet18", "--resnet18 belongs to --equal-time; give that, too, or leave --resnet18"),
        (
            "--equal-time --only resnt",
            "--only has 'resnt', which is no contender; did you mean '",
        ),
        ("--equal-time --only 7", "is no contender; known are search, residual, plain"),
    ],
)
def test_a_wrong_word_is_one_sentence(
    kept: RunFolder, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert said in complaint(capsys, kept.path, *words.split())
    assert not (kept.path / "compare").exists()


def test_what_is_no_run_is_one_sentence(
    kept: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "does not exist; begin a run with" in complaint(capsys, tmp_path / "no", "--equal-time")
    said = complaint(capsys, kept.best_genome, "--equal-time")
    assert "comes from a genome's file, but --equal-time compares a run" in said


def test_a_run_without_a_winner_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = searched(tmp_path, final_epochs=0)
    said = complaint(capsys, run.path, "--equal-time")
    assert "was told to train no winner (--final-epochs, --final-share)" in said


def test_a_run_that_is_not_at_its_end_is_one_sentence(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.final)
    said = complaint(capsys, run.path, "--equal-time", "--only", "search")
    assert "is not at its end, so there is nothing to compare; `nanonas resume" in said
    timeless = (run.path / "config.yaml").read_text().replace(f"time: {SECONDS}s", "time: null")
    (run.path / "config.yaml").write_text(timeless)
    said = complaint(capsys, run.path, "--equal-time", "--only", "search")
    assert "is not at its end, so how long it takes is not known; or give --time" in said
