"""What runs on a node of a cluster, without a cluster."""

from __future__ import annotations

import os
import pickle
import re

import pytest

from nanonas.core import Candidate, Evaluation, Proposal, Pulse, State
from nanonas.engine.evaluators.slot import Answer, Overfull, Ready, Slot
from nanonas.machine import version_of
from nanonas.processes import memory_of


def batch(candidate: Candidate, pulse: Pulse) -> Evaluation:
    pulse()
    return Evaluation(candidate.number, State.COMPLETE, {"accuracy": 0.5})


@pytest.mark.skipif(memory_of(os.getpid()) is None, reason="memory is watched on Linux alone")
@pytest.mark.parametrize("memory_mb", [None, 1.0, 1e9])
def test_a_process_that_holds_too_much_memory_ends_its_measurement(memory_mb: float | None) -> None:
    slot = Slot(version_of("nanonas"), pickle.dumps(batch), False, None, memory_mb)
    assert isinstance(slot.begin(), Ready)
    answer = slot.measure(Candidate(3, Proposal((0,)), "key"), None, ())
    if memory_mb == 1.0:
        assert isinstance(answer, Overfull)
        said = r"it held [0-9]+ MiB of memory, but may hold 1 \(--worker-memory-mb\)"
        assert re.fullmatch(said, answer.reason)
    else:
        assert isinstance(answer, Answer)
        assert answer.evaluation.state is State.COMPLETE
    assert slot.silence(0.0) == (0.0, "")
