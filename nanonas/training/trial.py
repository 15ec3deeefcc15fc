"""All that happens to one candidate on a worker: decode, build, train under its budget and stop rule, keep weights.

One with a budget of 0 epochs is only scored.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nanonas.core import Candidate, Epoch, Evaluation, Pulse, SearchSpace, State, training_seed
from nanonas.errors import RunError
from nanonas.files import replacing
from nanonas.training.augment import normalise
from nanonas.training.build import build_module
from nanonas.training.data import DataSpec, pictures
from nanonas.training.device import prepare
from nanonas.training.scores import IMAGES, scores
from nanonas.training.train import Pictures, Recipe, Training, accuracy, part


@dataclass(frozen=True)
class Trial:
    """Measures candidates by training them: a `core.Measure`, picklable, one per worker.

    The accuracy is that on the validation images after the last epoch; nothing here knows of a test set.
    """

    space: SearchSpace
    data: DataSpec
    recipe: Recipe
    seed: int  # of the run
    device: str = "cpu"
    threads: int = 1
    weights: Path | None = None  # the folder for NUMBER.safetensors

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        start = time.perf_counter()
        prepare(self.threads)
        train, valid = _on_device(self.data, self.device)
        seed = training_seed(self.seed, candidate.number)
        network = self.space.decode(candidate.proposal.genome)
        try:
            if not candidate.trained:
                found = scores(network, *_minibatch(train, self.seed), seed)
                return Evaluation(candidate.number, State.COMPLETE, found, seconds=time.perf_counter() - start)
            module = build_module(network, seed)
            state, curve, reason = self._train(candidate, module, train, valid, pulse, seed)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # what this process keeps, its neighbours on the same GPU cannot have
            raise
        metrics = {"accuracy": curve[-1].accuracy} if curve and state is not State.FAILED else {}
        if self.weights is not None and metrics:
            try:
                save_weights(module, self.weights / f"{candidate.number}.safetensors")
            except RunError as error:
                reason = str(error)  # the accuracy is measured all the same
        return Evaluation(candidate.number, state, metrics, curve, time.perf_counter() - start, reason)

    def _train(
        self, candidate: Candidate, module: nn.Module, train: Pictures, valid: Pictures, pulse: Pulse, seed: int
    ) -> tuple[State, tuple[Epoch, ...], str | None]:
        budget = candidate.proposal.budget
        assert budget is not None  # the study fills it in
        training = Training(module, train, self.recipe, budget.epochs, seed)
        curve: list[Epoch] = []
        while training.epoch < budget.epochs:
            loss = training.run_epoch(pulse)
            epoch = Epoch(math.nan if loss is None else loss, accuracy(module, valid, self.recipe.precision, pulse))
            curve.append(epoch)
            done = f"after epoch {training.epoch} of {budget.epochs}"
            if loss is None:
                return State.CUT, tuple(curve), f"the time was up {done}"
            if not math.isfinite(loss):
                return State.FAILED, tuple(curve), f"training diverged: the loss is {loss} {done}"
            if training.epoch == budget.stop_epoch and epoch.accuracy < budget.stop_below:
                below = f"accuracy {epoch.accuracy:.3f} is below {budget.stop_below:.3f}"
                return State.PRUNED, tuple(curve), f"{below} {done}"
        return State.COMPLETE, tuple(curve), None


@lru_cache(maxsize=1)
def _on_device(data: DataSpec, device: str) -> tuple[Pictures, Pictures]:
    """The images to train on and to judge by; they stay for the life of the process."""
    return pictures(data, device)


def _minibatch(train: Pictures, seed: int) -> tuple[Tensor, Tensor]:
    """The training images that all candidates of a run are scored on, normalised, and their labels."""
    some = part(train, min(1.0, IMAGES / len(train)), seed)
    rows = torch.arange(len(some), device=some.x.device) if some.rows is None else some.rows
    return normalise(some.x[rows], some.mean, some.std), some.y[rows]


def save_weights(module: nn.Module, path: Path) -> None:
    """Writes a module's tensors as safetensors. Raises `RunError` when it cannot."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(path) as part:
        part.write_bytes(save(tensors))  # save_file has errors of its own for a full disk


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into a module of the same network.

    Raises:
        RunError: no such file, a damaged one, or one of another network.
    """
    try:
        module.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        said = str(error).splitlines()[0]
        raise RunError(f"the weights {str(path)!r} cannot be read: {said}; train the network again") from None
