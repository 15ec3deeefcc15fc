"""The trained modules of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanonas.errors import DataError
from nanonas.files import earlier_in, read_json, within
from nanonas.maths.calibration import TEMPERATURES
from nanonas.runs.folder import RunFolder, best_genome, find
from nanonas.runs.genome import GenomeFile, read_genome

if TYPE_CHECKING:
    from nanonas.training.modules import NetworkModule

# of a final training; a bundle has the first two as well, and says what it is in VERIFICATION
WEIGHTS, GENOME, RESULT = "model.safetensors", "genome.json", "result.json"
VERIFICATION, BUNDLE = "verification.json", "nanonas-bundle-1"


@dataclass(frozen=True)
class Trained:
    """A genome, and a file of weights for its network."""

    genome: GenomeFile
    weights: Path

    def module(self) -> NetworkModule:
        """Its module, in eval mode, on the CPU. Raises `RunError` where the weights are gone."""
        from nanonas.training.modules import build_module
        from nanonas.training.weights import load_weights

        module = build_module(self.genome.network(), seed=0)
        load_weights(module, self.weights)
        module.preprocessing = self.genome.preprocessing
        return module.eval()

    @property
    def temperature(self) -> float:
        """What its logits are divided by before they become probabilities; 1 where its training
        found none. Raises `DataError` where that is nothing to divide by.
        """
        path = self.weights.with_name(RESULT)
        result = read_json(path)
        return temperature_of(result if isinstance(result, dict) else {}, str(path))


def temperature_of(values: Mapping[str, Any], where: str) -> float:
    """The temperature that a file holds, within `TEMPERATURES`; 1 where it has none.

    Args:
        values: what the file holds.
        where: its name, for the error.

    Raises:
        DataError: it is something else.
    """
    found = values.get("temperature")
    if found is None:
        return 1.0
    low, high = TEMPERATURES
    if type(found) not in (int, float) or not low <= found <= high:  # NaN is neither
        raise DataError(
            f"{where}: temperature must be a number from {low:g} to {high:g}, but is "
            f"{found!r:.80}; take it out, and probabilities are as sure as the network is"
        )
    return float(found)


def best(folder: RunFolder) -> Trained:
    """The best candidate, with the weights it was evaluated with. Raises `RunError` where none is
    evaluated yet.
    """
    genome = best_genome(folder)
    weights = genome.known.get(
        "weights", f"{folder.weights.name}/{genome.known.get('candidate')}.safetensors"
    )
    return Trained(genome, within(folder.path, str(weights)))


def trained(source: Path) -> Trained:
    """The winner of a run after its final training where there is one, else its `best`; or the
    network in the folder that a training wrote, see `final_at`.

    Raises `RunError`.
    """
    place = final_at(source) or final_at(find(source).path)
    return best(find(source)) if place is None else _final(place)


def final_at(source: Path) -> Path | None:
    """The folder of a final training that has ended: `source` itself, or the folder "final" in it,
    as a run's folder has it, and RUN/front/NUMBER; where that training was begun anew and is not
    at its end, the last one that was kept; None where there is none.
    """
    folders = (source, source / "final")
    kept = (place for folder in folders for place in reversed(earlier_in(folder)))
    return next((place for place in (*folders, *kept) if is_final(place)), None)


def final_of_winner(run: RunFolder) -> Path:
    """The folder of the final training of a run's winner; where that was begun anew and is not at
    its end, of the one before it, if that was of the same network.
    """
    place = final_at(run.path)
    if place is None or place == run.final:
        return run.final
    same = read_genome(place / GENOME).genome == best_genome(run).genome
    return place if same else run.final


def is_final(folder: Path) -> bool:
    """Whether a final training has ended in a folder."""
    return (folder / WEIGHTS).exists() and (folder / GENOME).exists()


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds a bundle of `nanonas export`."""
    found = read_json(folder / VERIFICATION)
    return isinstance(found, dict) and found.get("format") == BUNDLE


def _final(folder: Path) -> Trained:
    return Trained(read_genome(folder / GENOME), folder / WEIGHTS)


def best_module(folder: RunFolder) -> NetworkModule:
    """The module of `best`, in eval mode, on the CPU.

    Raises:
        RunError: none is evaluated yet, or its weights are gone.
    """
    return best(folder).module()


def trained_module(source: Path) -> NetworkModule:
    """The module of `trained`, in eval mode, on the CPU.

    Raises `RunError`.
    """
    return trained(source).module()
