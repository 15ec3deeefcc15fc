"""Nothing that was reported is ever lost, and a search that was interrupted comes to what it would
have come to: `python -m chaos`, in this folder's, has more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.accidents import Accidents
from chaos.kinds import KINDS

pytestmark = [
    pytest.mark.timeout(600),  # on a machine that is busy; each takes a second or two
    pytest.mark.skipif(
        not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc"
    ),
]


@pytest.fixture(scope="module")
def accidents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accidents]:
    with Accidents(tmp_path_factory.mktemp("chaos")) as accidents:
        yield accidents


@pytest.mark.parametrize("number", range(len(KINDS)), ids=list(KINDS))
def test_nothing_is_lost(number: int, accidents: Accidents) -> None:
    accidents.happen(number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(KINDS), 200))
def test_nothing_is_lost_in_200_accidents(number: int, accidents: Accidents) -> None:
    accidents.happen(number)
