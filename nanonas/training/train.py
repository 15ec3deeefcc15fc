"""How a network is trained: SGD with Nesterov momentum or Muon, one cycle of the learning rate,
label smoothing.

The same code trains a candidate for three epochs and the winner for a hundred. Images stay on the
device as uint8; each batch is gathered, augmented and normalised there; loss and accuracy are read
back once per epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.core import Pulse
from nanonas.networks.network import Network
from nanonas.training.augment import normalise
from nanonas.training.average import MovingAverage
from nanonas.training.device import fix_order
from nanonas.training.group import Group
from nanonas.training.muon import Muon, muon_weights
from nanonas.training.pictures import Pictures, scaled
from nanonas.training.recipe import SCHEDULES, SMALL_SIDE, TINY_SIDE, Recipe


class Training:
    """The training of one network, epoch by epoch.

    It depends on its arguments alone: each epoch draws its random numbers from (seed, epoch), so a
    training that is interrupted between two epochs continues as if it had not been.

    Args:
        module: trained in place; moved to the pictures' device.
        pictures: to train on, 2 or more.
        recipe: the hyperparameters.
        epochs: the length of the learning rate's cycle, above 0; the last epoch is cut to what is
            left of a whole one, one step at least. May change between epochs: the rest of the
            cycle shrinks or stretches.
        seed: of the order of the images, of augmentation and of dropout.
        pieces: into how many pieces a batch is split for its forward and backward passes, to save
            memory. The gradients add up to those of the whole batch, but batch norms see the
            pieces; none is smaller than two images.
        group: the processes that train this network together, each with a `Training` of equal
            arguments, which takes its part of every batch. Their gradients add up to those of the
            whole batch, and batches are what they are for one process; but batch norms see the
            parts.
        body: the submodules that begin with a pretrained network's weights, which learn at
            `recipe.body_lr` times the learning rates.
    """

    def __init__(
        self,
        module: nn.Module,
        pictures: Pictures,
        recipe: Recipe,
        epochs: float,
        seed: int,
        pieces: int = 1,
        group: Group | None = None,
        body: Collection[str] = (),
    ) -> None:
        self.device = pictures.device
        self.pieces, self.group = pieces, group
        self.module = module.to(self.device)
        self._body = tuple(f"{name}." for name in body) if recipe.body_lr != 1 else ()
        self._still = [] if recipe.body_lr else [module.get_submodule(name) for name in body]
        for part in self._still:
            part.requires_grad_(False)
        self.pictures, self.recipe, self.epochs, self.seed = pictures, recipe, epochs, seed
        self.epoch = 0  # how many are done
        fix_order(recipe.deterministic)
        # Batches differ by at most one image, and each process has two at least: batch norm cannot
        # train on one.
        most_steps = len(pictures) // (2 if group is None else 2 * group.size)
        self.steps = max(1, min(round(len(pictures) / recipe.batch_size), most_steps))  # per epoch
        self.muon = self._muon()
        self.optimizer = self._sgd()
        self._peaks = [float(group["lr"]) for group in self._groups()]
        self._average = MovingAverage(module, recipe.average) if recipe.average else None
        self._first_flips: Tensor | None = None  # of alternating flips, one for each picture
        self._progress = 0.0  # share of the steps
        self._weights = class_weights(pictures) if recipe.balance == "weights" else None
        self._small = _small_size(module, pictures) if recipe.small_images else None
        self._gradients = None if group is None else _gradients_of(module)

    def _muon(self) -> Muon | None:
        """Of the convolutions that the recipe leaves to it, if any."""
        recipe = self.recipe
        weights = muon_weights(self.module) if recipe.optimizer == "muon" else []
        if not weights:
            return None
        groups = self._by_rate({id(p) for p in weights}, recipe.muon_lr)
        return Muon(groups, recipe.muon_lr, recipe.momentum, self.group)

    def _sgd(self) -> torch.optim.SGD:
        """Of all other parameters."""
        recipe = self.recipe
        muons = {id(p) for p in muon_weights(self.module)} if recipe.optimizer == "muon" else set()
        named = [(name, p) for name, p in self.module.named_parameters() if id(p) not in muons]
        apart = {
            id(p)
            for name, p in named
            if recipe.bias_lr != 1 and p.ndim == 1 and name.endswith("bias")
        }
        weights = {id(p) for _, p in named if p.ndim > 1}
        small = {id(p) for _, p in named if p.ndim <= 1} - apart  # batch norms and biases
        groups = [
            *self._by_rate(weights, recipe.lr, weight_decay=recipe.weight_decay),
            *self._by_rate(small, recipe.lr, weight_decay=0.0),
        ]
        if apart:
            groups += self._by_rate(apart, recipe.bias_lr * recipe.lr, weight_decay=0.0)
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            fused=self.device.type == "cuda" or None,  # one kernel per step; no faster on CPUs
        )

    def _by_rate(
        self, wanted: Collection[int], lr: float, **settings: float
    ) -> list[dict[str, Any]]:
        """The parameters with these ids that learn, in the module's order, as groups of an
        optimizer: those that learn at `lr`, then those of the body, which may learn more slowly.
        """
        groups: list[dict[str, Any]] = []
        for factor, in_body in ((1.0, False), (self.recipe.body_lr, True)):
            params = [
                p
                for name, p in self.module.named_parameters()
                if id(p) in wanted and p.requires_grad and name.startswith(self._body) is in_body
            ]
            if params or not in_body:
                groups.append({"params": params, "lr": factor * lr, **settings})
        return groups

    def _groups(self) -> list[dict[str, Any]]:
        """The groups of parameters of all optimizers."""
        return self.optimizer.param_groups + (self.muon.param_groups if self.muon else [])

    @property
    def result(self) -> nn.Module:
        """What is to be judged and kept: the module, or the moving average of its weights."""
        return self.module if self._average is None else self._average.module

    @property
    def small(self) -> bool:
        """Whether the next epoch begins on smaller images."""
        return self._small is not None and self.epoch < self.recipe.small_images * self.epochs

    def run_epoch(self, pulse: Pulse) -> float | None:
        """Trains for one epoch.

        Args:
            pulse: called before each step; False stops the epoch, which then does not count.

        Returns:
            the mean training loss in nats, label smoothing included; None when it was stopped.
        """
        seed = _drawn(self.seed, self.epoch)
        rank = 0 if self.group is None else self.group.rank
        torch.manual_seed(_drawn(self.seed, self.epoch, 1 + rank) if rank else seed)  # for dropout
        generator = torch.Generator().manual_seed(seed)  # for the order and augmentation
        order = torch.randperm(len(self.pictures), generator=generator)
        total, seen = torch.zeros((), device=self.device), 0
        self.module.train()
        for still in self._still:
            still.eval()
        left = max(1, round((self.epochs - self.epoch) * self.steps))  # steps
        for step, batch in enumerate(torch.tensor_split(order, self.steps)[:left]):
            if not pulse():
                return None
            self._set_progress((self.epoch + step / self.steps) / self.epochs)
            total += self._step(batch, generator) * len(batch)
            seen += len(batch)
        self.epoch += 1
        if self.group is not None:
            self._agree(self.group, total)
        return total.item() / seen

    def whole_epoch(self) -> float:
        """As `run_epoch`, to its end."""
        loss = self.run_epoch(lambda: True)
        assert loss is not None  # the pulse never stops it
        return loss

    @torch.no_grad()
    def _agree(self, group: Group, total: Tensor) -> None:
        """Adds up the processes' losses, and averages the statistics of their batch norms.

        Statistics are moving averages of what a process has seen, so their mean is what they would
        be if it had been taken in every step: an average over all images. Those of one process
        alone, which DDP keeps, know its part only.
        """
        modules = [self.module] if self._average is None else [self.module, self._average.module]
        statistics = [
            buffer for made in modules for buffer in made.buffers() if buffer.is_floating_point()
        ]
        together = torch.cat([total.view(1), *(buffer.reshape(-1) for buffer in statistics)])
        group.add(together)
        total.copy_(together[0])
        sizes = [buffer.numel() for buffer in statistics]
        parts = torch.split(together[1:] / group.size, sizes)
        for buffer, part in zip(statistics, parts, strict=True):
            buffer.copy_(part.view_as(buffer))

    def _part(self, images: int) -> slice:
        """Which images of a batch this process takes: parts differ by at most one image."""
        if self.group is None:
            return slice(None)
        least, more = divmod(images, self.group.size)
        begin = self.group.rank * least + min(self.group.rank, more)
        return slice(begin, begin + least + (self.group.rank < more))

    def _step(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """One update with the pictures numbered `batch`, (B,); returns their mean loss, or what
        this process's part adds to it.
        """
        x, y = self._gather(batch, generator)  # (B, C, H, W), (B,)
        pieces = max(1, min(self.pieces, len(y) // 2))
        total = torch.zeros((), device=self.device)
        if self._gradients is None:
            self.module.zero_grad(set_to_none=True)
        else:
            self._gradients.zero_()
        for images, labels in zip(x.tensor_split(pieces), y.tensor_split(pieces), strict=True):
            with autocast(self.device, self.recipe.precision):
                logits = self.module(images)
            loss = self._loss(logits.float(), labels)
            if len(labels) < len(batch):
                loss = loss * (len(labels) / len(batch))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self.group is not None and self._gradients is not None:
            self.group.add(self._gradients)
        if self.recipe.clip_norm > 0:
            self._clip(self.recipe.clip_norm)
        self.optimizer.step()
        if self.muon is not None:
            self.muon.step()
        if self._average is not None:
            self._average.update(self.module)
        return total

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of images with these logits, (B, classes), and labels, (B,).

        Weights of classes are one on average over all images, not over a batch: so the losses of
        pieces and of processes add up.
        """
        smoothing = self.recipe.label_smoothing
        if self._weights is None:
            return F.cross_entropy(logits, labels, label_smoothing=smoothing)
        each = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return (each * self._weights[labels]).mean()

    def _clip(self, most: float) -> None:
        """Shortens the gradient to a length of `most`."""
        if self._gradients is None:
            nn.utils.clip_grad_norm_(self.module.parameters(), most)
        else:  # in one go
            length = torch.linalg.vector_norm(self._gradients)
            self._gradients *= (most / (length + 1e-6)).clamp(max=1.0)  # as PyTorch does it

    def _gather(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of augmented, normalised images, (B, C, H, W), and its labels, on the device; or
        this process's part of them.
        """
        p, part = self.pictures, self._part(len(batch))
        batch = batch.to(self.device, non_blocking=True)
        rows = batch if p.rows is None else p.rows[batch]
        augmented = self.recipe.augment(p.x, rows, generator, self._flipped(batch), part)
        augmented = augmented.to(self.device)  # they may be read from the disk
        if self._small is not None and self._progress < self.recipe.small_images:
            augmented = scaled(augmented, self._small)
        return normalise(augmented, p.mean, p.std), p.y[rows[part]]

    def _flipped(self, batch: Tensor) -> Tensor | None:
        """Which pictures of the batch are mirrored, (B,): each in every other epoch, beginning at
        random; None: drawn anew.

        Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6.
        """
        if not (self.recipe.alternate_flip and self.recipe.augment.flip):
            return None
        if self._first_flips is None:
            generator = torch.Generator().manual_seed(_drawn(self.seed, 0, 1))
            self._first_flips = torch.randint(2, (len(self.pictures),), generator=generator)
        return (self._first_flips[batch.cpu()] + self.epoch) % 2

    def _set_progress(self, progress: float) -> None:
        """Sets what depends on the share of the steps that are done."""
        self._progress = progress
        factor = SCHEDULES[self.recipe.schedule](progress, self.recipe.warmup)
        for peak, group in zip(self._peaks, self._groups(), strict=True):
            group["lr"] = peak * factor

    def state(self) -> dict[str, Any]:
        """All that another `Training` with the same arguments needs to continue from here."""
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "epochs": self.epochs,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        if self.muon is not None:
            state["muon"] = self.muon.state_dict()
        if self._average is not None:
            state["average"] = self._average.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.epoch, self.epochs = state["epoch"], state["epochs"]
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])
        if self._average is not None:
            self._average.restore(state["average"])


def class_weights(pictures: Pictures) -> Tensor:
    """What an image of each class counts, (classes,) on the pictures' device: the less the more
    there are of it, 1 on average over all images that are used.
    """
    rows = slice(None) if pictures.rows is None else pictures.rows
    counts = torch.bincount(pictures.y[rows], minlength=int(pictures.y.max()) + 1)
    present = counts > 0
    return len(pictures) / (present.sum() * counts.clamp(min=1)) * present


def _drawn(*seed: int) -> int:
    """A seed for torch."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _gradients_of(module: nn.Module) -> Tensor:
    """Lets all gradients of a module lie in one tensor, (N,), which is returned."""
    params = [p for p in module.parameters() if p.requires_grad]
    together = torch.zeros(sum(p.numel() for p in params), device=params[0].device)
    parts = torch.split(together, [p.numel() for p in params])
    for p, part in zip(params, parts, strict=True):
        p.grad = part.as_strided(p.shape, p.stride(), part.storage_offset())
    return together


def _small_size(module: nn.Module, pictures: Pictures) -> tuple[int, int] | None:
    """Height and width of the smaller images that a training may begin with; None where the images
    are tiny, or where the network cannot do with smaller ones.
    """
    channels, height, width = pictures.x.shape[1:]
    network = getattr(module, "network", None)
    small = round(SMALL_SIDE * height), round(SMALL_SIDE * width)
    if min(height, width) < TINY_SIDE:
        return None
    if isinstance(network, Network) and not network.takes((channels, *small)):
        return None
    return small


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
    hits = torch.zeros((), dtype=torch.int64, device=pictures.device)
    for rows, logits in answered(module, pictures, precision, pulse):
        hits += (logits.argmax(dim=1) == pictures.y[rows]).sum()
    return int(hits.item()) / len(pictures)


@torch.inference_mode()
def logits_of(module: nn.Module, pictures: Pictures, precision: str = "float32") -> Tensor:
    """What a module answers to pictures, (N, classes) float32, on the CPU; see `accuracy`."""
    batches = answered(module, pictures, precision, lambda: True)
    return torch.cat([logits.float().cpu() for _, logits in batches])


def answered(
    module: nn.Module, pictures: Pictures, precision: str, pulse: Pulse
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the pictures' rows, (B,), with their logits, (B, classes); see `accuracy`."""
    module.eval()
    device = pictures.device
    rows = torch.arange(len(pictures), device=device) if pictures.rows is None else pictures.rows
    height, width = pictures.x.shape[2:]
    # 500 images of 32x32; fewer of larger ones, so that a batch takes no more memory
    batch_size = max(16, 500 * 32 * 32 // max(32 * 32, height * width))
    for batch in torch.split(rows, batch_size):
        pulse()
        with autocast(device, precision):
            logits = module(normalise(pictures.pixels(batch), pictures.mean, pictures.std))
        yield batch, logits
