"""What tests share: a cache of their own for decoded images, and one thread for those that ask for
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanonas.engine.storage import opening


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANONAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_experience() -> Iterator[None]:
    """Searches begin with nothing, and leave nothing in the user's home, unless a test asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANONAS_EXPERIENCE", "off")
        yield


@pytest.fixture(scope="session", autouse=True)
def a_disk_that_nobody_waits_for() -> Iterator[None]:
    """Stores and files are written as ever, but not waited for: power cuts are not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "SYNCHRONOUS", "OFF")
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache of the test's own."""
    monkeypatch.setenv("NANONAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def quick_measurements() -> Iterator[None]:
    """No seconds are spent on measuring the winner's speed and latency, and its training has the
    epochs that fit by that pace, however fast it is.
    """
    from nanonas.training import crew, final
    from nanonas.training.measuring.pace import Pace

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
        patch.setattr(crew, "pace_of", lambda training, patience: Pace(1.0))
        patch.setattr(final.FinalTraining, "_replan", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch as a search's workers have it: for networks this small a second thread costs more
    than it brings.
    """
    import torch

    from nanonas.training.device import prepare

    threads = torch.get_num_threads()
    prepare(1)
    yield
    torch.set_num_threads(threads)
