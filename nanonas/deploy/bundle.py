"""A bundle: a folder with a trained network that works without nanonas, and with what was found
when each of its files was run again.

    model.py  model.safetensors       PyTorch source and weights; torch and safetensors
    model.onnx  predict.py            pixels in, logits out; image files in, classes out
    model.int8.onnx                   the same graph in int8
    model.pt2                         the same graph, for torch.export.load
    model.h  model.c  main.c  …       C11 source in int8, for microcontrollers
    labels.json  preprocessing.json   classes in the order of the logits; how images are prepared
    calibration.json                  the temperature of its probabilities, where one is worth it
    card.md                           what it is, how good, what for: a model card
    search.yaml                       the configuration that repeats the search
    verification.json                 each file against the network's own module

Everything is made beside the folder and moved into it at the end. A file that does not do what the
network does is moved there as NAME.failed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanonas.deploy import alone
from nanonas.deploy.alone import check
from nanonas.deploy.c.quantised import IntegerNetwork
from nanonas.deploy.c.writing import FILES as SOURCES
from nanonas.deploy.c.writing import write_c
from nanonas.deploy.card import SEARCH, model_card, search_yaml
from nanonas.deploy.checking import Checker
from nanonas.deploy.classifying import CALIBRATION
from nanonas.deploy.finetuning import Classify, Tuner
from nanonas.deploy.folding import folded
from nanonas.deploy.source import model_source, named_tensors
from nanonas.deploy.subject import Subject
from nanonas.deploy.verdicts import TOLERANCE, Verdict
from nanonas.errors import ConfigError, GenomeError, NanonasError, RunError, reason_for
from nanonas.files import read_json, write_text
from nanonas.machine import cores, described
from nanonas.networks.integer import undeployable
from nanonas.training import graphs
from nanonas.training.quantised import Held

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from nanonas.training.finetuning import Finetuned
    from nanonas.training.modules import NetworkModule

FORMAT = "nanonas-bundle-1"
VERIFICATION, LABELS, PREPROCESSING = "verification.json", "labels.json", "preprocessing.json"
CARD, PROGRAM = "card.md", "predict.py"
FINETUNE = 60.0  # seconds that a fine-tuning may take, where nobody says another number
FAILED = ".failed"  # behind the name of a file that does not do what the network does


@dataclass(frozen=True)
class Bundle:
    """What came of an export."""

    folder: Path
    own: Verdict  # the network's own module
    verdicts: tuple[Verdict, ...]  # of each format that was made
    left_out: Mapping[str, str]  # formats that cannot be made here, and why
    images: str  # what they were compared on

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """The formats that do not do what the network does."""
        return tuple(one for one in self.verdicts if not one.passed)

    def to_json(self) -> dict[str, Any]:
        """As verification.json has it."""
        return {
            "format": FORMAT,
            "compared_on": self.images,
            "tolerance": TOLERANCE,
            "own_module": _values(self.own),
            "formats": {one.format: _values(one) for one in self.verdicts},
            "left_out": dict(self.left_out),
            "made_with": described(),
        }


def _values(verdict: Verdict) -> dict[str, Any]:
    values = {name: value for name, value in asdict(verdict).items() if name != "format"}
    return {"passed": verdict.passed, **values}


@dataclass(frozen=True)
class Export:
    """How a network is exported.

    Args:
        formats: keys of `FORMATS`; empty: all that can be made here, and C where the network was
            searched for a microcontroller.
        fold: whether batch norms are folded into the layers before them.
        int8_loss: percentage points of accuracy that int8 may lose: on the test set to be called
            exported, on validation images not to be fine-tuned.
        seconds: to measure each latency for.
        finetune: seconds that a quantisation-aware fine-tuning may take, once for all int8 files;
            None: there is none.
    """

    formats: Sequence[str] = ()
    fold: bool = True
    int8_loss: float = 1.0
    seconds: float = 1.0
    finetune: float | None = FINETUNE

    def run(self, subject: Subject, folder: Path) -> Bundle:
        """Makes a bundle, and checks each of its files in a clean process.

        Args:
            subject: the network.
            folder: a new one, an empty one, or an earlier bundle, which is replaced.

        Raises:
            RunError: the folder holds anything else, or cannot be written.
            ConfigError: a format was asked for that cannot be made here, or is none.
        """
        left_out = self._left_out(subject)
        _require_ours(folder)
        held = subject.held_out()
        with _made_beside(folder) as part, tempfile.TemporaryDirectory() as work:
            checker = Checker(subject, held, Path(work), self.int8_loss, self.seconds)
            tuner = Tuner(subject, self.int8_loss, self.finetune)
            making = _Making(subject, self.fold, part, Path(work), tuner)
            names = [name for name in self._wanted(subject) if name not in left_out]
            verdicts = [one for name in names for one in self._made(name, making, checker)]
            for verdict in verdicts:
                if not verdict.passed:
                    _set_aside(part, verdict.files)
            bundle = Bundle(folder, checker.own(), tuple(verdicts), left_out, held.words)
            _describe(subject, bundle, part)
        return bundle

    def _left_out(self, subject: Subject) -> dict[str, str]:
        """The formats that cannot be made here, and why. Raises `ConfigError` where one of them was
        asked for.
        """
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(f"formats are {', '.join(FORMATS)}, but one given is {name!r}")
            if reason := FORMATS[name].lacks(subject):
                raise ConfigError(f"--formats {name}: {reason}")
        lacking = {name: FORMATS[name].lacks(subject) for name in self._wanted(subject)}
        return {} if self.formats else {name: why for name, why in lacking.items() if why}

    def _wanted(self, subject: Subject) -> Sequence[str]:
        """The formats to make, if they can be made."""
        return self.formats or [name for name, one in FORMATS.items() if one.wanted(subject)]

    def _made(self, name: str, making: _Making, checker: Checker) -> list[Verdict]:
        """Makes a format, and says what came of it."""
        files = FORMATS[name].files
        try:
            FORMATS[name].write(making)
        except GenomeError as error:  # an operation without source
            return [Verdict(name, files, 0, str(error))]
        except (NanonasError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  exporters raise whatever they stumble over
            return [Verdict(name, files, 0, reason_for(error))]
        verdicts = FORMATS[name].check(name, making, checker)
        return [one.noting(making.tuner.found.get(name)) for one in verdicts]


def exported(subject: Subject, to: Path) -> Path:
    """Makes a bundle with all that can be made here; returns its folder.

    Raises:
        RunError: as `Export.run`; also where a file does not do what the network does.
    """
    bundle = Export().run(subject, to.absolute())
    if bundle.failed:
        wrong = "; ".join(f"{', '.join(one.files)}: {one.reason}" for one in bundle.failed)
        raise RunError(f"not all of {str(bundle.folder)!r} does what the network does: {wrong}")
    return bundle.folder


# --- the formats ----------------------------------------------------------------------------------


@dataclass
class _Making:
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
        return graphs.program(self.module, self.subject.rule)

    @cached_property
    def onnx(self) -> Path:
        """A file with its graph in ONNX; two formats are made of it."""
        path = self.work / "model.onnx"
        graphs.save_onnx(self.traced, path, self.subject.metadata)
        return path


def _write_pytorch(making: _Making) -> None:
    from nanonas.training.weights import save_tensors

    network = making.module.network
    write_text(making.folder / "model.py", model_source(network, making.subject.rule))
    tensors = named_tensors(network, making.module.state_dict())
    save_tensors(tensors, making.folder / "model.safetensors", making.subject.metadata)


def _write_onnx(making: _Making) -> None:
    shutil.copyfile(making.onnx, making.folder / "model.onnx")


def _write_int8(making: _Making) -> None:
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


def _write_pt2(making: _Making) -> None:
    graphs.save_program(making.traced, making.folder / "model.pt2", making.subject.metadata)


def _write_c(making: _Making) -> None:
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


def _check(name: str, making: _Making, checker: Checker) -> list[Verdict]:
    return [checker.verdict(name, making.folder, FORMATS[name].files)]


def _check_onnx(name: str, making: _Making, checker: Checker) -> list[Verdict]:
    """With predict.py, which needs a graph that is right."""
    [verdict] = _check(name, making, checker)
    if not verdict.passed:
        return [verdict]
    shutil.copyfile(Path(alone.__file__).with_name(PROGRAM), making.folder / PROGRAM)
    _write_rule(making.subject, making.folder)
    return [verdict, checker.program(making.folder / PROGRAM)]


def _check_c(name: str, making: _Making, checker: Checker) -> list[Verdict]:
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


def _lacks_int8(subject: Subject) -> str:
    return _lacks_onnx(subject) or _lacks_images(subject)


def _lacks_c(subject: Subject) -> str:
    if unknown := undeployable(subject.module.network):
        return f"{', '.join(unknown)} has no form in 8-bit integers here; search with --target mcu"
    return _lacks_images(subject)


@dataclass(frozen=True)
class Format:
    """A form that a network is exported in."""

    files: tuple[str, ...]
    write: Callable[[_Making], None]
    lacks: Callable[[Subject], str] = lambda subject: ""  # why it cannot be made here, if so
    check: Callable[[str, _Making, Checker], list[Verdict]] = _check
    wanted: Callable[[Subject], bool] = lambda subject: True  # where no formats are named


FORMATS: dict[str, Format] = {
    "pytorch": Format(("model.py", "model.safetensors"), _write_pytorch),
    "onnx": Format(("model.onnx",), _write_onnx, _lacks_onnx, _check_onnx),
    "int8": Format(("model.int8.onnx",), _write_int8, _lacks_int8),
    "pt2": Format(("model.pt2",), _write_pt2),
    "c": Format(SOURCES, _write_c, _lacks_c, _check_c, _for_boards),
}


# --- the folder -----------------------------------------------------------------------------------


def _describe(subject: Subject, bundle: Bundle, folder: Path) -> None:
    """Writes what is not a model."""
    _write_rule(subject, folder)
    write_text(folder / CARD, model_card(subject, bundle.own, bundle.verdicts, bundle.images))
    if subject.source.run is not None:
        write_text(folder / SEARCH, search_yaml(subject.source.run))
    write_text(folder / VERIFICATION, json.dumps(bundle.to_json(), indent=1) + "\n")


def _write_rule(subject: Subject, folder: Path) -> None:
    """Writes what predict.py reads beside its model."""
    names = list(subject.rule.class_names)
    write_text(folder / LABELS, json.dumps(names, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / PREPROCESSING, json.dumps(subject.rule.to_json(), indent=1) + "\n")
    if subject.temperature != 1:
        calibration = {"temperature": subject.temperature}
        write_text(folder / CALIBRATION, json.dumps(calibration, indent=1) + "\n")


def _set_aside(folder: Path, files: Sequence[str]) -> None:
    """Renames what is not to be used."""
    for name in files:
        if (folder / name).exists():
            (folder / name).replace(folder / f"{name}{FAILED}")


def _known_files() -> list[str]:
    """What a bundle may hold."""
    models = [name for one in FORMATS.values() for name in one.files]
    others = [VERIFICATION, PROGRAM, LABELS, PREPROCESSING, CALIBRATION, CARD, SEARCH]
    return [*others, *models, *(f"{name}{FAILED}" for name in [*models, PROGRAM])]


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle."""
    found = read_json(folder / VERIFICATION)
    return isinstance(found, dict) and found.get("format") == FORMAT


def _require_ours(folder: Path) -> None:
    """Raises `RunError` where a folder holds anything but a bundle."""
    if folder.is_dir() and any(folder.iterdir()) and not is_bundle(folder):
        raise RunError(
            f"{str(folder)!r} holds other files, which an export could overwrite; name a new folder"
        )
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{str(folder)!r} is a file; name a new folder")


@contextmanager
def _made_beside(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill, whose files are moved into `folder` at the end; where anything was
    raised it vanishes. Files of an earlier bundle make room, what it did not write stays.
    """
    whole = folder.absolute()
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        whole.mkdir(exist_ok=True)
        for name in _known_files():
            (whole / name).unlink(missing_ok=True)
        for path in sorted(part.iterdir()):
            path.replace(whole / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
