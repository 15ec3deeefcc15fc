"""Exported files, run by a clean process that cannot import nanonas, and what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nanonas.core import Floats
from nanonas.deploy.alone import check
from nanonas.deploy.c.compiled import compiled_logits, compiler
from nanonas.deploy.c.quantised import IntegerNetwork
from nanonas.deploy.classifying import of_module
from nanonas.deploy.subject import HeldOut, Subject
from nanonas.deploy.verdicts import (
    Accuracy,
    Logits,
    Timing,
    Verdict,
    difference,
    wrong_floats,
    wrong_int8,
)
from nanonas.errors import RunError
from nanonas.machine import cores
from nanonas.maths.calibration import softmax
from nanonas.text import number_of

QUANTISED = "int8"  # the format that may differ from the network's own logits
_PICTURES = 8  # images that predict.py is tried with
_COMPILED = 100  # images that compiled C is tried with
_NEAR = 1e-3  # how far off its probabilities may be


class _Broken(Exception):
    """A file that could not be run; says why."""


@dataclass(frozen=True)
class Checker:
    """Compares files with what a network's own module gives for the same images.

    Args:
        subject: the network.
        held: the images.
        work: an empty folder for what is passed on.
        int8_loss: percentage points of accuracy that int8 may lose.
        seconds: to measure each latency for.
    """

    subject: Subject
    held: HeldOut
    work: Path
    int8_loss: float
    seconds: float

    @cached_property
    def expected(self) -> Logits:
        """The logits of the network's own module, (N, classes)."""
        return check.logits_of(self._own, self.held.pixels)

    @cached_property
    def _own(self) -> Callable[[NDArray[np.uint8]], Any]:
        subject = self.subject
        return of_module(subject.module, subject.rule, backbone=subject.backbone).logits

    def own(self) -> Verdict:
        """What the network's own module does, as a file's verdict."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            times = check.milliseconds_of(self._own, self.held.pixels[0], self.seconds)
        finally:
            torch.set_num_threads(threads)
        weights = self.subject.weights
        verdict = Verdict("nanonas", (weights.name,), weights.stat().st_size)
        return self._measured(verdict, self.expected, times)

    def verdict(self, kind: str, folder: Path, files: Sequence[str]) -> Verdict:
        """Whether the files of a format, which lie in `folder`, do what the network does."""
        size = sum((folder / name).stat().st_size for name in files)
        verdict = Verdict(kind, tuple(files), size)
        try:
            logits, times = self._run(kind, folder)
        except _Broken as broken:
            return replace(verdict, reason=str(broken))
        if kind == QUANTISED and self.held.labels is not None:
            reason = wrong_int8(logits, self.expected, self.held.labels, self.int8_loss)
        else:
            reason = wrong_floats(logits, self.expected)
        if logits.shape != self.expected.shape:
            return replace(verdict, reason=reason)
        return replace(self._measured(verdict, logits, times), reason=reason)

    def integers(self, model: IntegerNetwork, folder: Path, files: Sequence[str]) -> Verdict:
        """Whether C source computes what its reference does, compiled here, and whether that is
        what the network does: its accuracy is the reference's on all images.
        """
        size = sum((folder / name).stat().st_size for name in files)
        memory = f"{model.plan.ram:,} bytes of RAM, {model.plan.flash:,} bytes of flash"
        verdict = Verdict("c", tuple(files), size, note=memory)
        integers, labels = model.logits(self.held.pixels), self.held.labels
        logits = integers.astype(np.float32)
        reason = (
            wrong_int8(logits, self.expected, labels, self.int8_loss) if labels is not None else ""
        )
        verdict = replace(
            verdict,
            reason=reason,
            agreement=float((logits.argmax(axis=1) == self.expected.argmax(axis=1)).mean()),
            accuracy=None if labels is None else Accuracy.of(logits, labels),
        )
        if (found := compiler()) is None:
            return replace(verdict, note=f"{memory}; not compiled, for there is no C compiler here")
        try:
            some = self.held.pixels[:_COMPILED]
            said = compiled_logits(folder, some, logits.shape[1], found)
        except RunError as error:
            return replace(verdict, reason=str(error))
        if not np.array_equal(said, integers[: len(some)]):
            return replace(verdict, reason="the compiled program computes other integers")
        agree = f"{Path(found).name} and the reference agree on {number_of(len(some), 'image')}"
        note = f"{memory}; {agree}"
        return replace(verdict, note=note)

    def _measured(self, verdict: Verdict, logits: Logits, times: Floats) -> Verdict:
        apart, scale, agreement = difference(logits, self.expected)
        labels = self.held.labels
        return replace(
            verdict,
            difference=apart,
            scale=scale,
            agreement=agreement,
            accuracy=None if labels is None else Accuracy.of(logits, labels),
            timing=Timing.of(times),
        )

    # --- the clean process ------------------------------------------------------------------------

    def _run(self, kind: str, folder: Path) -> tuple[Logits, Floats]:
        out = self.work / f"{kind}.npz"
        words = [kind, folder, self._images, out, cores(), self.seconds]
        _clean(*map(str, words))
        with np.load(out) as arrays:
            return arrays["logits"], arrays["milliseconds"]

    @cached_property
    def _images(self) -> Path:
        path = self.work / "images.npy"
        np.save(path, self.held.pixels)
        return path

    def program(self, path: Path) -> Verdict:
        """Whether predict.py says of some images, as PNG, what the network does."""
        verdict = Verdict(path.name, (path.name,), path.stat().st_size)
        pictures = []
        for number, pixels in enumerate(self.held.pixels[:_PICTURES]):
            pictures.append(self.work / f"{number}.png")
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(pictures[-1])
        try:
            said = json.loads(_clean("run", str(path), "--json", *map(str, pictures)))
        except _Broken as broken:
            return replace(verdict, reason=str(broken))
        logits = self.expected[: len(pictures)]
        probabilities = softmax(logits, self.subject.temperature).max(axis=1)
        found = np.array([row["classes"][0]["probability"] for row in said])
        apart = float(np.abs(found - probabilities).max())
        if apart > _NEAR:
            return replace(verdict, reason=f"its probabilities are up to {apart:.2g} off")
        return verdict


def _clean(*words: str) -> str:
    """What check.py prints, in a process that finds nothing of this one's surroundings. Raises
    `_Broken`.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-B", check.__file__, *words],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exited with code {done.returncode}"]
        raise _Broken(f"it cannot be run: {lines[-1]}")
    return done.stdout
