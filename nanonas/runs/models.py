"""The trained modules of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.runs.folder import RunFolder, best_genome, find
from nanonas.runs.genome import GenomeFile, read_genome

if TYPE_CHECKING:
    from nanonas.training.modules import NetworkModule

_WEIGHTS, _GENOME = "model.safetensors", "genome.json"  # of a final training


def best_module(folder: RunFolder) -> NetworkModule:
    """The best candidate's module, with the weights it was evaluated with, in eval mode, on the
    CPU.

    Raises:
        RunError: none is evaluated yet, or its weights are gone.
    """
    genome = best_genome(folder)
    weights = genome.known.get(
        "weights", f"{folder.weights.name}/{genome.known.get('candidate')}.safetensors"
    )
    return _module(genome, folder.path / str(weights))


def trained_module(source: Path) -> NetworkModule:
    """The winner of a run after its final training where there is one, else `best_module`; or the
    network in the folder that a training wrote.

    Raises `RunError`.
    """
    if _is_trained(source):
        return _trained(source)
    folder = find(source)
    return _trained(folder.final) if _is_trained(folder.final) else best_module(folder)


def _is_trained(folder: Path) -> bool:
    return (folder / _WEIGHTS).exists() and (folder / _GENOME).exists()


def _trained(folder: Path) -> NetworkModule:
    return _module(read_genome(folder / _GENOME), folder / _WEIGHTS)


def _module(genome: GenomeFile, weights: Path) -> NetworkModule:
    from nanonas.training.modules import build_module
    from nanonas.training.weights import load_weights

    module = build_module(genome.network(), seed=0)
    load_weights(module, weights)
    module.preprocessing = genome.preprocessing
    return module.eval()
