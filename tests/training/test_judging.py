"""Accuracy and balanced accuracy of a module, against scikit-learn's, and how noisy they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nanonas.core import Budget, Candidate, Evaluation, Proposal, State
from nanonas.data.images import DataSpec
from nanonas.spaces.nano import NanoSpace
from nanonas.training import trial as trials
from nanonas.training.judging import judged, noise_images
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import accuracy, logits_of
from nanonas.training.trial import Trial
from nanonas.training.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")
metrics = pytest.importorskip("sklearn.metrics")


class Says(nn.Module):
    """Answers with the class that an image is as bright as."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x[:, 0, 0, 0].long(), self.classes).float()


def shown(answers: list[int], labels: list[int], rows: list[int] | None = None) -> Pictures:
    x = torch.tensor(answers, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    one = torch.ones(1)
    chosen = None if rows is None else torch.tensor(rows)
    return Pictures(x, torch.tensor(labels), 0 * one, one / 255, chosen)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_the_shares_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 1200, p=[0.7, 0.15, 0.1, 0.05, 0.0]).tolist()  # none of the last class
    wrong = rng.random(1200) < 0.3
    answers = np.where(wrong, rng.integers(0, 5, 1200), labels).tolist()
    found = judged(Says(6), shown(answers, labels))
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, answers))
    balanced = metrics.balanced_accuracy_score(labels, answers)
    assert found.balanced_accuracy == pytest.approx(balanced)
    assert (found.by("accuracy"), found.by("balanced_accuracy")) == (
        found.accuracy,
        found.balanced_accuracy,
    )
    rows = [place for place, label in enumerate(labels) if label != 1][:100]
    part = judged(Says(6), shown(answers, labels, rows))
    assert part.images.sum() == 100
    assert part.balanced_accuracy == pytest.approx(
        metrics.balanced_accuracy_score([labels[r] for r in rows], [answers[r] for r in rows])
    )


def test_the_noise_is_that_of_so_many_images() -> None:
    counts = np.array([900, 40, 0, 10])
    images = noise_images(counts, "balanced_accuracy")
    assert noise_images(counts, "accuracy") == 950
    rng = np.random.default_rng(0)
    there = counts[counts > 0]
    balanced = (rng.binomial(there, 0.8, (20_000, 3)) / there).mean(axis=1)
    assert balanced.var() == pytest.approx(0.8 * 0.2 / images, rel=0.05)


def of_run(metric: str, budget: Budget, **options: object) -> tuple[Trial, Evaluation]:
    space = NanoSpace((1, 8, 8), 10, channels=4, length=3)
    data = DataSpec("digits", train_images=150, valid_share=0.3, seed=3)
    trial = Trial(space, data, Recipe(batch_size=50), 0, metric=metric, **options)  # type: ignore[arg-type]
    candidate = Candidate(0, Proposal((0, 3, 4), budget=budget), "key")
    return trial, trial(candidate, lambda: True)


def test_a_candidate_is_judged_by_the_metric(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uneven(data: DataSpec, size: int | None, device: str) -> tuple[Pictures, Pictures]:
        train, valid = pictures(data, device)
        assert valid.rows is not None
        label = valid.y[valid.rows]
        kept = (label < 3) | (torch.arange(len(label)) % 12 == 0)
        return train, replace(valid, rows=valid.rows[kept])

    monkeypatch.setattr(trials, "_on_device", uneven)
    trial, evaluation = of_run("balanced_accuracy", Budget(2), weights=tmp_path)
    _, plain = of_run("accuracy", Budget(2))
    assert evaluation.state is State.COMPLETE
    module = build_module(trial.space.decode((0, 3, 4)), 0)
    load_weights(module, tmp_path / "0.safetensors")  # type: ignore[operator]
    _, valid = uneven(trial.data, None, "cpu")
    assert valid.rows is not None
    labels, answers = valid.y[valid.rows], logits_of(module, valid).argmax(dim=1)
    assert evaluation.accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, answers))
    assert evaluation.metrics["plain_accuracy"] == accuracy(module, valid) == plain.accuracy
    assert evaluation.accuracy != plain.accuracy
    assert evaluation.curve[-1].accuracy == evaluation.accuracy
    assert "plain_accuracy" not in plain.metrics


def test_the_rule_that_prunes_names_the_metric_and_heeds_its_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "SETTLED_STEPS", 1)
    heard: list[float] = []
    real = trials._clearly_below

    def below(threshold: float, value: float, images: float) -> bool:
        heard.append(images)
        return real(threshold, value, images)

    monkeypatch.setattr(trials, "_clearly_below", below)
    _, evaluation = of_run("balanced_accuracy", Budget(3, stop_epoch=1, stop_below=1.0))
    assert evaluation.state is State.PRUNED
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("balanced accuracy 0.")
    assert 425 < heard[0] < 440  # that validate, of classes of nearly one size
