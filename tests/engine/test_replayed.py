"""A run is derived again from its store, and what was changed in it is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys.controls import WIDE, WISHES, run
from toys.engine import BUDGET, STRATEGIES, Shuffled
from toys.screened import NANO, screened, train
from toys.storage import by_hand

from nanonas.core import Strategy
from nanonas.engine.breeding import Breeding
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.replay import replayed
from nanonas.engine.storage.store import RunStore
from nanonas.networks.limits import Limits
from nanonas.spaces.base import Bans, Space


@pytest.fixture(params=STRATEGIES)
def make(request: pytest.FixtureRequest) -> Callable[[], Strategy]:
    return STRATEGIES[request.param]


def differences(path: Path, strategy: Strategy, space: Space = WIDE) -> list[str]:
    breeding = Breeding(space, strategy, Limits(), Bans(space), BUDGET, BUDGET, seed=7)
    with RunStore.read(path) as store:
        return [str(difference) for difference in replayed(store, breeding)]


@pytest.fixture
def path(tmp_path: Path, make: Callable[[], Strategy]) -> Path:
    """A run on three workers, with bans and planted genomes."""
    run(tmp_path / "study.db", make(), Shuffled(3, seed=1), WISHES)
    return tmp_path / "study.db"


def edit(path: Path, number: int, **proposal: Any) -> None:
    """Changes what a store says of a candidate's proposal."""
    with by_hand(path) as db:
        query = "SELECT proposal FROM candidate WHERE number = ?"
        stored = json.loads(db.execute(query, [number]).fetchone()[0])
        changed = json.dumps(stored | proposal)
        db.execute("UPDATE candidate SET proposal = ? WHERE number = ?", [changed, number])


def test_a_run_with_requests_is_derived_again(path: Path, make: Callable[[], Strategy]) -> None:
    assert differences(path, make()) == []


def test_another_seed_or_strategy_comes_to_other_candidates(path: Path) -> None:
    other = Breeding(WIDE, STRATEGIES["random"](), Limits(), Bans(WIDE), BUDGET, BUDGET, seed=8)
    with RunStore.read(path) as store:
        assert len(list(replayed(store, other))) > 10


@pytest.mark.parametrize(
    ("proposal", "said"),
    [
        ({"genome": [1, 1, 1, 1]}, "genome is [1, 1, 1, 1], but comes to ["),
        ({"parents": [2, 3, 4]}, "parents is [2, 3, 4], but comes to ["),
        ({"planted": True}, "planted is True, but comes to False"),
    ],
)
def test_a_changed_candidate_is_found(
    path: Path, make: Callable[[], Strategy], proposal: dict[str, Any], said: str
) -> None:
    edit(path, 23, **proposal)
    (found,) = differences(path, make())
    assert found.startswith("candidate #23: ")
    assert said in found


def test_a_candidate_that_was_told_too_little_is_found(
    path: Path, make: Callable[[], Strategy]
) -> None:
    with by_hand(path) as db:
        db.execute("UPDATE candidate SET asked_after = asked_after + 1 WHERE number = 23")
    (found,) = differences(path, make())
    assert "asked_after is" in found


def test_a_plant_that_never_was_is_found(tmp_path: Path) -> None:
    run(tmp_path / "study.db", STRATEGIES["aging"](), None, WISHES)
    with by_hand(tmp_path / "study.db") as db:
        db.execute('DELETE FROM event WHERE details LIKE \'%"what": "plant"%\'')
    found = differences(tmp_path / "study.db", STRATEGIES["aging"]())
    assert [one.partition(":")[0] for one in found][:2] == ["candidate #7", "candidate #8"]
    assert "planted is True, but comes to False" in found[0]


def test_what_follows_a_lost_evaluation_is_not_guessed(tmp_path: Path) -> None:
    run(tmp_path / "study.db", STRATEGIES["aging"](), None, WISHES)
    with by_hand(tmp_path / "study.db") as db:
        db.execute("DELETE FROM evaluation WHERE number = 10")
    (found,) = differences(tmp_path / "study.db", STRATEGIES["aging"]())
    assert "its strategy needs #10, which has no evaluation" in found


def test_predictions_are_compared_but_for_rounding(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    run(path, screened(), SerialEvaluator(train), {}, space=NANO)
    assert differences(path, screened(), NANO) == []
    with RunStore.read(path) as store:
        predicted = [c for c in store.candidates() if c.proposal.predicted is not None][-1]
    assert predicted.proposal.predicted is not None
    was = vars(predicted.proposal.predicted)
    edit(path, predicted.number, predicted={**was, "mean": was["mean"] * (1 + 1e-9)})
    assert differences(path, screened(), NANO) == []
    edit(path, predicted.number, predicted={**was, "mean": was["mean"] * 1.01})
    (found,) = differences(path, screened(), NANO)
    assert found.startswith(f"candidate #{predicted.number}: the prediction is ")
