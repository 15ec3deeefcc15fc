"""A moving average of a module's weights, which generalises like a training with a lower learning
rate.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

EVERY = 5  # steps between two updates: an average over hundreds of them does not need each


class MovingAverage:
    """The exponential moving average of a module's weights and statistics.

    While few steps are behind it averages over few: the share of what is old is at most
    (1 + n) / (10 + n) after n updates, as in TensorFlow's ExponentialMovingAverage.

    Args:
        module: is copied.
        decay: in (0, 1), per step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Takes in the weights of `module` after another step."""
        self.steps += 1
        if self.steps % EVERY:
            return
        number = self.steps // EVERY
        old = min(self.decay**EVERY, number / (9 + number))
        ours, theirs = _tensors(self.module), _tensors(module)
        floats = [place for place, tensor in enumerate(ours) if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [ours[place] for place in floats], [theirs[place] for place in floats], 1 - old
        )
        for place in set(range(len(ours))) - set(floats):  # counters
            ours[place].copy_(theirs[place])

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {"steps": self.steps, "module": self.module.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.steps = state["steps"]
        self.module.load_state_dict(state["module"])


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
