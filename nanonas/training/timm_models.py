"""Models of timm (https://github.com/huggingface/pytorch-image-models) that give feature maps, with
its weights or those of a file. Nothing else here knows timm.
"""

from __future__ import annotations

import copy
import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanonas.core import Shape
from nanonas.errors import ConfigError, reason_for
from nanonas.training.weights import digest_of


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


def config_of(name: str, needs_weights: bool) -> Any:
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
class Stage:
    """Whose map a model gives."""

    number: int  # timm's
    image_shape: Shape  # of the images that it sees


def model_of(name: str, file: Path | None, stage: Stage | None, *, pretrained: bool) -> nn.Module:
    """A model of timm that gives maps, in eval mode.

    Args:
        file: of its weights; None: timm's own.
        stage: whose map it gives; None: it gives those of all.
        pretrained: whether it has weights; else they are drawn.

    Raises:
        ConfigError: the weights cannot be had, or it gives no maps.
    """
    if file is not None:
        return _from_file(name, file, stage)
    timm = _timm()
    try:
        return _created(timm, name, stage, pretrained=pretrained)
    except Exception as error:  # noqa: BLE001  of timm, and of what downloads for it
        if pretrained:
            raise ConfigError(
                f"the weights of {name} cannot be downloaded ({reason_for(error):.200}); see that "
                f"there is a network, or name a file of them: --backbone {name}=FILE"
            ) from None
        raise ConfigError(
            f"timm's {name} gives no feature maps ({reason_for(error):.200}); take another model"
        ) from None


def _created(timm: Any, name: str, stage: Stage | None, **how: Any) -> nn.Module:
    """What timm makes, as `model_of` gives it."""
    if stage is not None:
        how["out_indices"] = (stage.number,)
    with _quiet():
        module: nn.Module = timm.create_model(name, features_only=True, **how).eval()
    return module if stage is None else _pruned(module, stage.image_shape)


def _from_file(name: str, file: Path, stage: Stage | None) -> nn.Module:
    """As `model_of`, with the weights in a file that timm reads.

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
    if digest_of(made.state_dict()) != digest_of(other.state_dict()):
        raise ConfigError(
            f"{str(file)!r} lacks some weights of {name}; name a file of that very model"
        )
    return made
