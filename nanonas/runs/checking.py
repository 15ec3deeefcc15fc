"""A run's folder beside its store: whether they tell the same, without training anything."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanonas.config.files import renamed, to_values
from nanonas.config.keep import kept_number
from nanonas.config.parts import make_objectives
from nanonas.config.schema import Config
from nanonas.core import Candidate, Evaluation, Told
from nanonas.engine.ranking import front_of, ranking
from nanonas.engine.replay import Difference
from nanonas.engine.storage.events import FINALIST, RESUMED, TEST_SET_OPENED, Event
from nanonas.engine.storage.identity import changed_search
from nanonas.engine.storage.store import RunStore
from nanonas.errors import NanonasError
from nanonas.files import read_json, weights_in
from nanonas.runs.folder import RunFolder, read_config
from nanonas.runs.genome import GenomeFile, read_genome

_TRAINED = ("model.safetensors", "genome.json")  # what the winner's training leaves
_UNSAVED = "cannot be written"  # of the reason of an evaluation whose weights could not be saved


@dataclass(frozen=True)
class Stored:
    """What a run's store holds, read once.

    Attributes:
        arrived: every evaluation, in the order of arrival.
        clocks: when each of them arrived, in seconds by the run's own clock.
        told: the candidates that have an evaluation, with their latest, by number.
    """

    config: Mapping[str, Any]
    candidates: Sequence[Candidate]
    arrived: Sequence[Evaluation]
    clocks: Sequence[float]
    told: Sequence[Told]
    events: Sequence[Event]

    @classmethod
    def of(cls, store: RunStore) -> Stored:
        """All of a store. Raises `RunError` where it cannot be read, or a row of it is damaged."""
        store.require_unchanged()
        return cls(
            store.config,
            store.candidates(),
            store.evaluations(),
            store.arrival_clocks(),
            store.told(),
            store.events(),
        )


def differences(
    folder: RunFolder,
    stored: Stored,
    defaults: Mapping[str, Any],
    ignored: Collection[str],
    needed: Collection[int] | None = (),
) -> Iterator[Difference]:
    """What lies in a run's folder otherwise than its store says: the configuration, weights that
    are missing, damaged or another network's, genomes, and the result of the final training.

    Args:
        defaults, ignored: as `RunStore.resume` has them.
        needed: as of `expected_weights`.
    """
    try:
        config = read_config(folder)
    except NanonasError as error:
        yield Difference(folder.config.name, str(error))
        return
    for change in changed_search(stored.config, to_values(config), defaults, ignored):
        yield Difference(folder.config.name, f"the run was begun with {change}")
    yield from _weights(folder, stored, expected_weights(config, stored, needed))
    yield from _genomes(folder, stored)
    for place in (folder.final, *folder.finals_of_front.values()):
        yield from _final(folder, place, stored)


# --- weights --------------------------------------------------------------------------------------


def _weights(folder: RunFolder, stored: Stored, wanted: set[int]) -> Iterator[Difference]:
    if folder.weights.name in without_weights(folder, stored):
        wanted = set()
    for number in sorted(wanted):
        if not weights_in(folder.weights, number).exists():
            yield Difference(_name(folder, weights_in(folder.weights, number)), "is missing")
    for path in sorted([*folder.weights.glob("*"), *folder.finalists.glob("*")]):
        of_candidate = path.suffix == ".safetensors" and path.stem.isdigit()
        if of_candidate and (wrong := _wrong_weights(path, stored.candidates)):
            yield Difference(_name(folder, path), wrong)


def without_weights(folder: RunFolder, stored: Stored) -> list[str]:
    """The names of the folders whose weights are gone as a whole: a run may be published without
    them, or they made room. That one of several is missing is a difference; that all are is not.
    """
    names = []
    if any(one.judged and _saved(one.evaluation) for one in stored.told):
        names += [] if _has_weights(folder.weights) else [folder.weights.name]
    if any(event.kind == FINALIST for event in stored.events):
        names += [] if _has_weights(folder.finalists) else [folder.finalists.name]
    if isinstance(read_json(folder.final / "result.json"), dict):
        left = any((folder.final / name).exists() for name in _TRAINED)
        names += [] if left else [folder.final.name]
    return names


def _has_weights(folder: Path) -> bool:
    return next(folder.glob("*.safetensors"), None) is not None


def expected_weights(
    config: Config, stored: Stored, needed: Collection[int] | None = ()
) -> set[int]:
    """The numbers of the candidates whose weights a search has kept for certain.

    Args:
        needed: those whose weights the search needs to go on; None: all.
    """
    told = [one for one in stored.told if one.judged and _saved(one.evaluation)]
    if needed is None:
        return {one.number for one in told}
    again = len(stored.arrived) - len({evaluation.number for evaluation in stored.arrived})
    halves = [vars(config.run), stored.config.get("run", {})]
    halves += [event.details.get("run") or {} for event in stored.events if event.kind == RESUMED]
    numbers = [kept_number(str(renamed(half).get("keep", "all"))) for half in halves]
    least = min((number for number in numbers if number is not None), default=None)
    ranks = ranking(stored.told)
    # one that was cut may have been ahead of another, until it was trained in full
    kept = ranks if least is None else ranks[: max(0, least - again)]
    objectives = make_objectives(config.search.strategy)
    if len(objectives) > 1 and not again:
        kept = [*kept, *front_of(ranks, objectives)]
    return {one.number for one in kept}.union(needed).intersection(one.number for one in told)


def _saved(evaluation: Evaluation) -> bool:
    return bool(evaluation.curve) and _UNSAVED not in (evaluation.reason or "")


def about_weights(path: Path) -> Mapping[str, str] | str:
    """What a file of weights says of itself; for one that is damaged, a clause that says so."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"


def _wrong_weights(path: Path, candidates: Sequence[Candidate]) -> str | None:
    """What is wrong with a candidate's file of weights."""
    number, about = int(path.stem), about_weights(path)
    if isinstance(about, str):
        return about
    if number >= len(candidates):
        return f"is of a candidate that the store does not know; it has {len(candidates)}"
    genome = list(candidates[number].proposal.genome)
    if "genome" in about and _list(about["genome"]) != genome:
        return "is of another network than the candidate's"
    return None


def _list(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


# --- genomes and the winner -----------------------------------------------------------------------


def _genomes(folder: RunFolder, stored: Stored) -> Iterator[Difference]:
    ranks = ranking(stored.told)
    if ranks and not folder.best_genome.exists():
        yield Difference(folder.best_genome.name, "is missing")
    for path in (folder.best_genome, *sorted(folder.front.glob("*.json"))):
        if path.exists():
            for wrong in _wrong_genome(path, stored):
                yield Difference(_name(folder, path), wrong)
    if folder.best_genome.exists():
        named = _known(folder.best_genome).get("weights")
        whole = without_weights(folder, stored)
        if (
            isinstance(named, str)
            and Path(named).parent.name not in whole
            and not (folder.path / named).exists()
        ):
            yield Difference(named, "is missing, with the weights of the best network")


def _known(path: Path) -> Mapping[str, Any]:
    """What a genome's file, which may be damaged, says of its network."""
    values = read_json(path)
    known = values.get("known") if isinstance(values, dict) else None
    return known if isinstance(known, dict) else {}


def _wrong_genome(path: Path, stored: Stored) -> Iterator[str]:
    try:
        file = read_genome(path)
    except NanonasError as error:
        yield f"cannot be read: {error}"
        return
    number = file.known.get("candidate")
    if not isinstance(number, int) or not 0 <= number < len(stored.candidates):
        yield f"is of candidate {number!r}, which the store does not know"
        return
    if file.genome != stored.candidates[number].proposal.genome:
        yield f"has another genome than candidate #{number}"
    known = [one.evaluation.accuracy for one in stored.told if one.number == number]
    finals = [event.details for event in stored.events if event.kind == FINALIST]
    known += [one.get("accuracy") for one in finals if one.get("number") == number]
    accuracy = file.known.get("accuracy")
    if accuracy is not None and accuracy not in known:
        yield f"says that candidate #{number} has an accuracy of {accuracy}, which is not stored"


def _final(folder: RunFolder, place: Path, stored: Stored) -> Iterator[Difference]:
    """What is wrong in the folder of a final training."""
    result, where = read_json(place / "result.json"), _name(folder, place)
    if not isinstance(result, dict):
        return
    opened = any(event.kind == TEST_SET_OPENED for event in stored.events)
    if not opened:
        yield Difference(where, "has a test accuracy, but no event says that the test was opened")
    if not any((place / name).exists() for name in _TRAINED):
        return  # see `without_weights`
    for name in _TRAINED:
        if not (place / name).exists():
            whose = "the winner" if place == folder.final else "its network"
            yield Difference(f"{where}/{name}", f"is missing, though {whose} was trained")
            return
    if isinstance(damage := about_weights(place / "model.safetensors"), str):
        yield Difference(f"{where}/model.safetensors", damage)
    try:
        genome = read_genome(place / "genome.json")
    except NanonasError as error:
        yield Difference(f"{where}/genome.json", f"cannot be read: {error}")
        return
    yield from _wrong_final(genome, result, stored, where)


def _wrong_final(
    genome: GenomeFile, result: Mapping[str, Any], stored: Stored, where: str
) -> Iterator[Difference]:
    file = f"{where}/genome.json"
    if genome.genome not in {candidate.proposal.genome for candidate in stored.candidates}:
        yield Difference(file, "has a genome that is none of the candidates'")
    if genome.known.get("test_accuracy") != result.get("test_accuracy"):
        yield Difference(file, f"has another test accuracy than {where}/result.json")
    if genome.network().params != result.get("params"):
        yield Difference(file, f"has another number of parameters than {where}/result.json")


def _name(folder: RunFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()
