"""All that happens to one candidate on a worker: decode, build, inherit, train under its budget,
keep weights.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from nanonas.core import (
    DEVICE_LOST,
    MOST_EPOCHS,
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Pulse,
    State,
    training_seed,
)
from nanonas.data.images import DataSpec
from nanonas.errors import DeviceLost, RunError, reason_for
from nanonas.files import weights_in
from nanonas.networks.cost import CostModel, allowance
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.base import Space
from nanonas.training.beginning import fresh_module
from nanonas.training.device import prepare
from nanonas.training.inheritance.inherit import inherit
from nanonas.training.inheritance.parents import Parent
from nanonas.training.judging import Judged, judged, noise_images
from nanonas.training.measuring.agent import Agent, TimeUp
from nanonas.training.measuring.costs import measure
from nanonas.training.pictures import Pictures, both_shrunk, minibatch, part, pictures
from nanonas.training.pretrained import Pretrained
from nanonas.training.recipe import Recipe, recipe_at, slower
from nanonas.training.train import Training
from nanonas.training.weights import read_weights, save_weights

# the peak learning rates of a training that begins with others' weights, relative to the recipe's
WARM_LR = 0.5
# Steps before which the rule that prunes is not looked at. Batch norms judge by running averages,
# which have forgotten how they began after some 50 steps; before, good networks look like chance.
SETTLED_STEPS = 100
# of a batch, one after the other where memory runs out: the fewest that fit
_PIECES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Trial:
    """Measures candidates by training them: a `core.Measure`, picklable, one per worker.

    The accuracy, balanced where the metric is that, is on the validation images after the last
    epoch; there is no test set here.
    """

    space: Space
    data: DataSpec
    recipe: Recipe
    seed: int  # of the run
    device: str = "cpu"
    threads: int = 1
    weights: Path | None = None  # the folder for NUMBER.safetensors
    limits: Limits = field(default_factory=Limits)  # those that have to be measured are checked
    measured: frozenset[str] = frozenset()  # metrics to measure besides: "latency", "memory"
    agent: Agent | None = None  # what measures latency; None: the device that trains
    cost: CostModel | None = None  # what training costs; needed for budgets in seconds
    # seconds of training an image, of a network that trains for a budget's own seconds; None: all
    # networks do
    typical: float | None = None
    metric: str = "accuracy"  # or "balanced_accuracy": what candidates are compared by
    pretrained: Pretrained | None = None  # whose weights all begin with; None: nobody's

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        start = time.perf_counter()
        prepare(self.threads)
        budget = candidate.proposal.budget
        assert budget is not None  # the study fills it in
        seed = training_seed(self.seed, candidate.number)
        train, valid = _on_device(self.data, budget.image_size, self.device)
        network = self.space.at(budget.image_size).decode(candidate.proposal.genome)
        try:
            whole = self.space.decode(candidate.proposal.genome)
            measured = {} if candidate.again else self.measure(whole, pulse)
        except (DeviceLost, TimeUp) as error:  # it says nothing of the candidate
            spent = time.perf_counter() - start
            lost = {DEVICE_LOST: 1.0} if isinstance(error, DeviceLost) else {}
            return Evaluation(candidate.number, State.CUT, lost, seconds=spent, reason=str(error))
        exceeded = None if candidate.again else self.limits.exceeded(measured)
        if exceeded is not None and candidate.proposal.resumes is None:
            spent = time.perf_counter() - start
            return Evaluation(
                candidate.number, State.INFEASIBLE, measured, seconds=spent, reason=exceeded
            )
        torch.set_num_threads(self.threads)  # a measurement of latency leaves it at 1
        train = part(train, budget.share, self.seed)
        for pieces in _PIECES:
            try:
                begun, state, curve, reason, seen = self._train(
                    candidate, network, train, valid, pulse, seed, pieces
                )
                break
            except (MemoryError, RuntimeError) as error:  # PyTorch raises RuntimeErrors
                if pieces == _PIECES[-1] or not reason_for(error).startswith("out of memory"):
                    raise
            if torch.cuda.is_available():
                # Other processes on this GPU cannot have what this one keeps. Not within `except`:
                # the error refers to the tensors.
                torch.cuda.empty_cache()
        metrics = measured | begun.metrics
        if pieces > 1:
            metrics["pieces"] = float(pieces)
        if curve and state is not State.FAILED:
            metrics["accuracy"] = curve[-1].accuracy
            if self.metric != "accuracy" and seen is not None:
                metrics["plain_accuracy"] = seen.accuracy
            if self.weights is not None:
                about = {
                    "genome": json.dumps(candidate.proposal.genome),
                    "image_size": str(budget.image_size or ""),
                }
                save_weights(begun.module, weights_in(self.weights, candidate.number), about)
        seconds = time.perf_counter() - start
        return Evaluation(candidate.number, state, metrics, curve, seconds, reason or begun.lacks)

    def measure(self, network: Network, pulse: Pulse = lambda: True) -> dict[str, float]:
        """What limits and objectives ask to be measured of a network, for images as they are.

        Raises `DeviceError` and `TimeUp`, as `Agent.measure`.
        """
        wanted = self.measured | self.limits.on_measurements
        return measure(network, self.device, wanted, self.agent, pulse)

    def _begun(self, candidate: Candidate, network: Network, train: Pictures, seed: int) -> _Begun:
        """The candidate's module as its training begins: fresh, or with others' weights as far as
        they fit, those of its parents before those of a pretrained network.
        """
        module = fresh_module(network, seed, train, self.recipe)
        begun = _Begun(module)
        if self.pretrained is not None:
            own = self.pretrained.begin(module, minibatch(train, self.seed).cpu())
            begun = replace(begun, metrics={"ancestor_share": own.share}, body=own.body)
        module.to(self.device)
        proposal = candidate.proposal
        wanted = proposal.begins_with
        if not wanted:
            return begun
        images = minibatch(train, self.seed)
        try:
            inherited = inherit(module, [self._parent(number) for number in wanted], images)
        except RunError as error:  # before anything is written into the module
            instead = "from scratch" if self.pretrained is None else "with the ancestor's alone"
            return replace(begun, lacks=f"begun {instead}, for {error}")
        metrics = {
            **begun.metrics,
            "inherited_tensors": float(inherited.tensors),
            "inherited_share": inherited.share,
        }
        return replace(begun, metrics=metrics, warm=True, resumed=proposal.resumes is not None)

    def _parent(self, number: int) -> Parent:
        """An earlier candidate's network, as it was trained, and its weights. Raises `RunError`."""
        if self.weights is None:
            raise RunError(f"there is no folder with the weights of #{number}")
        path = weights_in(self.weights, number)
        tensors, about = read_weights(path)
        if "genome" not in about:
            raise RunError(
                f"the weights {str(path)!r} do not say whose they are; train the network again"
            )
        size = int(about["image_size"]) if about.get("image_size") else None
        genome = tuple(json.loads(about["genome"]))
        return Parent(self.space.at(size).decode(genome), tensors)

    def _epochs(
        self,
        network: Network,
        budget: Budget,
        images: int,
        resumed: bool,
        whole: Network | None = None,
    ) -> float:
        """How long a network trains under a budget, on so many images an epoch.

        Args:
            whole: the network for images as they are, by whose cost its seconds are; None: itself.
        """
        if budget.seconds is None:
            return budget.epochs - (budget.begin if resumed else 0)
        if self.cost is None:
            raise RunError(
                "a budget in seconds needs a cost model, and this search has none; give --epochs"
            )
        each = self.cost.seconds(network)
        cost = self.cost.seconds(whole or network)
        seconds = budget.seconds * allowance(cost, self.typical, budget.seconds)
        if not resumed:  # what it should have gone on with is missing
            seconds *= budget.epochs / (budget.epochs - budget.begin)
        return min(MOST_EPOCHS, seconds / (each * images))

    def predicted_seconds(self, candidate: Candidate, images: tuple[int, int]) -> float:
        """How long the training of a candidate takes, as the cost model predicts, validation
        included; at most, for one that goes on with another's training may have to begin anew.

        Args:
            images: to train on in an epoch, before a budget's share of them, and to judge by.
        """
        budget = candidate.proposal.budget
        assert budget is not None  # the study fills it in
        assert self.cost is not None  # else nothing is predicted
        genome, size = candidate.proposal.genome, budget.image_size
        network, whole = self.space.at(size).decode(genome), self.space.decode(genome)
        train, valid = max(1, round(images[0] * budget.share)), images[1]
        epochs = self._epochs(network, budget, train, resumed=False, whole=whole)
        return self.cost.seconds(network) * (epochs * train + math.ceil(epochs) * valid)

    def _train(
        self,
        candidate: Candidate,
        network: Network,
        train: Pictures,
        valid: Pictures,
        pulse: Pulse,
        seed: int,
        pieces: int,
    ) -> tuple[_Begun, State, tuple[Epoch, ...], str | None, Judged | None]:
        """The module, how its training ended, its curve, why it ended, and how it is judged."""
        budget = candidate.proposal.budget
        assert budget is not None
        begun = self._begun(candidate, network, train, seed)
        whole = self.space.decode(candidate.proposal.genome)
        epochs = self._epochs(network, budget, len(train), begun.resumed, whole)
        recipe = recipe_at(self.recipe, self.space.input_shape, budget.image_size)
        if begun.warm:
            recipe = slower(recipe, 1 / WARM_LR)
        training = Training(begun.module, train, recipe, epochs, seed, pieces, body=begun.body)
        begun = replace(begun, module=training.result)
        stop_epoch = _stop_epoch(budget, epochs, training.steps)
        curve: list[Epoch] = []
        seen: Judged | None = None
        while training.epoch < epochs:
            loss = training.run_epoch(pulse)
            seen = judged(begun.module, valid, recipe.precision, pulse)
            epoch = Epoch(math.nan if loss is None else loss, seen.by(self.metric))
            curve.append(epoch)
            done = f"after epoch {min(training.epoch, epochs):.3g} of {epochs:.3g}"
            if loss is None:
                return begun, State.CUT, tuple(curve), f"the time was up {done}", seen
            if not math.isfinite(loss):
                diverged = f"training diverged: the loss is {loss} {done}"
                return begun, State.FAILED, tuple(curve), diverged, seen
            if training.epoch == stop_epoch and _clearly_below(
                budget.stop_below, epoch.accuracy, noise_images(seen.images, self.metric)
            ):
                measure = self.metric.replace("_", " ")
                below = f"{measure} {epoch.accuracy:.3f} is below {budget.stop_below:.3f}"
                return begun, State.PRUNED, tuple(curve), f"{below} {done}", seen
        return begun, State.COMPLETE, tuple(curve), None, seen


@dataclass(frozen=True)
class _Begun:
    """A module that is about to be trained."""

    module: nn.Module
    metrics: dict[str, float] = field(default_factory=dict)  # what it has of others
    warm: bool = False  # whether it has
    resumed: bool = False  # whether it goes on with a training of its own network
    lacks: str | None = None  # why it has inherited nothing, where it should have
    body: frozenset[str] = frozenset()  # the submodules that begin as a pretrained network's


def _stop_epoch(budget: Budget, epochs: float, steps: int) -> int:
    """The epoch after which the rule that prunes is looked at, in a training of so many epochs with
    so many steps each; 0 = never.
    """
    if budget.stop_epoch == 0:
        return 0
    first = max(budget.stop_epoch, math.ceil(SETTLED_STEPS / steps))
    return first if first < epochs else 0  # nothing is saved after the last one


def _clearly_below(threshold: float, accuracy: float, images: float) -> bool:
    """Whether an accuracy on so many images is below by more than two of its standard errors."""
    share = min(1.0, threshold)
    return accuracy < threshold - 2 * math.sqrt(share * (1 - share) / images)


@lru_cache(maxsize=8)  # the sizes that rungs have
def _on_device(data: DataSpec, image_size: int | None, device: str) -> tuple[Pictures, Pictures]:
    """The images to train on and to judge by; they stay for the life of the process."""
    if image_size is None:
        return pictures(data, device)
    train, valid = _on_device(data, None, device)
    return both_shrunk(train, valid, image_size, data.load().folder)
