"""What is exported: a trained network, what is known of it, and images to check it with."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.preprocessing import Preprocessing
from nanonas.data.split import Split, split
from nanonas.engine.storage.store import RunStore
from nanonas.errors import NanonasError, RunError
from nanonas.files import weights_in
from nanonas.runs.backbones import backbone_of
from nanonas.runs.folder import fingerprint_of
from nanonas.runs.models import Trained, is_final, trained
from nanonas.runs.source import Source, fitting, source_at
from nanonas.text import command, number_of

if TYPE_CHECKING:
    from nanonas.training.backbone import Frozen
    from nanonas.training.final import FinalResult
    from nanonas.training.modules import NetworkModule

RANDOM = 256  # images of random pixels, where there are no others
CALIBRATION = 512  # training images, at most
BEHIND = 512  # test images, at most, that a network behind a backbone is checked with


@dataclass(frozen=True)
class HeldOut:
    """Images that a network was not trained on."""

    pixels: NDArray[np.uint8]  # (N, H, W, C)
    labels: Integers | None  # (N,); None: they belong to no class
    words: str  # what they are


@dataclass(frozen=True)
class Subject:
    """A trained network to export."""

    module: NetworkModule  # in eval mode, on the CPU
    rule: Preprocessing
    source: Source
    weights: Path  # that it has
    result: FinalResult | None  # of its final training; None: it had none
    why_no_images: str = ""  # a reason; empty where `source.images` has some
    temperature: float = 1.0  # what its logits are divided by before they become probabilities
    backbone: Frozen | None = None  # that it was found behind; on the CPU

    @property
    def name(self) -> str:
        """What it is called: as its run."""
        return (self.source.run.path if self.source.run else self.source.folder).resolve().name

    @property
    def untouched(self) -> bool:
        """Whether the test images are known to be those that were kept from its training."""
        run, images = self.source.run, self.source.images
        if run is None or images is None:
            return False
        with RunStore.read(run.store) as store:
            return fingerprint_of(store) == images.fingerprint

    @property
    def metadata(self) -> dict[str, str]:
        """What goes into a file of weights or a graph, as strings."""
        return {
            "class_names": json.dumps(list(self.rule.class_names)),
            "preprocessing": json.dumps(self.rule.seen.to_json()),
        }

    def held_out(self) -> HeldOut:
        """The test images, or random pixels where the images are gone; behind a backbone, which
        takes its time, some of them.

        That the test set is opened is recorded with the run.
        """
        images = self.source.images and self.source.images.shown
        if images is None:
            channels, height, width = self.rule.seen.input_shape
            shape = (RANDOM, height, width, channels)
            pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            return HeldOut(pixels, None, f"{RANDOM} images of random pixels")
        self.source.opened("export")
        words = f"the {number_of(len(images.y_test), 'test image')} of {images.name}"
        if self.backbone is None or len(images.y_test) <= BEHIND:
            return HeldOut(images.x_test, images.y_test, words)
        rows = np.linspace(0, len(images.y_test) - 1, BEHIND).round().astype(int)
        return HeldOut(images.x_test[rows], images.y_test[rows], f"{BEHIND} of {words}")

    def calibration(self) -> NDArray[np.uint8] | None:
        """Training images, evenly over the classes, (n, H, W, C); None where they are gone."""
        images = self.source.images
        if images is None:
            return None
        return np.ascontiguousarray(images.x_train[self.calibrating()])

    def calibrating(self) -> Integers:
        """The rows of these images among the training images, (n,)."""
        images = self.source.images
        assert images is not None
        number = max(images.classes, min(CALIBRATION, len(images.y_train) // 2))
        return self.split(number).train

    def split(self, number: int | None = None) -> Split:
        """Which training images its search trained on, and which it chose by; at most `number` of
        the former.
        """
        images, config = self.source.images, self.source.config
        assert images is not None
        return split(images, config.seed, config.data.valid_share, number)


def subject_at(
    place: Path, candidate: int | None = None, data: str | None = None, skip_broken: bool = False
) -> Subject:
    """The trained network at a place.

    Args:
        place: a run's folder, a folder of runs (its newest), the folder of a final training, or
            RUN/front/NUMBER.
        candidate: the number of one of the run's networks, after its final training where it had
            one as a network of the front, else with the weights that it was evaluated with; None:
            the winner after its final training, or the best of the search.
        data: the images, where they are elsewhere now.
        skip_broken: as of `open_source`.

    Raises:
        RunError: no trained network there, no such candidate, or its weights are gone.
        GenomeError: a damaged genome.
        DataError: its temperature cannot be one.
        ConfigError: as `backbone_of`.
    """
    from nanonas.training.final import read_result

    source = source_at(place, data, skip_broken)
    found = trained(place) if candidate is None else _candidate(source, candidate)
    module = found.module()
    source, why = _with_images(replace(source, genome=found.genome), named=data is not None)
    rule = module.preprocessing or (source.images.preprocessing if source.images else None)
    if rule is None:
        raise RunError(
            f"how the images of {str(place)!r} are prepared is not known, for its version kept no "
            f"such rule, and the images are gone: {why}; name them with --data"
        )
    result = read_result(found.weights.parent)
    backbone = backbone_of(rule, found.weights.parent)
    return Subject(module, rule, source, found.weights, result, why, found.temperature, backbone)


def _candidate(source: Source, number: int) -> Trained:
    """A network of a run: after its final training as one of the front, or with the weights that it
    was evaluated with. Raises `RunError`.
    """
    run = source.run
    if run is None:
        raise RunError(
            f"{str(source.folder)!r} is no run, so it has no candidate {number}; name a run"
        )
    if is_final(run.final_of(number)):
        return trained(run.final_of(number))
    with RunStore.read(run.store) as store:
        told = {one.number: one for one in store.told()}
    if number not in told:
        raise RunError(
            f"the run {str(run.path)!r} has no evaluated candidate {number}; "
            f"`{command('nanonas show', run.path)}` lists the best"
        )
    weights = weights_in(run.weights, number)
    if not weights.exists():
        kept = sorted(int(path.stem) for path in run.weights.glob("*.safetensors"))
        raise RunError(
            f"the weights of candidate {number} are gone, for a run keeps those of its best, here "
            f"of {', '.join(map(str, kept)) or 'none'}; name one of these"
        )
    known = {**told[number].evaluation.metrics, "candidate": number}
    genome = told[number].candidate.proposal.genome
    return Trained(replace(source.genome, genome=genome, known=known), weights)


def _with_images(source: Source, named: bool) -> tuple[Source, str]:
    """The source with its images, or without and the reason why.

    Raises:
        NanonasError: a user has named them, and they cannot be used.
    """
    try:
        return fitting(source), ""
    except (NanonasError, OSError) as error:
        if named:
            raise
        return source, str(error)
