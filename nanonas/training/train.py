"""How a network is trained: SGD with Nesterov momentum, one cycle of the learning rate, label
smoothing.

The same code trains a candidate for three epochs and the winner for a hundred. Images stay on the
device as uint8; each batch is gathered, augmented and normalised there; loss and accuracy are read
back once per epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.core import Pulse
from nanonas.training.augment import normalise
from nanonas.training.device import fix_order
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe, one_cycle


class Training:
    """The training of one network, epoch by epoch.

    It depends on its arguments alone: each epoch draws its random numbers from (seed, epoch), so a
    training that is interrupted between two epochs continues as if it had not been.

    Args:
        module: trained in place; moved to the pictures' device.
        pictures: to train on, 2 or more.
        recipe: the hyperparameters.
        epochs: the length of the learning rate's cycle, 1 or more. May be lowered between epochs:
            the rest of the cycle shrinks.
        seed: of the order of the images, of augmentation and of dropout.
        pieces: into how many pieces a batch is split for its forward and backward passes, to save
            memory. The gradients add up to those of the whole batch, but batch norms see the
            pieces; none is smaller than two images.
    """

    def __init__(
        self,
        module: nn.Module,
        pictures: Pictures,
        recipe: Recipe,
        epochs: int,
        seed: int,
        pieces: int = 1,
    ) -> None:
        self.device = pictures.x.device
        self.pieces = pieces
        self.module = module.to(self.device)
        self.pictures, self.recipe, self.epochs, self.seed = pictures, recipe, epochs, seed
        self.epoch = 0  # how many are done
        fix_order(recipe.deterministic)
        # Batches differ by at most one image, and have two at least: batch norm cannot train on
        # one.
        most_steps = len(pictures) // 2
        self.steps = max(1, min(round(len(pictures) / recipe.batch_size), most_steps))  # per epoch
        decayed = [p for p in module.parameters() if p.ndim > 1]
        others = [p for p in module.parameters() if p.ndim <= 1]  # biases and batch norms
        self.optimizer = torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            fused=self.device.type == "cuda" or None,  # one kernel per step; no faster on CPUs
        )

    def run_epoch(self, pulse: Pulse) -> float | None:
        """Trains for one epoch.

        Args:
            pulse: called before each step; False stops the epoch, which then does not count.

        Returns:
            the mean training loss in nats, label smoothing included; None when it was stopped.
        """
        seed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        torch.manual_seed(seed)  # for dropout
        generator = torch.Generator().manual_seed(seed)  # for the order and augmentation
        order = torch.randperm(len(self.pictures), generator=generator)
        total = torch.zeros((), device=self.device)
        self.module.train()
        for step, batch in enumerate(torch.tensor_split(order, self.steps)):
            if not pulse():
                return None
            self._set_lr((self.epoch + step / self.steps) / self.epochs)
            total += self._step(batch, generator) * len(batch)
        self.epoch += 1
        return total.item() / len(order)

    def _step(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """One update with the pictures numbered `batch`, (B,); returns their mean loss."""
        x, y = self._gather(batch, generator)  # (B, C, H, W), (B,)
        pieces = max(1, min(self.pieces, len(y) // 2))
        total = torch.zeros((), device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        for images, labels in zip(x.tensor_split(pieces), y.tensor_split(pieces), strict=True):
            with autocast(self.device, self.recipe.precision):
                logits = self.module(images)
            loss = F.cross_entropy(
                logits.float(), labels, label_smoothing=self.recipe.label_smoothing
            )
            if pieces > 1:
                loss = loss * (len(labels) / len(y))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self.recipe.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        return total

    def _gather(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of augmented, normalised images, (B, C, H, W), and its labels, on the device."""
        p = self.pictures
        batch = batch.to(self.device, non_blocking=True)
        rows = batch if p.rows is None else p.rows[batch]
        augmented = self.recipe.augment(p.x, rows, generator)
        return normalise(augmented, p.mean, p.std), p.y[rows]

    def _set_lr(self, progress: float) -> None:
        lr = self.recipe.lr * one_cycle(progress, self.recipe.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state(self) -> dict[str, Any]:
        """All that another `Training` with the same arguments needs to continue from here."""
        return {
            "epoch": self.epoch,
            "epochs": self.epochs,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.epoch, self.epochs = state["epoch"], state["epochs"]
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision where `precision` is "bfloat16"; does nothing for "float32"."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@torch.inference_mode()
def accuracy(
    module: nn.Module,
    pictures: Pictures,
    precision: str = "float32",
    pulse: Pulse = lambda: True,
) -> float:
    """The share of pictures that are classified correctly, in [0, 1].

    Args:
        module: on the pictures' device; left in eval mode.
        pictures: 1 or more.
        precision: "float32" or "bfloat16".
        pulse: called before each batch to show that this process lives. Its answer is ignored: a
            validation is always finished.
    """
    module.eval()
    device = pictures.x.device
    hits = torch.zeros((), dtype=torch.int64, device=device)
    rows = torch.arange(len(pictures), device=device) if pictures.rows is None else pictures.rows
    height, width = pictures.x.shape[2:]
    # 500 images of 32x32; fewer of larger ones, so that a batch takes no more memory
    batch_size = max(16, 500 * 32 * 32 // max(32 * 32, height * width))
    for batch in torch.split(rows, batch_size):
        pulse()
        with autocast(device, precision):
            logits = module(normalise(pictures.x[batch], pictures.mean, pictures.std))
        hits += (logits.argmax(dim=1) == pictures.y[batch]).sum()
    return int(hits.item()) / len(pictures)
