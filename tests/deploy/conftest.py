"""What tests of exports share: a run that was kept, with trained networks for digits of 8×8."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

FIXTURE = Path(__file__).parent.parent / "fixtures" / "halving_run"


@pytest.fixture(scope="session")
def copied() -> Callable[[Path], Path]:
    """Copies the run into a folder, as `run`."""

    def copied(folder: Path) -> Path:
        shutil.copytree(FIXTURE, folder / "run")
        return folder / "run"

    return copied


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, copied: Callable[[Path], Path]) -> Path:
    """A copy of the run; nobody may change it, but for what an export records with it."""
    return copied(tmp_path_factory.mktemp("runs"))
