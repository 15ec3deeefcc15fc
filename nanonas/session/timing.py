"""How long a candidate of the space takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanonas.core import Budget, Candidate, Evaluation, Genome, Proposal, Pulse, State
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.errors import RunError
from nanonas.networks.network import Network
from nanonas.text import count

if TYPE_CHECKING:
    from nanonas.training.trial import Trial


@dataclass(frozen=True)
class Timed:
    """A network of the space and what it costs here, while all workers are as busy."""

    network: Network
    epoch_seconds: float  # of training
    valid_seconds: float  # for all validation images
    extra_seconds: float  # for what limits and objectives ask to be measured
    latency: float  # ms for one image, in float32
    memory: float  # MiB of inference for one image
    step_memory: float  # MiB of one training step
    # MiB of the process; of a training step alone on GPUs, or where the system does not tell
    worker_memory: float


@dataclass(frozen=True)
class Timing:
    """Measures what a candidate costs instead of training it: a `core.Measure`; its metrics are the
    fields of `Timed`.

    Args:
        trial: what would train it.
        seconds: of training.
    """

    trial: Trial
    seconds: float

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        from nanonas.training.device import prepare
        from nanonas.training.measuring.latency import latency
        from nanonas.training.measuring.memory import peak_memory, process_memory, training_memory
        from nanonas.training.measuring.pace import pace_of
        from nanonas.training.modules import build_module
        from nanonas.training.pictures import part, pictures
        from nanonas.training.train import Training, accuracy

        trial, recipe = self.trial, self.trial.recipe
        prepare(trial.threads)
        train, valid = pictures(trial.data, trial.device)
        network = trial.space.decode(candidate.proposal.genome)
        module = build_module(network, seed=0).to(trial.device)
        training = Training(module, train, recipe, 1, 0)
        costs = {"epoch_seconds": pace_of(training, self.seconds).mean}
        process = process_memory()
        sample = part(valid, min(1.0, 500 / len(valid)), 0)
        accuracy(module, sample, recipe.precision)  # warms up
        validation = _timed(lambda: accuracy(module, sample, recipe.precision))
        costs["valid_seconds"] = validation * len(valid) / len(sample)
        measured = self._measured(network, costs)
        costs["step_memory"] = training_memory(
            module, min(recipe.batch_size, len(train)), recipe.precision
        )
        alone = process is None or trial.device.startswith("cuda")
        costs["worker_memory"] = costs["step_memory"] if alone or process is None else process
        costs["memory"] = peak_memory(module, trial.device)
        if trial.agent is not None:
            costs["latency"] = measured["latency"]
        else:
            costs["latency"] = latency(
                module, network.input_shape, trial.device, seconds=self.seconds / 4
            ).median
        return Evaluation(candidate.number, State.COMPLETE, costs)

    def _measured(self, network: Network, costs: dict[str, float]) -> dict[str, float]:
        """What is measured of a candidate before its training; notes how long that takes."""
        if self.trial.agent is not None:  # the first export of a process is mostly imports
            from nanonas.training.graphs import onnx_to_measure
            from nanonas.training.modules import build_module

            onnx_to_measure(build_module(network, seed=0))
        start = time.perf_counter()
        measured = self.trial.measure(network)
        costs["extra_seconds"] = time.perf_counter() - start
        return measured


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def timed(trials: Sequence[Trial], genomes: Sequence[Genome], seconds: float) -> tuple[Timed, ...]:
    """Each network's costs: the medians of all workers, which measure the same network at the same
    time.

    Raises:
        RunError: a network could not be trained.
    """
    costs: list[Timed] = []
    with WorkerPool([Timing(trial, seconds) for trial in trials]) as pool:
        for genome in genomes:
            network = trials[0].space.decode(genome)
            for number in range(pool.slots):
                pool.submit(Candidate(number, Proposal(genome, budget=Budget(1)), network.key))
            results = [result for _ in range(pool.slots) if (result := pool.result()) is not None]
            for result in results:
                if result.state is not State.COMPLETE:
                    raise RunError(
                        f"a network of {count(network.params)} parameters cannot be trained here: "
                        f"{result.reason}; "
                        "a smaller --batch-size, fewer --workers or a limit such as --max-macs "
                        "may help"
                    )
            medians = {
                name: statistics.median(r.metrics[name] for r in results)
                for name in results[0].metrics
            }
            costs.append(Timed(network, **medians))
    return tuple(costs)
