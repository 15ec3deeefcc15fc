"""What is used of timm: it knows one small model, whose maps have a half, a quarter and an eighth
of an image's side. Weights are had as timm has them: its own, where it has any, or a file's, whose
names alone decide what is taken from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

NAME, CHANNELS = "toy_net.in1k", (4, 6, 8)


class Body(nn.Module):
    """Its stages, up to the last that is asked for."""

    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__()
        self.indices = indices
        widths = (3, *CHANNELS)
        for place in range(max(indices) + 1):
            before, after = widths[place : place + 2]
            self.add_module(f"stage{place}", nn.Conv2d(before, after, 3, 2, 1))
        self.feature_info = SimpleNamespace(
            channels=lambda: [CHANNELS[place] for place in indices], out_indices=tuple(indices)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for place, stage in enumerate(self.children()):
            x = stage(x).tanh()
            if place in self.indices:
                maps.append(x)
        return maps


@dataclass
class Timm:
    """The library, as a module.

    Args:
        own: the weights of its model; None: they cannot be downloaded.
    """

    own: dict[str, Tensor] | None = None
    created: list[str] = field(default_factory=list)  # whose weights models were made with

    def list_models(self) -> list[str]:
        return ["toy_net"]

    def list_pretrained(self, pattern: str) -> list[str]:
        return [NAME] if fnmatch(NAME, pattern) else []

    def is_model(self, name: str) -> bool:
        return name.partition(".")[0] == "toy_net"

    def get_pretrained_cfg(self, name: str) -> Any:
        if name not in ("toy_net", NAME):
            raise RuntimeError(f"Invalid pretrained tag for {name}.")
        return SimpleNamespace(
            input_size=(3, 32, 32),
            mean=(0.4, 0.5, 0.6),
            std=(0.2, 0.25, 0.3),
            has_weights=name == NAME,
        )

    def create_model(
        self,
        name: str,
        pretrained: bool,
        features_only: bool,
        out_indices: Sequence[int] = (0, 1, 2),
        pretrained_cfg_overlay: dict[str, str] | None = None,
    ) -> Body:
        assert features_only
        body = Body(out_indices)
        if pretrained:
            tensors = self.own
            if pretrained_cfg_overlay is not None:
                tensors = load_file(pretrained_cfg_overlay["file"])
            if tensors is None:
                raise OSError("no route to the hub")
            body.load_state_dict(tensors, strict=False)
        self.created.append(
            "none" if not pretrained else "a file's" if pretrained_cfg_overlay else "its own"
        )
        return body


def weights(seed: int = 0) -> dict[str, Tensor]:
    """Those of the whole model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(Body((0, 1, 2)).state_dict())


def weights_file(path: Path, seed: int = 0) -> Path:
    """These in a file."""
    save_file(weights(seed), path)
    return path
