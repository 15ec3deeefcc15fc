"""A backbone and the network that was found behind it, as one module, so that both learn."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanonas.data.backbone import TUNED, WEIGHTS
from nanonas.data.preprocessing import Preprocessing
from nanonas.training.augment import normalise
from nanonas.training.backbone import Frozen
from nanonas.training.modules import NetworkModule
from nanonas.training.pictures import Pictures
from nanonas.training.pretrained import Begun
from nanonas.training.recipe import Recipe
from nanonas.training.weights import digest_of, metadata, save_weights


class Joined(nn.Module):
    """A backbone and the network behind it: pixels in [0, 1], (B, 1 or 3, H, W), to logits,
    (B, classes).

    The norms of the backbone keep their statistics, which are of millions of images; all of its
    weights learn.

    Args:
        backbone: it is copied.
        behind: the network.
        mean: of the backbone's maps, C numbers in [0, 1].
        std: likewise, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Frozen,
        behind: NetworkModule,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.backbone, self.behind = copy.deepcopy(backbone), behind
        self.backbone.requires_grad_(True)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def maps(self, pixels: Tensor) -> Tensor:
        """What the network behind it sees of pixels: normalised, (B, C, h, w)."""
        return normalise(self.backbone(255 * pixels), self.mean, self.std)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.behind(self.maps(pixels))
        return logits

    def train(self, mode: bool = True) -> Joined:
        super().train(mode)
        self.backbone.eval()
        return self


@dataclass(frozen=True)
class TunedBackbone:
    """The backbone that learns with a network.

    Args:
        frozen: it as a training begins, on the CPU.
        rule: how an image becomes what the network behind it sees.
    """

    frozen: Frozen
    rule: Preprocessing

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a checkpoint must have in common with a training to be continued."""
        return {"backbone": self.frozen.about.digest}

    def before(self, network: NetworkModule) -> Joined:
        """It with a network behind it; a copy of it, which may be trained."""
        return Joined(self.frozen, network, self.rule.mean, self.rule.std)

    def begun(self, joined: Joined, behind: Begun) -> Begun:
        """What a joined module has of pretrained networks: all of its backbone, and more.

        Args:
            behind: what the network behind the backbone has.
        """
        own = sum(p.numel() for p in joined.behind.parameters())
        added = sum(p.numel() for p in joined.backbone.parameters())
        names = {f"behind.{name}" for name in behind.body}
        share = (added + behind.share * own) / (added + own)
        return Begun(frozenset({"backbone", *names}), share, behind.of_body)

    def save(self, joined: Joined, folder: Path) -> None:
        """Writes the weights of a backbone that has learnt. Raises `RunError` where that fails."""
        body = joined.backbone.body
        about = {"digest": digest_of(body.state_dict()), TUNED: "yes"}
        save_weights(body, folder / WEIGHTS, about)

    def rule_in(self, folder: Path) -> Preprocessing:
        """The rule with the backbone that has learnt, whose weights `save` has written."""
        digest = metadata(folder / WEIGHTS)["digest"]
        return replace(self.rule, backbone=replace(self.frozen.about, digest=digest, tuned=True))


def as_pixels(pictures: Pictures) -> Pictures:
    """Pictures whose normalised batches, (B, C, H, W), are pixels in [0, 1]: a backbone has a
    normalisation of its own.

    They are for this process alone; others would load the maps.
    """
    channels = len(pictures.mean)
    mean = torch.zeros(channels, device=pictures.device)
    return replace(pictures, mean=mean, std=torch.ones_like(mean), spec=None)


def joint_recipe(recipe: Recipe) -> Recipe:
    """The recipe without what is of a network that reads the images itself, and begins anew."""
    return replace(recipe, small_images=0.0, whiten=False, dirac=False)


def network_of(module: nn.Module) -> nn.Module:
    """The network that was searched: what is behind a backbone, or the module itself."""
    return module.behind if isinstance(module, Joined) else module
