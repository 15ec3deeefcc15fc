"""A trained network that classifies image files: a run's, by its own module, or a bundle's, by
onnxruntime. A bundle's Python is never run: it may come from anywhere.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats
from nanonas.data.preprocessing import Picture, Preprocessing
from nanonas.data.sources.folder import image_suffixes
from nanonas.deploy.admitting import IMAGE, LOGITS, admitted
from nanonas.errors import ConfigError, DataError, RunError, reason_for
from nanonas.files import json_in
from nanonas.maths.calibration import softmax
from nanonas.runs.backbones import backbone_of
from nanonas.runs.models import temperature_of, trained
from nanonas.text import command

if TYPE_CHECKING:
    from nanonas.training.backbone import Frozen
    from nanonas.training.modules import NetworkModule

GRAPHS = ("model.onnx", "model.int8.onnx")  # of a bundle
PREPROCESSING = "preprocessing.json"  # of a bundle: how its images are prepared
CALIBRATION = "calibration.json"  # of a bundle: {"temperature": 1.3}; missing: 1
AT_A_TIME = 64  # images
_PIXELS = 2**24  # of the images at a time, all channels: a bundle may ask for large ones

# uint8, (B, H, W, C), to logits, (B, classes)
Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Answer:
    """What is said of one image."""

    path: Path
    probabilities: Floats | None = None  # (classes,); None: it cannot be read
    error: str = ""  # why not


@dataclass(frozen=True)
class Classifier:
    """A network with what it takes to show it a file.

    Attributes:
        rule: how images are prepared.
        logits: the network.
        temperature: what logits are divided by before they become probabilities.
    """

    rule: Preprocessing
    logits: Logits
    temperature: float = 1.0
    at_a_time: int = AT_A_TIME  # images in a batch, at most

    @property
    def batch(self) -> int:
        """Images in a batch: fewer where they are large."""
        return max(1, min(self.at_a_time, _PIXELS // math.prod(self.rule.seen.input_shape)))

    def answers(self, paths: Iterable[Path]) -> Iterator[Answer]:
        """Of each file, in order; a broken one has its reason, and the others go on."""
        chunk: list[Path] = []
        for path in paths:
            chunk.append(path)
            if len(chunk) == self.batch:
                yield from self._of(chunk)
                chunk = []
        if chunk:
            yield from self._of(chunk)

    def probabilities(self, images: Sequence[Picture]) -> Floats:
        """Of each class for each image, (images, classes).

        Args:
            images: as of `Preprocessing.pixels`; they are decoded some at a time.

        Raises:
            DataError: an image cannot be read.
        """
        rows = [np.empty((0, len(self.rule.class_names)))]
        for start in range(0, len(images), self.batch):
            pixels = [self.rule.pixels(image) for image in images[start : start + self.batch]]
            rows.extend(row[None] for row in self._probabilities(pixels))
        return np.concatenate(rows)

    def _of(self, paths: Sequence[Path]) -> Iterator[Answer]:
        read: dict[int, NDArray[np.uint8]] = {}
        errors: dict[int, str] = {}
        for place, path in enumerate(paths):
            try:
                read[place] = self.rule.pixels(path)
            except DataError as error:  # noqa: PERF203  one broken image stops no other
                named = str(path) in str(error)
                errors[place] = str(error) if named else f"{path}: {error}"
        found = dict(zip(read, self._probabilities(list(read.values())), strict=True))
        for place, path in enumerate(paths):
            yield Answer(path, found.get(place), errors.get(place, ""))

    def _probabilities(self, pixels: Sequence[NDArray[np.uint8]]) -> Sequence[Floats]:
        if not pixels:
            return []
        logits = np.asarray(self.logits(np.stack(pixels)), np.float64)  # (B, classes)
        expected = (len(pixels), len(self.rule.class_names))
        if logits.shape != expected:
            raise RunError(
                f"the network gives logits of {logits.shape}, but its labels and images ask for "
                f"{expected}; export it again"
            )
        return list(softmax(logits, self.temperature))


def classifier(source: Path) -> Classifier:
    """The network of a bundle, a run, a folder of runs (its newest) or a final training.

    Raises:
        RunError: there is none, or a bundle's files cannot be used.
        ConfigError: a bundle needs onnxruntime, which is not installed.
        DataError: a bundle's rule for images is damaged, or a temperature is.
    """
    if has_graph(source):
        return of_graph(source)
    if (source / PREPROCESSING).exists():  # whose weights have other names than those of a run
        again = command("nanonas export", "RUN", "--to", source, "--formats onnx")
        raise RunError(
            f"the bundle {str(source)!r} has no {' or '.join(GRAPHS)}, which classify its images; "
            f"export it again with `{again}`"
        )
    return _of_run(source)


def has_graph(source: Path) -> bool:
    """Whether a folder holds a graph, and the rule by which their images are prepared."""
    graph = any((source / name).exists() for name in GRAPHS)
    return graph and (source / PREPROCESSING).exists()


def _of_run(source: Path) -> Classifier:
    found = trained(source)
    module = found.module()
    if module.preprocessing is None:
        raise RunError(
            f"how the images of {str(source)!r} are prepared is not known, for its version kept no "
            "such rule; train the network again with `nanonas train`"
        )
    backbone = backbone_of(module.preprocessing, found.weights.parent)
    return of_module(module, module.preprocessing, found.temperature, backbone)


def of_module(
    module: NetworkModule,
    rule: Preprocessing,
    temperature: float = 1.0,
    backbone: Frozen | None = None,
) -> Classifier:
    """A network by its own module, in eval mode and on the CPU.

    Args:
        backbone: that of the rule, if it has one.
    """
    import torch

    from nanonas.training.augment import normalise

    def logits(images: NDArray[np.uint8]) -> Any:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        with torch.inference_mode():
            seen = pixels if backbone is None else backbone(pixels)
            return module(normalise(seen, rule.mean, rule.std)).numpy()

    return Classifier(rule, logits, temperature)


def of_graph(folder: Path, name: str = "", threads: int = 0) -> Classifier:
    """A bundle's network by one of its graphs.

    Args:
        name: of `GRAPHS`; empty: the first that is there.
        threads: of each pass; 0: as many as onnxruntime chooses.

    Raises:
        ConfigError: onnxruntime is not installed.
        RunError: the graph cannot be used.
        DataError: the rule for images is damaged, or the temperature is.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            f"the bundle {str(folder)!r} needs onnxruntime: pip install 'nanonas[onnx]'"
        ) from None
    rule, temperature = _rule(folder / PREPROCESSING), _temperature(folder / CALIBRATION)
    path = folder / (name or next(one for one in GRAPHS if (folder / one).exists()))
    graph = admitted(path, rule)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone: they are raised, too
    try:
        session = onnxruntime.InferenceSession(
            graph.content, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001  onnxruntime's own classes share no other
        raise RunError(
            f"{str(path)!r} is no graph that onnxruntime can run: {reason_for(error)}; export it "
            "again"
        ) from None

    def logits(images: NDArray[np.uint8]) -> Any:
        try:
            return session.run([LOGITS], {IMAGE: images})[0]
        except Exception as error:  # noqa: BLE001  as above
            raise RunError(
                f"{str(path)!r} cannot classify images of {images.shape[1:]}: {reason_for(error)}; "
                "export it again"
            ) from None

    return Classifier(rule, logits, temperature, graph.images)


def _rule(path: Path) -> Preprocessing:
    """A bundle's rule for images. Raises `DataError` where it is damaged, or asks for too much."""
    values = _object(path)
    try:
        return Preprocessing.from_json(values)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from None


def _temperature(path: Path) -> float:
    """A bundle's temperature. Raises `DataError` where it is damaged."""
    return temperature_of(_object(path), str(path)) if path.exists() else 1.0


def _object(path: Path) -> Mapping[str, Any]:
    """What a file of a bundle holds. Raises `DataError` where that is no JSON object."""
    try:
        values = json_in(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read as JSON: {error}; export the network again"
        ) from None
    if not isinstance(values, dict):
        raise DataError(f"{str(path)!r} holds no JSON object; export the network again")
    return values


def image_files(names: Iterable[Path]) -> Iterator[Path]:
    """The files that paths stand for: of a folder all images in it and below it, by the suffixes
    that Pillow knows, in the order of their names; any other path as it is.
    """
    for name in names:
        if not name.is_dir():
            yield name
            continue
        for parent, folders, files in os.walk(name):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            for file in sorted(files):
                path = Path(parent, file)
                if not file.startswith(".") and path.suffix.lower() in image_suffixes():
                    yield path
