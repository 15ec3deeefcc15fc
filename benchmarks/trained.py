"""Whole runs at their end, and networks that people write down, trained as a winner is."""

from __future__ import annotations

import time
from pathlib import Path

from nanonas.config.schema import Config
from nanonas.networks.network import Network
from nanonas.runs.folder import RunFolder
from nanonas.runs.source import Source
from nanonas.session.compare import trained_alike
from nanonas.session.listener import Listener
from nanonas.session.start import begin, resume
from nanonas.session.winner import run_training
from nanonas.training.final import FinalResult, read_result


def at_its_end(config: Config) -> RunFolder:
    """The whole run of a configuration with a name: begun, gone on with, or only read."""
    assert config.run.name is not None
    folder = RunFolder(Path(config.run.out) / config.run.name)
    if not folder.store.exists():
        begin(config)
    elif read_result(folder.final) is None:
        resume(folder.path)
    return folder


def trained_for(
    seconds: float, network: Network, source: Source, seed: int, folder: Path, label: str
) -> FinalResult:
    """What a network comes to by the recipe of the source's run, on its images; a training that
    ended in the folder before is only read.
    """
    training = trained_alike(source, network, seed, "auto", folder, f"compare: {label}")
    result = read_result(folder)
    if result is not None:
        return result
    return run_training(training, label, Listener(), None, time.monotonic() + seconds)
