"""The formats of a bundle: what each consists of, how it is written and checked, and why it cannot
be made here. A new one is an entry of `FORMATS`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.deploy import alone
from nanonas.deploy.alone import check
from nanonas.deploy.c.quantised import IntegerNetwork
from nanonas.deploy.c.writing import FILES as SOURCES
from nanonas.deploy.c.writing import write_c
from nanonas.deploy.checking import Checker
from nanonas.deploy.classifying import CALIBRATION, PREPROCESSING
from nanonas.deploy.finetuning import Classify, Tuner
from nanonas.deploy.folding import folded
from nanonas.deploy.source import model_source, named_tensors
from nanonas.deploy.subject import Subject
from nanonas.deploy.verdicts import Verdict
from nanonas.files import write_text
from nanonas.machine import cores
from nanonas.networks.integer import undeployable
from nanonas.training import graphs
from nanonas.training.quantised import Held

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from nanonas.training.finetuning import Finetuned
    from nanonas.training.modules import NetworkModule

LABELS, PROGRAM = "labels.json", "predict.py"


@dataclass
class Making:
    """A bundle while it is made."""

    subject: Subject
    fold: bool
    folder: Path  # where its files go
    work: Path  # where other files go
    tuner: Tuner
    integers: IntegerNetwork | None = None  # what the C source computes, once it is written

    @cached_property
    def module(self) -> NetworkModule:
        """What is exported."""
        return folded(self.subject.module) if self.fold else self.subject.module

    @cached_property
    def traced(self) -> ExportedProgram:
        """Its graph; two formats are made of it."""
        return graphs.program(self.module, self.subject.rule, self.subject.backbone)

    @cached_property
    def onnx(self) -> Path:
        """A file with its graph in ONNX; two formats are made of it."""
        path = self.work / "model.onnx"
        graphs.save_onnx(self.traced, path, self.subject.metadata)
        return path


def _write_pytorch(making: Making) -> None:
    from nanonas.training.weights import save_tensors

    network = making.module.network
    write_text(making.folder / "model.py", model_source(network, making.subject.rule))
    tensors = named_tensors(network, making.module.state_dict())
    save_tensors(tensors, making.folder / "model.safetensors", making.subject.metadata)


def _write_onnx(making: Making) -> None:
    shutil.copyfile(making.onnx, making.folder / "model.onnx")


def _write_int8(making: Making) -> None:
    images = making.subject.calibration()
    assert images is not None

    def write(folder: Path, tuned: Finetuned | None) -> Classify:
        graph = making.onnx
        if tuned is not None:  # its norms are folded, whatever `fold` says
            graph = folder / "tuned.onnx"
            held = Held(tuned.module, tuned.ranges)
            traced = graphs.program(held, making.subject.rule)
            graphs.save_onnx(traced, graph, making.subject.metadata)
        graphs.save_int8(graph, folder / "model.int8.onnx", images)
        return check.KINDS["int8"](folder, cores())

    making.tuner.write("int8", FORMATS["int8"].files, making.folder, making.work, write)


def _write_pt2(making: Making) -> None:
    graphs.save_program(making.traced, making.folder / "model.pt2", making.subject.metadata)


def _write_c(making: Making) -> None:
    images, rule = making.subject.calibration(), making.subject.rule
    assert images is not None
    made: list[IntegerNetwork] = []

    def write(folder: Path, tuned: Finetuned | None) -> Classify:
        # norms are folded on the way, whatever `fold` says
        module = making.subject.module if tuned is None else tuned.module
        tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        ends = None if tuned is None else tuned.ranges
        written = write_c(module.network, tensors, rule, images, folder, ends)
        made.append(written.model)
        return written.model.logits

    finetuned = making.tuner.write("c", SOURCES, making.folder, making.work, write)
    making.integers = made[-1] if finetuned else made[0]


def _check(name: str, making: Making, checker: Checker) -> list[Verdict]:
    return [checker.verdict(name, making.folder, FORMATS[name].files)]


def _check_onnx(name: str, making: Making, checker: Checker) -> list[Verdict]:
    """With predict.py, which needs a graph that is right."""
    [verdict] = _check(name, making, checker)
    if not verdict.passed:
        return [verdict]
    shutil.copyfile(Path(alone.__file__).with_name(PROGRAM), making.folder / PROGRAM)
    write_rule(making.subject, making.folder)
    return [verdict, checker.program(making.folder / PROGRAM)]


def _check_c(name: str, making: Making, checker: Checker) -> list[Verdict]:
    assert making.integers is not None
    return [checker.integers(making.integers, making.folder, FORMATS[name].files)]


def _for_boards(subject: Subject) -> bool:
    return subject.source.config.limits.target is not None


def _lacks_onnx(subject: Subject) -> str:
    return graphs.missing_extra() or ""


def _lacks_images(subject: Subject) -> str:
    if subject.source.images is not None:
        return ""
    return f"it is calibrated on training images, and these are gone: {subject.why_no_images}"


def _lacks_source(subject: Subject) -> str:
    if subject.backbone is None:
        return ""
    name = subject.backbone.about.name
    return f"the backbone {name} is timm's, and has no source here; onnx and pt2 hold it"


def _lacks_eight_bits(subject: Subject) -> str:
    if subject.backbone is None:
        return ""
    return f"the backbone {subject.backbone.about.name} is in floating point; take onnx or pt2"


def _lacks_int8(subject: Subject) -> str:
    return _lacks_eight_bits(subject) or _lacks_onnx(subject) or _lacks_images(subject)


def _lacks_c(subject: Subject) -> str:
    if reason := _lacks_eight_bits(subject):
        return reason
    if unknown := undeployable(subject.module.network):
        return f"{', '.join(unknown)} has no form in 8-bit integers here; search with --target mcu"
    return _lacks_images(subject)


def write_rule(subject: Subject, folder: Path) -> None:
    """Writes what predict.py reads beside its model."""
    names = list(subject.rule.class_names)
    write_text(folder / LABELS, json.dumps(names, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / PREPROCESSING, json.dumps(subject.rule.seen.to_json(), indent=1) + "\n")
    if subject.temperature != 1:
        calibration = {"temperature": subject.temperature}
        write_text(folder / CALIBRATION, json.dumps(calibration, indent=1) + "\n")


@dataclass(frozen=True)
class Format:
    """A form that a network is exported in."""

    files: tuple[str, ...]
    write: Callable[[Making], None]
    lacks: Callable[[Subject], str] = lambda subject: ""  # why it cannot be made here, if so
    check: Callable[[str, Making, Checker], list[Verdict]] = _check
    wanted: Callable[[Subject], bool] = lambda subject: True  # where no formats are named


FORMATS: dict[str, Format] = {
    "pytorch": Format(("model.py", "model.safetensors"), _write_pytorch, _lacks_source),
    "onnx": Format(("model.onnx",), _write_onnx, _lacks_onnx, _check_onnx),
    "int8": Format(("model.int8.onnx",), _write_int8, _lacks_int8),
    "pt2": Format(("model.pt2",), _write_pt2),
    "c": Format(SOURCES, _write_c, _lacks_c, _check_c, _for_boards),
}
