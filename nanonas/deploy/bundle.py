"""A bundle: a folder with a trained network that works without nanonas, and with what was found
when each of its files was run again.

    model.py  model.safetensors       PyTorch source and weights; torch and safetensors
    model.onnx  predict.py            pixels in, logits out; image files in, classes out
    model.int8.onnx                   the same graph in int8
    model.pt2                         the same graph, for torch.export.load
    model.h  model.c  main.c  …       C11 source in int8, for microcontrollers
    labels.json  preprocessing.json   classes in the order of the logits; how images are prepared
    genome.json                       the network as a search has it, to begin another training with
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nanonas.deploy.card import SEARCH, model_card, search_yaml
from nanonas.deploy.checking import Checker
from nanonas.deploy.classifying import CALIBRATION, PREPROCESSING
from nanonas.deploy.finetuning import Tuner
from nanonas.deploy.formats import FORMATS, LABELS, PROGRAM, Making, write_rule
from nanonas.deploy.subject import Subject
from nanonas.deploy.verdicts import TOLERANCE, Verdict
from nanonas.errors import ConfigError, GenomeError, NanonasError, RunError, reason_for
from nanonas.files import write_text
from nanonas.machine import described
from nanonas.runs.models import BUNDLE, GENOME, VERIFICATION, is_bundle

CARD = "card.md"
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
            "format": BUNDLE,
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
            making = Making(subject, self.fold, part, Path(work), tuner)
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

    def _made(self, name: str, making: Making, checker: Checker) -> list[Verdict]:
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


# --- the folder -----------------------------------------------------------------------------------


def _describe(subject: Subject, bundle: Bundle, folder: Path) -> None:
    """Writes what is not a model."""
    write_rule(subject, folder)
    genome = subject.source.genome
    data = Path(genome.data).name if Path(genome.data).is_absolute() else genome.data
    replace(genome, data=data, known={}, preprocessing=subject.rule).write(folder / GENOME)
    write_text(folder / CARD, model_card(subject, bundle.own, bundle.verdicts, bundle.images))
    if subject.source.run is not None:
        write_text(folder / SEARCH, search_yaml(subject.source.run))
    write_text(folder / VERIFICATION, json.dumps(bundle.to_json(), indent=1) + "\n")


def _set_aside(folder: Path, files: Sequence[str]) -> None:
    """Renames what is not to be used."""
    for name in files:
        if (folder / name).exists():
            (folder / name).replace(folder / f"{name}{FAILED}")


def _known_files() -> list[str]:
    """What a bundle may hold."""
    models = [name for one in FORMATS.values() for name in one.files]
    others = [VERIFICATION, GENOME, PROGRAM, LABELS, PREPROCESSING, CALIBRATION, CARD, SEARCH]
    return [*others, *models, *(f"{name}{FAILED}" for name in [*models, PROGRAM])]


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
