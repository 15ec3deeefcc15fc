"""A trained network as a folder of C11 source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanonas.data.preprocessing import Preprocessing
from nanonas.deploy.c import source
from nanonas.deploy.c.folded import Tensors
from nanonas.deploy.c.quantised import Ends, IntegerNetwork, quantised
from nanonas.errors import InvalidInput
from nanonas.files import write_text
from nanonas.networks.network import Network

FILES = ("model.h", "model.c", "classes.h", "test_image.h", "main.c")


@dataclass(frozen=True)
class Written:
    """What was written, and what it takes on a microcontroller."""

    model: IntegerNetwork  # the reference: it computes what the C code computes
    files: tuple[Path, ...]

    @property
    def ram(self) -> int:
        """Bytes of the arena; the stack comes on top."""
        return self.model.plan.ram

    @property
    def flash(self) -> int:
        """Bytes of the constants; the code comes on top."""
        return self.model.plan.flash


def write_c(
    network: Network,
    tensors: Tensors,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    folder: Path,
    ends: Ends | None = None,
) -> Written:
    """Writes a trained network as C11 source: `model.h` and `model.c`, and `main.c`, a program that
    classifies the first of the images (`test_image.h`), or images from standard input.

    The source needs a compiler of C11 and nothing else: no heap, no floating point, no library. It
    computes, integer for integer, what `Written.model` does.

    Args:
        tensors: the module's state: its weights and the statistics of its norms, by name.
        preprocessing: says how pixels are normalised, and names the classes.
        images: for calibration, (N, H, W, C) in uint8, of the network's input shape, as they were
            stored for training; some hundreds of training images are enough.
        folder: is there already.
        ends: as of `quantised`.

    Raises:
        InvalidInput: an operation has no form in 8-bit integers, the images do not fit, or the
            classes have other names than there are.
        RunError: no permission, no space left, no such folder.
    """
    names = preprocessing.class_names
    if len(names) != network.classes:
        raise InvalidInput(
            f"the network tells {network.classes} classes apart, but {len(names)} have names; take "
            "the preprocessing that it was trained with"
        )
    model = quantised(network, tensors, preprocessing, images, ends)
    texts = (
        source.header(model),
        source.source(model),
        source.classes(names),
        source.example(images[0], model.logits(images[:1])[0]),
        source.main(),
    )
    paths = tuple(folder / name for name in FILES)
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)
    return Written(model, paths)
