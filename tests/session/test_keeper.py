"""What is kept while a search goes on: brute force is the oracle of who stays."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nanonas.core import Candidate, Evaluation, Objective, Proposal, State, Told
from nanonas.engine.ranking import front_of, ranking
from nanonas.engine.storage.store import RunStore
from nanonas.files import weights_in
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.session.keeper import Keeper

BOTH = (Objective(), Objective("params", maximize=False))
STATES = (State.COMPLETE, State.COMPLETE, State.PRUNED, State.CUT, State.FAILED)
EVALUATED = st.tuples(
    st.integers(0, 9), st.sampled_from(STATES), st.integers(0, 5), st.integers(1, 4)
)


def describe(candidate: Candidate, known: Mapping[str, Any]) -> GenomeFile:
    named, options = {"candidate": candidate.number, **known}, {"channels": 3, "length": 4}
    genome = candidate.proposal.genome
    return GenomeFile("nano", genome, (1, 8, 8), ("a", "b"), options, "digits", named)


@given(
    st.lists(EVALUATED, max_size=15),
    st.integers(0, 15),
    st.integers(1, 3),
    st.booleans(),
    st.sets(st.integers(0, 9), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_who_stays_is_who_is_best_however_the_search_was_interrupted(
    evaluated: list[tuple[int, State, int, int]],
    interrupted: int,
    number: int,
    both: bool,
    needed: set[int],
) -> None:
    objectives = BOTH if both else ()
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        folder.weights.mkdir(parents=True)
        RunStore.begin(folder.store, {}, durable=False).close()
        heard: dict[int, Told] = {}
        keeper = Keeper(folder, describe, number, (), objectives)
        for place_of_it, (one, state, accuracy, params) in enumerate(evaluated):
            if place_of_it == interrupted:
                keeper = Keeper(folder, describe, number, heard.values(), objectives)
            metrics = {"params": float(params)}
            if state is not State.FAILED:
                metrics["accuracy"] = accuracy / 5
                (folder.weights / f"{one}.safetensors").touch()
            candidate = Candidate(one, Proposal((one % 5, 0, 0, 0)), f"key{one}")
            heard[one] = Told(candidate, Evaluation(one, state, metrics))
            keeper.hear(heard[one])
            keeper.prune(needed)
        ranks = ranking(heard.values())
        front = front_of(ranks, objectives) if objectives and ranks else []
        assert keeper.front == front
        uncut = [told for told in ranks if told.evaluation.state is not State.CUT]
        uncut_front = front_of(uncut, objectives) if objectives and uncut else []
        best = (*ranks[:number], *front, *uncut[:number], *uncut_front)
        kept = {told.number for told in best} | needed
        there = {int(path.stem) for path in folder.weights.iterdir()}
        # one that went has no weights, also where it would be among the best again
        assert there <= kept
        assert there >= needed.intersection(told.number for told in ranks)
        if all(state is not State.CUT for _, state, _, _ in evaluated):
            assert ranks[:1] == [told for told in ranks if told.number in there][:1]
        if ranks:
            assert read_genome(folder.best_genome).known["candidate"] == ranks[0].number


def test_a_candidate_that_was_cut_takes_nobodys_place(tmp_path: Path) -> None:
    """It is trained again, and may come to less."""
    folder = RunFolder(tmp_path / "run")
    folder.weights.mkdir(parents=True)
    RunStore.begin(folder.store, {}, durable=False).close()
    keeper = Keeper(folder, describe, 1)
    for number, state, accuracy in ((0, State.COMPLETE, 0.5), (1, State.CUT, 0.9)):
        weights_in(folder.weights, number).touch()
        candidate = Candidate(number, Proposal((number, 0, 0, 0)), f"key{number}")
        keeper.hear(Told(candidate, Evaluation(number, state, {"accuracy": accuracy})))
        keeper.prune()
    keeper.hear(Told(candidate, Evaluation(1, State.COMPLETE, {"accuracy": 0.3})))
    keeper.prune()
    assert [path.stem for path in folder.weights.iterdir()] == ["0"]


def test_nothing_goes_where_anything_may_be_needed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.weights.mkdir(parents=True)
    RunStore.begin(folder.store, {}, durable=False).close()
    for number, needed in ((1, None), (None, ())):
        keeper = Keeper(folder, describe, number)
        for one in range(3):
            weights_in(folder.weights, one).touch()
            candidate = Candidate(one, Proposal((one, 0, 0, 0)), f"key{one}")
            keeper.hear(Told(candidate, Evaluation(one, State.COMPLETE, {"accuracy": one / 3})))
            keeper.prune(needed)
        assert len(list(folder.weights.iterdir())) == 3
