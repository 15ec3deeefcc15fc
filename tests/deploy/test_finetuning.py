"""Fine-tuning for 8-bit integers: what is trained is what is exported; the better one is kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from toys.integers import (
    SPACES,
    drawn,
    everything,
    fit,
    module_of,
    pixels_of,
    plant_outliers,
    preprocessing_of,
    small_network,
    tensors_of,
)

from nanonas import cli
from nanonas.deploy.alone import check
from nanonas.deploy.bundle import Bundle, Export
from nanonas.deploy.c.quantised import quantised
from nanonas.deploy.folding import folded
from nanonas.deploy.subject import Subject, subject_at
from nanonas.errors import RunError
from nanonas.networks.integer import roundings
from nanonas.networks.network import Draft, Network, classifier, conv_norm, depthwise
from nanonas.training import finetuning, graphs
from nanonas.training.augment import normalise, to_device
from nanonas.training.finetuning import Finetuning
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import Pictures
from nanonas.training.quantised import IMAGE, Held, QuantisedModule, calibrated

pytestmark = pytest.mark.usefixtures("one_thread")


# --- what is trained is what is exported ----------------------------------------------------------


def student_of(module: NetworkModule, pixels: NDArray[np.uint8]) -> QuantisedModule:
    """A network with roundings, its maps held between ends that are narrower than calibrated."""
    rule = preprocessing_of(module.network)
    x, y = to_device(pixels, np.zeros(len(pixels), np.int64))
    pictures = Pictures(x, y, torch.tensor(rule.mean), torch.tensor(rule.std))
    student = QuantisedModule(module, calibrated(module, pictures))
    with torch.no_grad():
        student.stretch.fill_(-0.2)
    return student


def answered(student: QuantisedModule, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    rule = preprocessing_of(student.network)
    mean, std = torch.tensor(rule.mean), torch.tensor(rule.std)
    with torch.no_grad():
        logits = student(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), mean, std))
    return np.asarray(logits.numpy())


class Compared(QuantisedModule):
    """Goes on with what the reference in integers has at each step, after it is compared."""

    reference: dict[str, Tensor]  # by node
    steps_apart: dict[str, Tensor]  # differences, in steps of the node's map

    def settled(self, name: str, x: Tensor) -> Tensor:
        out = super().settled(name, x)
        if name not in self.reference:
            return out
        owner = self.steps_of[name]
        low, high = self.ranges()[owner]
        expected = self.reference[name].view_as(out).float()
        self.steps_apart[name] = (out - expected) / ((high - low) / 255)
        return expected


@pytest.mark.parametrize("name", ["every operation", *SPACES])
def test_each_step_is_rounded_as_the_reference_in_integers_rounds_it(name: str) -> None:
    """But for halves, which integers round up, and what is so near to one that it counts as it."""
    of_space = [drawn(SPACES[name], seed) for seed in range(3)] if name in SPACES else []
    for network in of_space or [everything()]:
        module, pixels = folded(module_of(network, 0)), pixels_of(network, 16)
        student = student_of(module, pixels)
        rule = preprocessing_of(network)
        model = quantised(module.network, tensors_of(module), rule, pixels, student.ranges())
        values = model.run(pixels)
        ends = {step: node for node, step in roundings(module.network).items()}  # the last of each
        for step in model.plan.steps:
            if step.op == "maxpool" and ends[step.name] not in student.steps_of:
                # what follows the pool is part of the convolution before it
                ends[step.name] = ends.pop(step.inputs[0])
        student.__class__ = Compared
        assert isinstance(student, Compared)
        student.steps_apart = {}
        student.reference = {
            node: torch.from_numpy(model.scales[step].real(values[step]).transpose(0, 3, 1, 2))
            for step, node in {IMAGE: IMAGE, **ends}.items()
            if step in values
        }
        answered(student, pixels)
        for step in model.plan.steps:
            if step.name in ends and step.op != "zero":  # whose steps are of any size
                apart = student.steps_apart[ends[step.name]].abs()
                # an activation may have finer steps than its sums, by any factor
                assert step.has_table or float(apart.max()) < 1.01, step
                assert float((apart > 0.01).float().mean()) < 0.2, step


def swishing() -> Network:
    """Depthwise, with hard swishes, a residual connection and a concatenation."""
    draft = Draft((3, 12, 12), 5)
    x = draft.add("act", conv_norm(draft, "input", 8, 3), kind="hardswish")
    y = draft.add("act", draft.add("norm", depthwise(draft, x, 3)), kind="hardswish")
    x = draft.add("act", draft.add("add", x, conv_norm(draft, y, 8, 1)), kind="relu")
    x = draft.add("maxpool", draft.add("concat", x, y), kernel=2, stride=2)
    return classifier(draft, draft.add("act", conv_norm(draft, x, 16, 3), kind="relu"))


@pytest.mark.slow
def test_rounded_networks_compute_what_onnxruntime_does(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="ONNX needs onnx: pip install 'nanonas[onnx]'")
    module = folded(module_of(swishing(), 1))
    pixels = pixels_of(module.network, 64)
    student = student_of(module, pixels)
    rule = preprocessing_of(module.network)
    traced = graphs.program(Held(student.floating(), student.ranges()), rule)
    graphs.save_onnx(traced, tmp_path / "model.onnx", {})
    graphs.save_int8(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", pixels)
    got = check.logits_of(check.KINDS["int8"](tmp_path, 1), pixels)
    low, high = student.ranges()["dense1"]
    steps = np.abs(got - answered(student, pixels)) / ((high - low) / 255)
    assert float(steps.mean()) < 1


# --- the better one is kept -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(run: Path) -> Subject:
    """A network that was trained for digits, with channels that are scaled badly for integers."""
    subject = subject_at(run)
    images, rule = subject.source.images, subject.rule
    assert images is not None
    module = build_module(small_network((1, 8, 8), 10), seed=2)
    fit(module, rule.batch(list(images.x_train)), images.y_train)
    assert plant_outliers(module, 100.0) > 0
    return replace(subject, module=module.eval())


def said(bundle: Bundle, name: str) -> dict[str, object]:
    values = json.loads((bundle.folder / "verification.json").read_text(encoding="utf-8"))
    found: dict[str, object] = values["formats"][name]
    return found


def test_what_loses_too_much_is_fine_tuned(
    planted: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "Finetuning", partial(Finetuning, epochs=4))
    off = Export(["c"], seconds=0, finetune=None).run(planted, tmp_path / "off")
    assert [one.reason[:8] for one in off.verdicts] == ["it loses"]
    assert off.verdicts[0].finetuning is None
    made = Export(["c"], seconds=0, finetune=math.inf).run(planted, tmp_path / "on")
    [verdict] = made.verdicts
    found = verdict.finetuning
    assert found is not None
    assert found.kept
    assert found.after is not None
    assert found.before < found.floats - 0.01 < found.after + 0.01
    assert found.n == len(planted.split().valid)
    assert verdict.passed
    assert "agree on 100 images; fine-tuned for 4 epochs: " in verdict.note
    assert "of 143 validation images" in verdict.note
    assert said(made, "c")["finetuning"]["kept"] is True  # type: ignore[index]
    assert found.words in (made.folder / "card.md").read_text(encoding="utf-8")


def test_what_is_no_better_is_not_kept(planted: Subject, tmp_path: Path) -> None:
    made = Export(["c"], seconds=0, finetune=1e-9).run(planted, tmp_path / "bundle")
    off = Export(["c"], seconds=0, finetune=None).run(planted, tmp_path / "off")
    [verdict] = made.verdicts
    assert verdict.finetuning is not None
    assert not verdict.finetuning.kept
    assert verdict.finetuning.after is None
    assert "which was no better and is not kept" in verdict.note
    for name in verdict.files:
        kept, plain = (one.folder / f"{name}.failed" for one in (made, off))
        assert kept.read_bytes() == plain.read_bytes()


def test_what_loses_little_is_left_as_it_is(run: Path, tmp_path: Path) -> None:
    made = Export(["c"], seconds=0).run(subject_at(run), tmp_path / "bundle")
    assert made.verdicts[0].passed
    assert made.verdicts[0].finetuning is None
    assert said(made, "c")["finetuning"] is None


@pytest.mark.parametrize(
    ("words", "seconds"), [("", 60), ("--finetune off", None), ("--finetune 5m", 300)]
)
def test_how_long_it_may_take(
    run: Path,
    words: str,
    seconds: float | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(self: Export, subject: Subject, folder: Path) -> Bundle:
        raise RunError(f"it has {self.finetune}")

    monkeypatch.setattr(Export, "run", stopped)
    assert cli.main(["export", str(run), *words.split()]) == 2
    assert f"it has {seconds}" in capsys.readouterr().err


@pytest.mark.slow
def test_one_fine_tuned_network_serves_both_formats(planted: Subject, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="ONNX needs onnx: pip install 'nanonas[onnx]'")
    made = Export(["int8", "c"], seconds=0, finetune=math.inf).run(planted, tmp_path / "b")
    first, second = (one.finetuning for one in made.verdicts)
    assert first is not None
    assert second is not None
    assert first.kept
    assert second.kept
    assert replace(first, before=0, after=0) == replace(second, before=0, after=0)
    assert [one.reason for one in made.verdicts] == ["", ""]
