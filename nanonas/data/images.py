"""Images for a search: loaded once, into a cache that all processes share.

`load` decodes a source into plain .npy files and maps them into memory; `nanonas.data.split`
divides the training images. The test images are kept apart from both and choose nothing. What can
be loaded is the table `sources.SOURCES`.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from nanonas.core import Shape
from nanonas.data.backbone import Backbone
from nanonas.data.cache import DAMAGED, fill, keep, read_folder, read_rows, reading
from nanonas.data.kept import cache_folder
from nanonas.data.preprocessing import Preprocessing
from nanonas.data.sources import Decoded, Depth, Labels, Reader, find_reader, title
from nanonas.data.sources.groups import groups_file
from nanonas.errors import ConfigError, DataError
from nanonas.files import in_full
from nanonas.text import number_of

SMALLEST = 8  # pixels a side: smaller images leave nothing for strides and kernels to work on
_CACHE_VERSION = 4  # part of every key: raise it when decoding or the stored files change


@dataclass(frozen=True, eq=False)
class Images:
    """A decoded data set. It pickles as the path of its cache, so that a worker maps the same
    memory.

    The source's own validation images, if any, are the last `own_valid` of `x_train`.
    """

    name: str
    class_names: tuple[str, ...]
    x_train: NDArray[np.uint8]  # (N, H, W, C), read-only
    y_train: Labels  # (N,), in [0, classes)
    x_test: NDArray[np.uint8]  # (M, H, W, C), read-only
    y_test: Labels  # (M,)
    mean: tuple[float, ...]  # (C,), of the training images' pixels in [0, 1]
    std: tuple[float, ...]  # (C,), above 0
    flip: bool  # whether an image mirrored left to right still belongs to its class
    fingerprint: str  # a hash of names, pixels and labels, whatever the path
    own_valid: int = 0
    folder: Path | None = None  # in the cache; None: in memory only
    sizes: str = ""  # of the images before they were decoded; empty: those that they have
    remarks: tuple[str, ...] = ()  # of the reader, such as what was passed over
    depth: Depth = field(default_factory=Depth)  # how images of more than 8 bits became 8 bits
    broken: tuple[str, ...] = ()  # "NAME: REASON" of those that were passed over, all of them
    own_test: bool = False  # whether the test images are the source's own
    # of each image, (N,) and (M,): the number of its group, where images are grouped
    groups_train: NDArray[np.int32] | None = None
    groups_test: NDArray[np.int32] | None = None
    # behind a frozen backbone, "pixels" are values of its feature maps, from 0 to 255
    backbone: Backbone | None = None
    pictured: Path | None = None  # the folder of the cache with the images that it has seen

    @property
    def shown(self) -> Images | None:
        """The images as people see them; None where those that a backbone has seen have gone from
        the cache.
        """
        if self.backbone is None:
            return self
        with suppress(DataError):
            return None if self.pictured is None else open_cached(self.pictured, self.flip)
        return None

    @property
    def input_shape(self) -> Shape:
        """(channels, height, width)."""
        height, width, channels = self.x_train.shape[1:]
        return (channels, height, width)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def test_names(self) -> tuple[str, ...]:
        """The test images' files, relative to the source and in the order of `x_test`; empty where
        they are no files. Read when asked for.
        """
        try:
            names = () if self.folder is None else read_rows(self.folder).names
        except (*DAMAGED, KeyError):
            return ()
        return names[len(self.y_train) :]

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes what a network that was trained on these sees."""
        return Preprocessing(
            self.input_shape, self.mean, self.std, self.class_names, self.depth, self.backbone
        )

    def for_training(self) -> Images:
        """These without the test images, in memory: what is sent to where candidates are trained.

        Their pixels are not copied.
        """
        groups = self.groups_train
        return replace(
            self,
            x_train=np.asarray(self.x_train).view(np.ndarray),
            y_train=np.asarray(self.y_train).view(np.ndarray),
            x_test=np.empty((0, *self.x_test.shape[1:]), np.uint8),
            y_test=np.empty(0, self.y_test.dtype),
            groups_train=None if groups is None else np.asarray(groups).view(np.ndarray),
            groups_test=None,
            folder=None,
            broken=(),
        )

    def in_words(self) -> str:
        """What was found, as a line: 'photos: 4 classes ("ant": 120 … "owl": 80), 400 + 50 + 50
        images of 24×24 to 640×480; passed over: 8 .heic, 2 .txt'.
        """
        counts = np.bincount(self.y_train, minlength=self.classes)
        most, least = int(np.argmax(counts)), int(np.argmin(counts))
        if counts[most] == counts[least]:
            ends = f"{number_of(counts[most], 'image')} each"
        else:
            first, last = self.class_names[most], self.class_names[least]
            # quoted, because a class may be called "1" or "birds of prey"
            ends = f'"{first}": {counts[most]:,} … "{last}": {counts[least]:,}'
        parts = [len(self.y_train) - self.own_valid, self.own_valid, len(self.y_test)]
        numbers = " + ".join(f"{number:,}" for number in parts if number)
        _, height, width = self.input_shape
        sizes = self.sizes or f"{width}×{height}"
        line = f"{self.name}: {self.classes} classes ({ends}), {numbers} images of {sizes}"
        return "; ".join([line, *self.remarks])

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self.folder is None:
            return super().__reduce__()
        return open_cached, (self.folder, self.flip)


def load(
    source: str,
    image_size: int | None = None,
    *,
    skip_broken: bool = False,
    flip: bool | None = None,
    cache: Path | None = None,
    groups: str | None = None,
) -> Images:
    """The images of a source, from the cache or into it.

    Args:
        source: a name in `sources.SOURCES`, or a path that one of them recognises.
        image_size: side in pixels of the square that images are scaled to, 8 or more; None for
            their own size, and for folders and parquet with images of several sizes, or large
            ones, 32 or 64.
        skip_broken: whether to go on without images that cannot be read, which are an error
            otherwise; `Images.broken` lists them.
        flip: whether an image mirrored left to right still belongs to its class; None: yes for
            colour images, no for grey ones, which are mostly digits and letters.
        cache: its folder; None for `cache_folder()`.
        groups: which images belong together, so that none judges a network that was trained on
            another: a regular expression with one part in parentheses, searched for in the path of
            each image within a folder; a CSV file with the columns path and group; or, for an .npz,
            the name of an array. None: each image is on its own.

    A source without a test set has 20 % of each class's images split off as one, always the same,
    whatever a run's seed is; of grouped images, about as many in whole groups.

    Raises:
        DataError: no such source, or its images or labels cannot be used; or the cache cannot be
            written.
        ConfigError: `image_size` is too small, or `groups` is no regular expression.
    """
    if image_size is not None and image_size < SMALLEST:
        raise ConfigError(f"image_size must be {SMALLEST} pixels or more, but is {image_size}")
    kind, reader = find_reader(source)
    root = in_full(cache or cache_folder()).absolute()
    name = title(source)
    safe_name = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    key = _key(kind, reader, image_size, skip_broken, source, groups)
    folder = root / "decoded" / f"{safe_name}-{key}"
    try:
        return open_cached(folder, flip)
    except DataError:  # missing or damaged: decoded below
        pass
    start = time.perf_counter()
    with reading(source):
        decoded = reader.decode(image_size, root, skip_broken, groups)
    _check(decoded, source)
    try:
        fill(folder, decoded, name, source)
    except OSError as error:
        raise DataError(
            f"the cache {str(root)!r} cannot be written: {error.strerror or error}; free space or "
            "permissions there, or set NANONAS_CACHE to another folder"
        ) from None
    logger.debug(f"{source}: decoded in {time.perf_counter() - start:.1f} s into {folder}")
    return open_cached(folder, flip)


def open_cached(folder: Path, flip: bool | None = None) -> Images:
    """The images that `load` wrote into a folder of the cache, mapped read-only.

    Args:
        folder: in the cache.
        flip: as in `load`.

    Raises:
        DataError: the folder is missing or damaged.
    """
    try:
        about, arrays = read_folder(folder)
        behind, pictured = about.get("backbone"), about.get("pictured")
        if flip is None:
            flip = about.get("flip", arrays["x_train"].shape[3] == 3)
        return Images(
            name=about["name"],
            class_names=tuple(about["class_names"]),
            mean=tuple(about["mean"]),
            std=tuple(about["std"]),
            flip=flip,
            fingerprint=about["fingerprint"],
            own_valid=about["own_valid"],
            own_test=about["own_test"],
            folder=folder,
            sizes=about["sizes"],
            remarks=tuple(about["remarks"]),
            depth=Depth(**about["depth"]),
            broken=tuple(about["broken"]),
            backbone=None if behind is None else Backbone.from_json(behind),
            pictured=None if pictured is None else Path(pictured),
            **arrays,
        )
    except (*DAMAGED, KeyError, TypeError) as error:
        raise DataError(
            f"{str(folder)!r} holds no decoded images ({error}); load the data again"
        ) from None


def _check(decoded: Decoded, source: str) -> None:
    """Raises `DataError` for images that are too small, and labels that don't fit the classes."""
    form, names = decoded.form, decoded.class_names
    if min(form.height, form.width) < SMALLEST:
        raise DataError(
            f"the images of {source!r} are {form.height}x{form.width} pixels, but "
            f"{SMALLEST}x{SMALLEST} is the least; give an image_size to scale them up"
        )
    parts = {"training": decoded.train, "validation": decoded.valid, "test": decoded.test}
    for part_name, part in parts.items():
        if part is None:
            continue
        outside = part.labels[(part.labels < 0) | (part.labels >= len(names))]
        if len(outside):
            raise DataError(
                f"{source!r} has the label {outside[0]} among its {part_name} images, but its "
                f"classes are numbered 0 to {len(names) - 1}; correct the labels, or "
                "leave out that part if it has none"
            )
    counts = np.bincount(decoded.train.labels, minlength=len(names))
    present = np.count_nonzero(counts)
    if present < 2:
        raise DataError(
            f"{source!r} has training images of {number_of(int(present), 'class', 'classes')}, but "
            "2 are the least"
        )
    if present < len(names):
        raise DataError(
            f"{source!r} has no training image of class {names[int(np.argmin(counts))]!r}; number "
            "the classes from 0 without gaps, or add images of it"
        )


def _key(
    kind: str,
    reader: Reader,
    image_size: int | None,
    skip_broken: bool,
    source: str,
    groups: str | None,
) -> str:
    """A hash of the reader, the options, and its files' names, sizes and modification times."""
    listed = None if groups is None else groups_file(groups)
    with reading(source):
        stats = [(str(path), path.stat()) for path in reader.files()]
        if listed is not None and listed.is_file():
            stats.append((str(listed), listed.stat()))
    files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    options = [image_size, skip_broken, groups]
    about = json.dumps([_CACHE_VERSION, kind, repr(reader), *options, files])
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def laid_out(images: Images) -> Images:
    """Images of another machine, in this one's cache, where other processes find them by their
    path. They stay there as others do: until they are unused for long.

    Args:
        images: as `Images.for_training` has them; their groups are left out.

    Raises:
        OSError: the cache cannot be written.
    """
    root = in_full(cache_folder()).absolute()
    folder = root / "decoded" / f"sent-{images.fingerprint}"
    with suppress(DataError):
        return open_cached(folder, images.flip)
    arrays = {name: getattr(images, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    about = {
        "name": images.name,
        "class_names": images.class_names,
        "mean": images.mean,
        "std": images.std,
        "fingerprint": images.fingerprint,
        "own_valid": images.own_valid,
        "own_test": images.own_test,
        "sizes": images.sizes,
        "remarks": images.remarks,
        "depth": asdict(images.depth),
        "broken": images.broken,
        "backbone": None if images.backbone is None else images.backbone.to_json(),
    }
    keep(folder, about, arrays)
    return open_cached(folder, images.flip)


_held: dict[str, Images] = {}  # by fingerprint


def hold(images: Images) -> None:
    """Keeps images in this process: a `DataSpec` that is pinned to them takes these from now on,
    and neither the cache nor the source.
    """
    _held[images.fingerprint] = images


@dataclass(frozen=True)
class DataSpec:
    """Which images a run uses, and how they are split: small and picklable, for worker processes.

    Most fields are the arguments of `load` and `split`. `pinned` and `fingerprint` are of the
    images that a run was begun with: whatever happens to the source, it goes on with these, or not
    at all.
    """

    source: str
    image_size: int | None = None
    valid_share: float = 0.1
    train_images: int | None = None
    seed: int = 0  # of the split
    pinned: Path | None = None  # the folder of the cache that they were decoded into
    fingerprint: str | None = None  # None: any images
    skip_broken: bool = False  # as of `load`
    groups: str | None = None  # as of `load`
    backbone: str | None = None  # whose maps are seen instead: only those that it is pinned to

    def pinned_to(self, images: Images) -> DataSpec:
        """These images and no others."""
        return replace(self, pinned=images.folder, fingerprint=images.fingerprint)

    def load(self) -> Images:
        """The images. Raises as `load`, and `DataError` when they are others than those pinned."""
        if self.fingerprint in _held:
            return _held[self.fingerprint]
        if self.pinned is not None:
            with suppress(DataError):  # gone from the cache: the source may still hold the same
                images = open_cached(self.pinned)
                if images.fingerprint == self.fingerprint:
                    return images
        if self.backbone is not None:
            raise DataError(
                f"the feature maps that {self.backbone!r} made of {self.source!r} are gone from "
                "the cache; resume the run, and they are made again"
            )
        images = load(
            self.source, self.image_size, skip_broken=self.skip_broken, groups=self.groups
        )
        if self.fingerprint not in (None, images.fingerprint):
            raise DataError(changed_message(self.source))
        return images


def changed_message(source: str, run: Path | None = None) -> str:
    """The sentence for images that are others than those that a run was begun with."""
    where = "" if run is None else f" in {run}"
    return (
        f"the images in {source!r} have changed since the run{where} was begun; bring back the old "
        "ones, or begin a new run"
    )
