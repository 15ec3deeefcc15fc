"""Backbones whose weights lie with the networks that were found behind them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.files import replacing
from nanonas.runs.folder import RunFolder

if TYPE_CHECKING:
    from nanonas.data.backbone import Backbone
    from nanonas.data.images import Images
    from nanonas.data.preprocessing import Preprocessing
    from nanonas.training.backbone import Frozen

_UP = 5  # folders: RUN/front/NUMBER/final/earlier-1 is as deep as weights lie


def kept_backbone(folder: Path, backbone: Backbone) -> Path | None:
    """The weights of a backbone that lie with a network: in its folder, or in one around that, such
    as its run's; None where there are none.
    """
    from nanonas.training.weights import metadata

    folder = folder.absolute()
    for around in (folder, *folder.parents)[:_UP]:
        place = RunFolder(around).backbone
        if place.exists() and metadata(place).get("digest") == backbone.digest:
            return place
    return None


def backbone_of(rule: Preprocessing, folder: Path) -> Frozen | None:
    """The backbone of a trained network, None where it has none: with the weights that lie with the
    network, else those that timm has.

    Args:
        folder: of the network's weights.

    Raises:
        ConfigError, RunError: as `training.backbone.opened`.
    """
    if rule.backbone is None:
        return None
    from nanonas.training.backbone import opened

    return opened(rule.backbone, kept_backbone(folder, rule.backbone))


def keep_backbone(images: Images, folder: Path) -> None:
    """Copies the weights of the images' backbone, if any, into a folder of networks that are found
    behind it, unless they lie there, or in a folder around it, already.

    Raises:
        RunError: they cannot be written.
    """
    backbone = images.backbone
    if backbone is None or images.folder is None:
        return
    place = RunFolder(folder).backbone
    if kept_backbone(folder, backbone) is None:
        with replacing(place) as part:
            shutil.copyfile(images.folder / place.name, part)
