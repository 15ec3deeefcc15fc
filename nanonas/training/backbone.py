"""Networks of timm as frozen backbones: what they make of images, and they themselves in front of
a network that was found behind them.

Nothing imports this, and with it timm, but to make maps that the cache does not hold, and to
classify images.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nanonas.data.backbone import TUNED, WEIGHTS, Backbone, name_and_file
from nanonas.data.cache import fill, read_rows
from nanonas.data.found import say
from nanonas.data.images import SMALLEST, Images, open_cached
from nanonas.data.sources import Decoded, Form, Part
from nanonas.errors import ConfigError, DataError, RunError, reason_for
from nanonas.text import duration, number_of
from nanonas.training.timm_models import Stage, config_of, model_of
from nanonas.training.weights import digest_of, load_weights, metadata, save_weights

LARGEST = 224  # pixels a side of the images that it sees where nobody says another number
_LEAST = 4  # values a side of the maps that are taken
_VERSION = 2  # part of every key: raise it when maps are made otherwise
_BATCH = 64  # images at a time
# What of a channel's values is cut off, at each end: the largest are several times as far from the
# rest, and 256 levels would be spent on them.
_CUT = 0.001
_SCALED_BY = 1024  # training images that the scale is taken from
_VALUES = 2**25  # of them, at most
_SLOW = 10.0  # seconds from which on it is said how long it will take


class Frozen(nn.Module):
    """A backbone at work: images, (B, 1 or 3, H, W) in [0, 255], to its maps, (B, C, h, w) in
    [0, 255], which are not rounded.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, body: nn.Module, about: Backbone) -> None:
        super().__init__()
        self.body, self.about = body, about
        high = np.array(about.high)
        for name, values in (
            ("mean", about.mean),
            ("std", about.std),
            ("low", about.low),
            ("span", high - about.low),
        ):
            numbers = torch.tensor(np.array(values), dtype=torch.float32)
            self.register_buffer(name, numbers.view(-1, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def maps(self, images: Tensor) -> Tensor:
        """What the model makes of images, (B, C, h, w), as large as a search needs it."""
        pixels = images.float().expand(-1, 3, -1, -1)  # a grey image is three equal channels
        maps: Tensor = self.body((pixels / 255 - self.mean) / self.std)[-1]
        if maps.shape[1] != len(self.low):  # some models have channels last
            maps = maps.permute(0, 3, 1, 2)
        times = self.about.repeated
        return maps if times == 1 else F.interpolate(maps, scale_factor=times, mode="nearest")

    def forward(self, images: Tensor) -> Tensor:
        return ((self.maps(images) - self.low) * (255 / self.span)).clamp(0, 255)


def input_size(words: str) -> int:
    """Height and width of the images that a backbone was trained on, up to `LARGEST`.

    Args:
        words: as of `name_and_file`.

    Raises:
        ConfigError: timm is not installed, or knows no such model.
    """
    name, file = name_and_file(words)
    return min(LARGEST, int(config_of(name, needs_weights=file is None).input_size[-1]))


def behind(images: Images, words: str, device: str = "cpu", kept: Path | None = None) -> Images:
    """What a backbone makes of images: its maps in their place, from the cache or into it.

    Args:
        images: in the cache, of the size that the backbone shall see.
        words: the backbone, as of `name_and_file`.
        device: where maps are made.
        kept: a run's own copy of the weights; where it exists, maps that are not in the cache are
            made with these.

    The maps are those of the deepest stage whose height and width are 4 or more; where they are
    below 8, each value is repeated along rows and columns.

    Raises:
        ConfigError: timm is not installed, or knows no such model; its weights cannot be had; or it
            cannot see images of this size.
        DataError: the cache cannot be written.
    """
    assert images.folder is not None  # whoever loads images puts them there
    name, file = name_and_file(words)
    known_by = [_VERSION, images.fingerprint, name, _stamp(file), *_own(kept)]
    key = hashlib.sha256(json.dumps(known_by).encode()).hexdigest()[:16]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{images.name}-{name}")
    folder = images.folder.with_name(f"{plain}-{key}")
    try:
        return open_cached(folder, images.flip)
    except DataError:  # missing or damaged: made below
        pass
    begin = time.perf_counter()
    frozen = _scaled(_chosen(name, file, kept, images), images, device)
    about = frozen.about
    identity = [images.fingerprint, name, about.digest, about.stage, about.image_shape]
    more = {
        "fingerprint": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16],
        "own_test": images.own_test,
        "flip": images.flip,
        "backbone": about.to_json(),
        "pictured": str(images.folder),
    }
    try:
        fill(
            folder,
            _decoded(images, frozen, device),
            images.name,
            images.name,
            more,
            lambda place: save_weights(frozen.body, place / WEIGHTS, {"digest": about.digest}),
        )
    except OSError as error:
        raise DataError(
            f"the cache {str(folder.parent)!r} cannot be written: {error.strerror or error}; free "
            "space or permissions there, or set NANONAS_CACHE to another folder"
        ) from None
    logger.debug("{}: maps made in {:.1f} s into {}", name, time.perf_counter() - begin, folder)
    return open_cached(folder, images.flip)


def opened(about: Backbone, weights: Path | None) -> Frozen:
    """The backbone of a network that was found behind it.

    Args:
        weights: a run's own copy of them; None: they are had from timm.

    Raises:
        ConfigError: timm is not installed, knows no such model, or its weights cannot be had.
        RunError: the weights are damaged, or others than those that the network was found behind.
    """
    stage = Stage(about.stage, about.image_shape)
    body = model_of(about.name, None, stage, pretrained=weights is None)
    if weights is not None:
        load_weights(body, weights)
    if (found := digest_of(body.state_dict())) != about.digest:
        place = "timm has now" if weights is None else f"lie in {str(weights)!r}"
        raise RunError(
            f"the network was found behind weights of {about.name} with the digest "
            f"{about.digest:.16}, but those that {place} have {found}; bring back {WEIGHTS} of its "
            "run"
        )
    return Frozen(body, about)


# --- making maps ----------------------------------------------------------------------------------


def _decoded(images: Images, frozen: Frozen, device: str) -> Decoded:
    """The maps of images as a source has them, made as they are asked for."""
    assert images.folder is not None
    number, valid = len(images.y_train), images.own_valid
    ends = {"train": (0, number - valid), "valid": (number - valid, number)}
    rows, places = read_rows(images.folder), np.arange(number + len(images.y_test))
    parts: dict[str, Part] = {}
    for part, (start, end) in {**ends, "test": (0, len(images.y_test))}.items():
        test = part == "test"
        x, y = (images.x_test, images.y_test) if test else (images.x_train, images.y_train)
        groups = images.groups_test if test else images.groups_train
        first = number + start if test else start
        parts[part] = Part(
            np.asarray(y[start:end]),
            _rounded(frozen, x[start:end], device),
            rows.where((places >= first) & (places < first + end - start)),
            None if groups is None else tuple(map(str, groups[start:end].tolist())),
        )
    channels, height, width = frozen.about.image_shape
    with torch.inference_mode():
        shape = frozen(torch.zeros(1, channels, height, width, device=device)).shape
    about = f"seen as maps of {shape[3]}×{shape[2]}×{shape[1]} by {frozen.about.in_words}, frozen"
    return Decoded(
        images.class_names,
        Form(*shape[1:]),
        parts["train"],
        parts["valid"] if valid else None,
        parts["test"],
        images.sizes or f"{width}×{height}",
        (*images.remarks, about),
        images.depth,
        images.broken,
    )


def _rounded(frozen: Frozen, x: NDArray[np.uint8], device: str) -> Iterator[NDArray[np.uint8]]:
    """The maps of images, (N, H, W, C), as uint8, (B, h, w, C) at a time."""
    for batch in _batches(x, device):
        with torch.inference_mode():
            maps = frozen(batch).round().to(torch.uint8).permute(0, 2, 3, 1)
        yield maps.contiguous().cpu().numpy()


def _batches(x: NDArray[np.uint8], device: str) -> Iterator[Tensor]:
    """Images, (N, H, W, C), on the device, (B, C, H, W) at a time."""
    for start in range(0, len(x), _BATCH):
        pixels = np.array(x[start : start + _BATCH])  # a copy: what is mapped is read-only
        yield torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)


def _scaled(frozen: Frozen, images: Images, device: str) -> Frozen:
    """The backbone with its scale: taken from training images alone."""
    frozen = frozen.to(device)
    shape = frozen.about.image_shape
    with torch.inference_mode():
        size = frozen.maps(torch.zeros(1, *shape, device=device)).numel()
    number = max(1, min(_SCALED_BY, len(images.y_train), _VALUES // size))
    rows = np.sort(np.random.default_rng(0).permutation(len(images.y_train))[:number])
    begin, found = time.perf_counter(), []
    for batch in _batches(images.x_train[rows], device):
        with torch.inference_mode():
            maps = frozen.maps(batch)
        found.append(maps.permute(0, 2, 3, 1).flatten(0, 2).cpu().numpy())  # (values, C)
    total = len(images.y_train) + len(images.y_test)
    seconds = (time.perf_counter() - begin) / number * total
    if seconds > _SLOW:
        whole = number_of(total, "image")
        say(f"{frozen.about.name} looks at {whole} once, for about {duration(seconds)}")
    values = np.concatenate(found)
    if not np.isfinite(values).all():
        raise ConfigError(
            f"some values of the backbone {frozen.about.name} are no numbers; take another one"
        )
    low, high = np.quantile(values, (_CUT, 1 - _CUT), axis=0)
    high = np.where(high > low, high, low + 1)  # a channel that is always the same becomes 0
    about = {**frozen.about.to_json(), "low": low.tolist(), "high": high.tolist()}
    return Frozen(frozen.body, Backbone.from_json(about)).to(device)


def _chosen(name: str, file: Path | None, kept: Path | None, images: Images) -> Frozen:
    """The model up to the stage whose maps are taken, with a scale that does nothing yet."""
    config = config_of(name, needs_weights=file is None and (kept is None or not kept.exists()))
    shape = images.input_shape
    height, width = shape[1:]
    example = torch.zeros(1, 3, height, width)
    whole = model_of(name, None, None, pretrained=False)
    try:
        with torch.inference_mode():
            sizes = [maps.shape for maps in whole(example)]
    except Exception as error:  # noqa: BLE001  each model raises its own
        raise ConfigError(
            f"the backbone {name} cannot see images of {height}×{width}: {reason_for(error)}; "
            "give it larger ones with --image-size, or take another backbone"
        ) from None
    info = cast(Any, whole).feature_info
    sides = [  # where channels are last, the channels are
        min(size[1:3] if size[1] != number else size[2:])
        for size, number in zip(sizes, info.channels(), strict=True)
    ]
    fitting = [place for place, side in enumerate(sides) if side >= _LEAST]
    if not fitting:
        raise ConfigError(
            f"the backbone {name} makes maps of {max(sides)}×{max(sides)} at most of images of "
            f"{height}×{width}, but {_LEAST}×{_LEAST} are the least; give it larger ones with "
            "--image-size"
        )
    stage = Stage(int(info.out_indices[fitting[-1]]), shape)
    if kept is not None and kept.exists():
        body = model_of(name, None, stage, pretrained=False)
        load_weights(body, kept)
    else:
        body = model_of(name, file, stage, pretrained=True)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        body(example)
    number = info.channels()[fitting[-1]]
    about = Backbone(
        name,
        digest_of(body.state_dict()),
        shape,
        stage.number,
        math.ceil(SMALLEST / sides[fitting[-1]]),
        tuple(map(float, config.mean)),
        tuple(map(float, config.std)),
        (0.0,) * number,
        (255.0,) * number,
        sum(tensor.numel() for tensor in body.parameters()),
        counter.get_total_flops() // 2,
    )
    return Frozen(body, about)


def _own(kept: Path | None) -> list[str]:
    """What a run's own copy of weights is known by in the cache, where they have learnt; nothing of
    those that a name stands for.
    """
    about = {} if kept is None or not kept.exists() else metadata(kept)
    return [about["digest"]] if TUNED in about else []


def _stamp(file: Path | None) -> list[Any]:
    """What a file is known by in the cache; nothing of weights that timm has."""
    if file is None or not file.exists():
        return []
    stat = file.stat()
    return [str(file.resolve()), stat.st_size, stat.st_mtime_ns]
