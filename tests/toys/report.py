"""Runs that nobody trained, with everything in them that a report shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nanonas.analysis.record import Entry, Record
from nanonas.config.files import configure, to_values, to_yaml
from nanonas.config.parts import make_space
from nanonas.core import Budget, Candidate, Epoch, Evaluation, Genome, Prediction, Proposal, State
from nanonas.data.answers import Answers
from nanonas.data.thumbnails import Thumbnails
from nanonas.engine.storage.store import RunStore
from nanonas.maths.calibration import confident_errors
from nanonas.runs.folder import RunFolder
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace

SHAPE, CLASSES = (3, 16, 16), 4
BUDGET, HALF = Budget(4), Budget(2)
SPACE = LayersSpace(SHAPE, CLASSES)


def evaluated(
    number: int, accuracy: float | None, state: State = State.COMPLETE, **more: Any
) -> Evaluation:
    """An evaluation with a curve that ends in its accuracy."""
    curve = () if accuracy is None else (Epoch(1.5, accuracy / 2), Epoch(0.7, accuracy))
    metrics = {"params": 1000.0 + number, "macs": 20_000.0, **more.pop("metrics", {})}
    if accuracy is not None:
        metrics["accuracy"] = accuracy
    return Evaluation(number, state, metrics, curve, 1.5, **more)


def entry(
    number: int, genome: Genome, accuracy: float | None, space: Space = SPACE, **proposal: Any
) -> Entry:
    """A candidate that was trained."""
    asked = Proposal(genome, budget=proposal.pop("budget", BUDGET), **proposal)
    candidate = Candidate(number, asked, space.decode(genome).key, generation=number // 10)
    return Entry(candidate, evaluated(number, accuracy), 2.0 * (number + 1))


def entries(number: int, seed: int = 0) -> list[Entry]:
    """Ten random networks, then children, with inherited weights, predictions, a twin and a failure
    every so often.
    """
    rng, made = np.random.default_rng(seed), []
    for n in range(number):
        accuracy = float(np.clip(0.6 + 0.002 * n + rng.normal(0, 0.05), 0, 1))
        predicted = (
            Prediction(-accuracy + float(rng.normal(0, 0.03)), 0.02, "gaussian", chosen=True)
            if n >= 10
            else None
        )
        if n < 10:
            made.append(entry(n, SPACE.sample(rng), accuracy))
        elif n % 7 == 0:
            twin = made[-1]
            made.append(entry(n, twin.genome, accuracy - 0.05, parents=(twin.number,)))
        elif n % 11 == 0:
            one = entry(n, SPACE.mutate(made[n - 8].genome, rng), None, parents=(n - 8,))
            failed = evaluated(n, None, State.FAILED, reason=f"RuntimeError: <b>step {n}</b>")
            made.append(replace(one, evaluation=failed))
        else:
            parent = int(rng.integers(max(0, n - 15), n))
            child = SPACE.mutate(made[parent].genome, rng)
            heir: dict[str, Any] = {
                "parents": (parent,),
                "inherits": (parent,),
                "budget": HALF,
                "predicted": predicted,
            }
            one = entry(n, child, accuracy, **heir)
            assert one.evaluation is not None
            inherited = {
                **one.evaluation.metrics,
                "inherited_share": 0.75,
                "inherited_tensors": 12.0,
            }
            made.append(replace(one, evaluation=replace(one.evaluation, metrics=inherited)))
    return made


def record(some: list[Entry], **more: Any) -> Record:
    """A run of these candidates."""
    return Record("toy", tuple(some), SPACE, **more)


def answers(
    images: int = 400, classes: int = CLASSES, clearness: float = 3.0, names: tuple[str, ...] = ()
) -> Answers:
    """Answers of a classifier to images of equally frequent classes: each logit is normal, that of
    the right class with the mean `clearness`. The temperature that calibrates them is its inverse.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    logits = rng.normal(size=(images, classes)) + clearness * np.eye(classes)[labels]
    return Answers(logits.astype(np.float32), labels, names)


def thumbnails(given: Answers, side: int = 8, channels: int = 1, most: int = 24) -> Thumbnails:
    """Noise in place of the images that were answered wrongly, and of 6 training images."""
    rng = np.random.default_rng(0)
    rows = confident_errors(given.logits, given.labels, most)
    errors, plain, augmented = (
        rng.integers(0, 256, (number, side, side, channels), dtype=np.uint8)
        for number in (len(rows), 6, 6)
    )
    labels = np.arange(6) % given.classes
    return Thumbnails(errors, rows, plain, augmented, labels, (32, 32), "moved by up to 1 pixel")


def toy_run(
    path: Path,
    some: list[Entry],
    class_names: tuple[str, ...] = ("a", "b", "c", "d"),
    **search: Any,
) -> RunFolder:
    """A run's folder that holds these candidates."""
    settings = {"space": "layers", "population": 10, "lag": 2, "precision": "float32", **search}
    config = configure(**settings, evaluations=len(some))
    folder = RunFolder(path)
    with RunStore.begin(folder.store, to_values(config)) as store:
        folder.config.write_text(to_yaml(config), encoding="utf-8")
        noted = {
            "input_shape": SHAPE,
            "class_names": class_names,
            "fingerprint": "f1e2",
            "train": 500,
            "valid": 100,
        }
        store.event("images", noted)
        store.event("started")
        for one in some:
            store.asked(one.candidate)
            if one.evaluation is not None:
                store.arrived(one.evaluation)
        store.event("ended", {"why": "evaluations", "message": "they are evaluated"})
    assert (
        make_space(config.search.space, SHAPE, len(class_names)).decode(some[0].genome).key
        == some[0].candidate.key
    )
    return folder
