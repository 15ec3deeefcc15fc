"""Networks of timm as frozen backbones: what they make of images, and they themselves in front of
a network that was found behind them.

Nothing else here knows timm (https://github.com/huggingface/pytorch-image-models), nor does
anything import it but to make maps that the cache does not hold, and to classify images.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nanonas.core import Shape
from nanonas.data.backbone import Backbone, named
from nanonas.data.cache import fill, read_rows
from nanonas.data.found import say
from nanonas.data.images import SMALLEST, Images, open_cached
from nanonas.data.sources import Decoded, Form, Part
from nanonas.errors import ConfigError, DataError, RunError, reason_for
from nanonas.text import duration, number_of
from nanonas.training.weights import load_weights, save_weights

WEIGHTS = "backbone.safetensors"  # in the cache, beside the maps, and in the folder of a run
LARGEST = 224  # pixels a side of the images that it sees where nobody says another number
_VERSION = 1  # part of every key: raise it when maps are made otherwise
_BATCH = 64  # images at a time
# What of a channel's values is cut off, at each end: the largest are several times as far from the
# rest, and 256 levels would be spent on them.
_CUT = 0.001
_SCALED_BY, _VALUES = (
    1024,
    2**25,
)  # training images that the scale is taken from, and values of them
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
        """What the model makes of images, (B, C, h, w), as it is."""
        pixels = images.float().expand(-1, 3, -1, -1)  # a grey image is three equal channels
        maps: Tensor = self.body((pixels / 255 - self.mean) / self.std)[-1]
        # some models have channels last
        return maps if maps.shape[1] == len(self.low) else maps.permute(0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return ((self.maps(images) - self.low) * (255 / self.span)).clamp(0, 255)


def input_size(words: str) -> int:
    """Height and width of the images that a backbone was trained on, up to `LARGEST`.

    Args:
        words: as of `named`.

    Raises:
        ConfigError: timm is not installed, or knows no such model.
    """
    name, file = named(words)
    return min(LARGEST, int(_known(name, needs_weights=file is None).input_size[-1]))


def behind(images: Images, words: str, device: str = "cpu", kept: Path | None = None) -> Images:
    """What a backbone makes of images: its maps in their place, from the cache or into it.

    Args:
        images: in the cache, of the size that the backbone shall see.
        words: the backbone, as of `named`.
        device: where maps are made.
        kept: a run's own copy of the weights; where it exists, maps that are not in the cache are
            made with these.

    The maps are those of the deepest stage whose height and width are 8 or more.

    Raises:
        ConfigError: timm is not installed, or knows no such model; its weights cannot be had; or it
            cannot see images of this size.
        DataError: the cache cannot be written.
    """
    assert images.folder is not None  # whoever loads images puts them there
    name, file = named(words)
    key = hashlib.sha256(
        json.dumps([_VERSION, images.fingerprint, name, _stamp(file)]).encode()
    ).hexdigest()[:16]
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
    stage = _Stage(about.stage, about.image_shape)
    body = _made(about.name, None, stage, had=weights is None)
    if weights is not None:
        load_weights(body, weights)
    if (found := _digest(body)) != about.digest:
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


# --- models of timm -------------------------------------------------------------------------------


def _chosen(name: str, file: Path | None, kept: Path | None, images: Images) -> Frozen:
    """The model up to the stage whose maps are taken, with a scale that does nothing yet."""
    config = _known(name, needs_weights=file is None and (kept is None or not kept.exists()))
    shape = images.input_shape
    height, width = shape[1:]
    example = torch.zeros(1, 3, height, width)
    whole = _made(name, None, None, had=False)
    try:
        with torch.inference_mode():
            sizes = [maps.shape for maps in whole(example)]
    except Exception as error:  # noqa: BLE001  each model raises its own
        raise ConfigError(
            f"the backbone {name} cannot see images of {height}×{width}: {reason_for(error)}; "
            "leave out --image-size, or take another backbone"
        ) from None
    info = cast(Any, whole).feature_info
    sides = [  # where channels are last, the channels are
        min(size[1:3] if size[1] != number else size[2:])
        for size, number in zip(sizes, info.channels(), strict=True)
    ]
    fitting = [place for place, side in enumerate(sides) if side >= SMALLEST]
    if not fitting:
        raise ConfigError(
            f"the backbone {name} makes maps of {max(sides)}×{max(sides)} at most of images of "
            f"{height}×{width}, but {SMALLEST}×{SMALLEST} are the least; give it larger ones with "
            "--image-size"
        )
    stage = _Stage(int(info.out_indices[fitting[-1]]), shape)
    if kept is not None and kept.exists():
        body = _made(name, None, stage, had=False)
        load_weights(body, kept)
    else:
        body = _made(name, file, stage, had=True)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        body(example)
    number = info.channels()[fitting[-1]]
    about = Backbone(
        name,
        _digest(body),
        shape,
        stage.number,
        tuple(map(float, config.mean)),
        tuple(map(float, config.std)),
        (0.0,) * number,
        (255.0,) * number,
        sum(tensor.numel() for tensor in body.parameters()),
        counter.get_total_flops() // 2,
    )
    return Frozen(body, about)


def _pruned(body: nn.Module, image_shape: Shape) -> nn.Module:
    """A model that gives one map, without what that does not depend on: some of timm's compute all
    stages, whichever is asked for. That of an EfficientNet has two thirds of its parameters behind
    a sixteenth of the image's side.
    """
    example = torch.zeros(1, 3, *image_shape[1:])
    pruned = copy.deepcopy(body)
    named = [(name, one) for name, one in body.named_parameters() if one.requires_grad]
    with torch.enable_grad():
        maps: Tensor = body(example)[-1]
    slopes = torch.autograd.grad(maps.sum(), [one for _, one in named], allow_unused=True)
    unused = {name for (name, _), slope in zip(named, slopes, strict=True) if slope is None}

    def prune(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            whole = f"{prefix}{name}."
            below = [f"{whole}{one}" for one, _ in child.named_parameters()]
            lists = isinstance(child, (nn.ModuleList, nn.ModuleDict))  # which are looked into
            if below and unused.issuperset(below) and not lists:
                setattr(module, name, nn.Identity())
            else:
                prune(child, whole)

    prune(pruned, "")
    try:
        with torch.inference_mode():
            same = torch.equal(pruned(example)[-1], maps)
    except Exception:  # noqa: BLE001  a model that reads what is gone raises its own
        same = False
    return pruned if same else body


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what timm warns of: weights that are not needed for maps."""
    logger, before = logging.getLogger("timm"), logging.getLogger("timm").level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _timm() -> Any:
    """The library. Raises `ConfigError` where it is not there, or does not work."""
    try:
        import timm
    except ImportError:
        raise ConfigError("a backbone needs timm: pip install 'nanonas[vision]'") from None
    except Exception as error:  # noqa: BLE001  of torchvision, when PyTorch is another build
        raise ConfigError(
            f"timm cannot be imported ({reason_for(error)}); it needs a torchvision that was built "
            f"for PyTorch {torch.__version__}: install both from one place, see pytorch.org"
        ) from None
    return timm


def _known(name: str, needs_weights: bool) -> Any:
    """What timm says of a model. Raises `ConfigError` where it knows none of this name, or has no
    weights for it where it `needs_weights`.
    """
    timm = _timm()
    found, near = None, difflib.get_close_matches(name, timm.list_models(), 1)
    if timm.is_model(name):
        arch = name.partition(".")[0]
        near = timm.list_pretrained(f"{arch}.*")[:3] or [arch]
        try:
            found = timm.get_pretrained_cfg(name)
        except RuntimeError:
            found = None  # another kind of weights than timm has
    if found is None:
        hint = f"; perhaps you meant {' or '.join(near)}" if near else ""
        raise ConfigError(f"timm knows no model {name!r}{hint}; timm.list_pretrained() names all")
    if needs_weights and not found.has_weights:
        raise ConfigError(
            f"timm has no weights of {name!r}; name a file of them, --backbone {name}=FILE, or "
            "another model"
        )
    return found


@dataclass(frozen=True)
class _Stage:
    """Whose map a model gives."""

    number: int  # timm's
    image_shape: Shape  # of the images that it sees


def _made(name: str, file: Path | None, stage: _Stage | None, *, had: bool) -> nn.Module:
    """A model of timm that gives maps, in eval mode.

    Args:
        file: of its weights; None: timm's own.
        stage: whose map it gives; None: it gives those of all.
        had: whether it has weights; else they are drawn.

    Raises:
        ConfigError: the weights cannot be had, or it gives no maps.
    """
    if file is not None:
        return _from_file(name, file, stage)
    timm = _timm()
    try:
        return _created(timm, name, stage, pretrained=had)
    except Exception as error:  # noqa: BLE001  of timm, and of what downloads for it
        if had:
            raise ConfigError(
                f"the weights of {name} cannot be downloaded ({reason_for(error):.200}); see that "
                f"there is a network, or name a file of them: --backbone {name}=FILE"
            ) from None
        raise ConfigError(
            f"timm's {name} gives no feature maps ({reason_for(error):.200}); take another model"
        ) from None


def _created(timm: Any, name: str, stage: _Stage | None, **how: Any) -> nn.Module:
    """What timm makes, as `_made` gives it."""
    if stage is not None:
        how["out_indices"] = (stage.number,)
    with _quiet():
        module: nn.Module = timm.create_model(name, features_only=True, **how).eval()
    return module if stage is None else _pruned(module, stage.image_shape)


def _from_file(name: str, file: Path, stage: _Stage | None) -> nn.Module:
    """As `_made`, with the weights in a file that timm reads.

    timm leaves what the file lacks as it was drawn. So the model is made twice, from two draws:
    what differs then was not in the file.
    """
    if not file.is_file():
        raise ConfigError(
            f"there is no file {str(file)!r} with weights of the backbone {name}; correct its path"
        )

    def drawn(seed: int) -> nn.Module:
        overlay = {"file": str(file)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _created(timm, name, stage, pretrained=True, pretrained_cfg_overlay=overlay)

    timm = _timm()
    try:
        made, other = drawn(0), drawn(1)
    except Exception as error:  # noqa: BLE001  of timm, safetensors and torch
        raise ConfigError(
            f"{str(file)!r} holds no weights of {name} ({reason_for(error):.200}); name a file of "
            "that very model"
        ) from None
    if _digest(made) != _digest(other):
        raise ConfigError(
            f"{str(file)!r} lacks some weights of {name}; name a file of that very model"
        )
    return made


def _digest(body: nn.Module) -> str:
    """16 hex digits that name the weights of a model."""
    digest = hashlib.sha256()
    tensors: Mapping[str, Tensor] = body.state_dict()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _stamp(file: Path | None) -> list[Any]:
    """What a file is known by in the cache; nothing of weights that timm has."""
    if file is None or not file.exists():
        return []
    stat = file.stat()
    return [str(file.resolve()), stat.st_size, stat.st_mtime_ns]
