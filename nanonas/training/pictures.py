"""The images of a training, on its device: drawn from a data set, subsampled or shrunk.

Where they take more than half of the device's memory they are not copied to it, nor shrunk copies
held: each batch is read from the decoded files, which are mapped. So memory is bounded, whatever
there are of images, and numbers are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nanonas.data.images import DataSpec, Images
from nanonas.data.sources import Labels
from nanonas.data.split import split
from nanonas.files import replacing
from nanonas.machine import cores
from nanonas.training.augment import normalise, to_device
from nanonas.training.device import memory_of

RESIDENT = 0.5  # share of a device's memory that all copies of images on it may take together
_MINIBATCH = 32  # images that show how much a parent's feature maps vary
_CHUNK_PIXELS = 1000 * 32 * 32  # of images that are shrunk at once: as floats they take four bytes


@dataclass(frozen=True)
class Pictures:
    """Images on a device, with their labels and how to normalise them."""

    x: Tensor  # uint8 (N, C, H, W), channels_last; on the device, or mapped from a file
    y: Tensor  # int64 (N,)
    mean: Tensor  # float32 (C,), in [0, 1]
    std: Tensor  # float32 (C,), above 0
    rows: Tensor | None = None  # int64 (M,): the images to use; None: all
    spec: DataSpec | None = None  # whose training images these are, for other processes
    names: tuple[str, ...] = ()  # of their files, where they are the test images of a folder
    # what people see of them, in the order of `x`, on the CPU: behind a backbone the images, none
    # where these are gone; None: `x` itself
    shown: Tensor | None = None

    def __len__(self) -> int:
        """How many images are used."""
        return len(self.y) if self.rows is None else len(self.rows)

    @property
    def device(self) -> torch.device:
        """Where they are trained on."""
        return self.mean.device

    def pixels(self, rows: Tensor) -> Tensor:
        """The images of some rows of `x`, (B,): a copy on the device, (B, C, H, W)."""
        return self.x[rows.to(self.x.device)].to(self.device)


def pictures(spec: DataSpec, device: str) -> tuple[Pictures, Pictures]:
    """The training and the validation images of a candidate, on the device; they share pixels.

    Raises:
        DataError, ConfigError: as `load` and `split`.
    """
    images = spec.load()
    parts = split(images, spec.seed, spec.valid_share, spec.train_images)
    both = final_pictures(spec, device)
    train = torch.from_numpy(parts.train).to(device)
    valid = torch.from_numpy(parts.valid).to(device)
    return replace(both, rows=train), replace(both, rows=valid)


def final_pictures(spec: DataSpec, device: str) -> Pictures:
    """All training images, validation included, on the device. Raises as `load`."""
    images = spec.load()
    resident = fits(images.x_train.nbytes, device)
    found = _on_device(images, images.x_train, images.y_train, device, resident)
    shown = _shown(images, test=False)
    return replace(found, spec=spec.pinned_to(images), shown=shown)


def held_out_pictures(spec: DataSpec, device: str) -> Pictures:
    """The test images, on the device: for after the last epoch. Raises as `load`."""
    images = spec.load()
    resident = fits(images.x_train.nbytes + images.x_test.nbytes, device)
    found = _on_device(images, images.x_test, images.y_test, device, resident)
    return replace(found, names=images.test_names, shown=_shown(images, test=True))


def _shown(images: Images, test: bool) -> Tensor | None:
    """What people see of training or test images, as `Pictures` has it."""
    if images.backbone is None:
        return None
    seen = images.shown
    if seen is None:
        return torch.empty(0, 1, 1, 1, dtype=torch.uint8)
    x, y = (seen.x_test, seen.y_test) if test else (seen.x_train, seen.y_train)
    return to_device(x, y)[0]


def part(pictures: Pictures, share: float, seed: int) -> Pictures:
    """A random `share` in (0, 1] of the pictures, 2 at least; without a copy of their pixels."""
    generator = torch.Generator().manual_seed(seed)
    number = max(2, round(share * len(pictures)))
    shuffled = torch.randperm(len(pictures), generator=generator)
    chosen = shuffled[:number].sort().values.to(pictures.device)
    return replace(pictures, rows=chosen if pictures.rows is None else pictures.rows[chosen])


def minibatch(train: Pictures, seed: int) -> Tensor:
    """A few training images, normalised, (B, C, H, W) on the device, that inherited weights are
    fitted on: the same for equal seeds.
    """
    chosen = part(train, min(1.0, _MINIBATCH / len(train)), seed)
    rows = chosen.rows
    if rows is None:
        rows = torch.arange(len(chosen), device=chosen.device)
    return normalise(chosen.pixels(rows), chosen.mean, chosen.std)


def fits(size: int, device: str, copies: int = 1) -> bool:
    """Whether images of so many bytes may lie in a device's memory.

    Args:
        copies: how many processes are going to have them, each for itself.
    """
    memory = memory_of(device)
    return memory is None or copies * size <= RESIDENT * memory


def shrunk(pictures: Pictures, image_size: int) -> Pictures:
    """A copy of the used pictures on the same device, scaled to `image_size` pixels a side
    (bilinear, antialiased).
    """
    rows = pictures.rows
    if rows is None:
        rows = torch.arange(len(pictures), device=pictures.device)
    shape = (len(rows), pictures.x.shape[1], image_size, image_size)
    x = torch.empty(
        shape, dtype=torch.uint8, device=pictures.device, memory_format=torch.channels_last
    )
    done = 0
    for chunk in _shrunk_chunks(pictures, rows, image_size):
        x[done : done + len(chunk)] = chunk
        done += len(chunk)
    return replace(pictures, x=x, y=pictures.y[rows], rows=None, spec=None)


def both_shrunk(
    train: Pictures, valid: Pictures, image_size: int, folder: Path | None
) -> tuple[Pictures, Pictures]:
    """As `shrunk`, of training and validation images that share their pixels; where all copies of
    the processes of this machine would not fit, one copy in a file that they map.

    Args:
        folder: in the cache, for the file; None: images that are in memory anyway.
    """
    size = (len(train) + len(valid)) * train.x.shape[1] * image_size**2
    if folder is None or _copies_fit(size, str(train.device)):
        return shrunk(train, image_size), shrunk(valid, image_size)
    path = _shrunk_file(train, image_size, folder)
    x, _ = to_device(np.load(path, mmap_mode="r"), np.zeros(0, np.int64))
    return replace(train, x=x, spec=None), replace(valid, x=x, spec=None)


def prepare_sizes(spec: DataSpec, sizes: set[int], device: str) -> None:
    """Writes the files of shrunk images that `both_shrunk` would write, before workers need them:
    for many images that takes minutes, in which a worker would seem to hang.
    """
    if not sizes:
        return
    images = spec.load()
    parts = split(images, spec.seed, spec.valid_share, spec.train_images)
    used = (len(parts.train) + len(parts.valid)) * images.input_shape[0]
    for image_size in sorted(sizes):
        if images.folder is not None and not _copies_fit(used * image_size**2, device):
            _shrunk_file(final_pictures(spec, device), image_size, images.folder)


def _copies_fit(size: int, device: str) -> bool:
    """Whether images of so many bytes may lie in the memory of each process."""
    return fits(size, device, cores() if torch.device(device).type == "cpu" else 1)


def _shrunk_file(pictures: Pictures, image_size: int, folder: Path) -> Path:
    """The .npy file with all of the pictures, used or not, shrunk; written if it is not there.

    Raises `RunError` as `replacing`.
    """
    n, channels = pictures.x.shape[:2]
    shape = (n, image_size, image_size, channels)
    # GPUs may round otherwise
    path = folder / f"x_train-{image_size}-{pictures.device.type}.npy"
    if path.exists() and np.load(path, mmap_mode="r").shape == shape:
        return path
    rows = torch.arange(n, device=pictures.device)
    with replacing(path) as part, part.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in _shrunk_chunks(pictures, rows, image_size):
            file.write(chunk.permute(0, 2, 3, 1).contiguous().cpu().numpy().tobytes())
    return path


def _shrunk_chunks(pictures: Pictures, rows: Tensor, image_size: int) -> Iterator[Tensor]:
    """The pictures of some rows, shrunk, (B, C, image_size, image_size) uint8 at a time."""
    height, width = pictures.x.shape[2:]
    size, number = (image_size, image_size), max(16, _CHUNK_PIXELS // (height * width))
    for chunk in torch.split(rows, number):
        floats = pictures.pixels(chunk).float()
        small = F.interpolate(floats, size=size, mode="bilinear", antialias=True)
        yield small.round().clamp(0, 255).to(torch.uint8)


def scaled(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """A batch of images, (B, C, H, W) uint8, at another height and width: bilinear, antialiased.

    On the CPU without a way through floats: 0.3 ms instead of 2.1 for 128 images of 32×32 to 24×24
    (one Zen 4 core).
    """
    if batch.device.type == "cpu":
        return F.interpolate(batch, size=size, mode="bilinear", antialias=True)
    return F.interpolate(batch.float(), size=size, mode="bilinear", antialias=True)


def _on_device(
    images: Images, x: NDArray[np.uint8], y: Labels, device: str, resident: bool
) -> Pictures:
    mean = torch.tensor(images.mean, dtype=torch.float32, device=device)
    std = torch.tensor(images.std, dtype=torch.float32, device=device)
    pixels, labels = to_device(x, y, device if resident else "cpu")
    return Pictures(pixels, labels.to(device), mean, std)
