"""Latency and memory, against PyTorch's own account of them."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nanonas.core import Budget, Candidate, Proposal, State
from nanonas.data.images import DataSpec
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network
from nanonas.networks.reference import REFERENCES
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.training import trial
from nanonas.training.measuring import latency as cost
from nanonas.training.measuring.costs import measure
from nanonas.training.measuring.latency import latency, latency_ms
from nanonas.training.measuring.memory import MIB, peak_memory, training_memory
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.recipe import Recipe
from nanonas.training.trial import Trial

SHAPE, CLASSES = (3, 12, 12), 10


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# --- latency --------------------------------------------------------------------------------------


def test_latency_is_of_warm_passes_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Size, bool]] = []
    ticks = {"now": 0.0}

    class Slow(nn.Module):
        """Takes a second the first five times, then 1 ms, 2 ms, 3 ms, …"""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((x.shape, self.training))
            ticks["now"] += 1.0 if len(seen) <= 5 else 0.001 * (len(seen) - 5)
            return x

    monkeypatch.setattr(time, "perf_counter", lambda: ticks["now"])
    measured = latency(Slow().train(), (3, 8, 6), "cpu", batch_size=4, seconds=0.0)
    assert seen == [(torch.Size((4, 3, 8, 6)), False)] * 15
    assert measured.n == 10
    assert (measured.median, measured.low, measured.high) == pytest.approx((5.5, 2.0, 9.0))
    assert str(measured) == "5.5 ms (2 to 9)"
    seen.clear()
    assert latency_ms(Slow(), (3, 8, 6), "cpu", seconds=0.0) == pytest.approx(5.5)


# --- memory ---------------------------------------------------------------------------------------


class Account(TorchDispatchMode):
    """The largest sum of floating tensors that were made within it and were alive at once."""

    def __init__(self, *held: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.largest = 0
        for tensor in held:
            self._add(tensor)

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if tensor.is_floating_point() and place not in self.alive and storage.nbytes():
            self.alive[place] = storage.nbytes()
            weakref.finalize(storage, self.alive.pop, place, None)
        self.largest = max(self.largest, sum(self.alive.values()))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        return out


def branching() -> Network:
    """Three branches of different widths, joined in several ways; a dropout; an activation that may
    not overwrite.
    """
    draft = Draft(SHAPE, CLASSES)
    stem = draft.add("conv", "input", filters=8, kernel=3, stride=1, groups=1, bias=True)
    ways = [
        draft.add("act", draft.add("norm", stem), kind=kind)
        for kind in ("relu", "silu", "leaky_relu")
    ]
    total = draft.add("add", *ways, stem)
    joined = draft.add("dropout", draft.add("concat", total, ways[0]), rate=0.3)
    pooled = draft.add("avgpool", draft.add("add", joined), kernel=3, stride=2)
    wide = draft.add("conv", pooled, filters=64, kernel=1, stride=1, groups=1, bias=False)
    wide = draft.add("act", draft.add("norm", draft.add("act", wide, kind="gelu")), kind="relu")
    wide = draft.add("maxpool", wide, kernel=2, stride=2)
    vector = draft.add("globalpool", draft.add("zero", wide))
    return draft.finish(draft.add("dense", vector, units=CLASSES))


def networks() -> Iterator[Network]:
    yield branching()
    for reference in ("resnet20", "baseline"):
        yield REFERENCES[reference](SHAPE, CLASSES)
    rng = np.random.default_rng(0)
    spaces: tuple[Space, ...] = (
        NanoSpace(SHAPE, CLASSES, channels=6, length=5),
        LayersSpace(SHAPE, CLASSES),
        NASBench201Space(SHAPE, CLASSES),
    )
    for space in spaces:
        yield from (space.decode(space.sample(rng)) for _ in range(6))


def test_counted_memory_is_what_pytorch_makes_and_lets_go() -> None:
    for network in networks():
        module = build_module(network, seed=0).eval()
        x = torch.zeros(1, *SHAPE).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), Account(x) as account:
            module(x)
        stored = sum(t.numel() * 4 for t in module.state_dict().values() if t.is_floating_point())
        assert peak_memory(module) == (stored + account.largest) / MIB, network


def test_memory_is_the_same_whatever_the_module_is_used_for() -> None:
    module = build_module(branching(), seed=0).train()
    before = peak_memory(module)
    module(torch.zeros(4, *SHAPE)).sum().backward()
    assert peak_memory(module.eval()) == before
    assert module.network.params * 4 / MIB < before


def chain() -> NetworkModule:
    draft = Draft((1, 8, 8), CLASSES)
    x = draft.add("conv", "input", filters=6, kernel=3, stride=2, groups=1, bias=False)
    x = draft.add("act", draft.add("norm", x), kind="relu")
    return build_module(
        draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES)), seed=0
    )


@pytest.mark.parametrize("batch", [2, 7])
def test_training_memory_is_what_backward_needs(batch: int) -> None:
    module = chain()
    weights = 4 * (3 * 3 * 6 + 2 * 6 + 6 * CLASSES + CLASSES)
    statistics = 4 * 2 * 6
    maps = 4 * batch * 6 * 4 * 4  # the convolution's; and that of the norm, which ReLU overwrites
    image, pooled, batch_statistics = 4 * batch * 64, 4 * batch * 6, 4 * 2 * 6
    kept = image + 2 * maps + batch_statistics + pooled
    loss = 4 * batch * CLASSES + 8 * batch + 4  # log-probabilities, labels, and their number
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert MIB * training_memory(module, batch) == pytest.approx(
        3 * weights + statistics + kept + loss, abs=1
    )
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_training_memory_grows_with_the_batch_and_shrinks_with_mixed_precision() -> None:
    module = build_module(REFERENCES["resnet20"](SHAPE, CLASSES), seed=0)
    once, twice, thrice = (training_memory(module, batch) for batch in (4, 8, 12))
    assert thrice - twice == pytest.approx(twice - once)
    assert training_memory(module, 32, "bfloat16") < 0.8 * training_memory(module, 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="measures on CUDA")
def test_measured_memory_on_cuda_is_at_least_the_counted_one() -> None:
    module = build_module(REFERENCES["resnet20"]((3, 64, 64), CLASSES), seed=0)
    assert 0.95 * peak_memory(module) < peak_memory(module, "cuda:0") < 20 * peak_memory(module)
    assert peak_memory(module, "cuda:0") == peak_memory(module, "cuda:0")
    assert next(module.parameters()).device.type == "cpu"


# --- before a training ----------------------------------------------------------------------------


def test_only_what_is_asked_for_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    network, names = branching(), {"latency", "latency_low", "latency_high"}
    quick = cost.latency
    monkeypatch.setattr(
        cost, "latency", lambda module, shape, device: quick(module, shape, device, seconds=0.0)
    )
    assert measure(network, "cpu", ()) == measure(network, "cpu", ("accuracy",)) == {}
    assert measure(network, "cpu", ("memory",)) == {"memory": peak_memory(build_module(network))}
    assert set(measure(network, "cpu", ("latency", "params"))) == names
    found = measure(network, "cpu", ("latency", "memory"))
    assert set(found) == {*names, "memory"}
    assert 0 < found["latency_low"] <= found["latency"] <= found["latency_high"]


def test_a_limit_asks_for_its_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[frozenset[str]] = []
    monkeypatch.setattr(trial, "measure", lambda network, device, wanted, *_: asked.append(wanted))
    made = Trial(NanoSpace(), DataSpec("digits"), Recipe(), seed=0)
    for limits, measured in (
        (Limits(max_params=5, max_macs=5), frozenset[str]()),
        (Limits(max_memory_mb=1.0), frozenset[str]()),
        (Limits(max_latency_ms=1.0), frozenset({"memory"})),
    ):
        replace(made, limits=limits, measured=measured).measure(branching())
    assert asked == [frozenset(), {"memory"}, {"latency", "memory"}]


def test_the_sentence_about_a_limit_has_value_limit_and_flag() -> None:
    found = {"latency": 3.4567, "memory": 0.5}
    assert Limits(max_params=1, max_macs=1).exceeded({}) is None
    assert Limits(max_latency_ms=3.4567, max_memory_mb=0.5).exceeded(found) is None
    assert Limits(max_latency_ms=3).exceeded(found) == (
        "the latency of 3.457 ms is above the limit of 3 ms (--max-latency-ms)"
    )
    assert Limits(max_memory_mb=0.25).exceeded(found) == (
        "the memory of 0.5 MiB is above the limit of 0.25 MiB (--max-memory-mb)"
    )


def tried(limits: Limits, measured: frozenset[str] = frozenset(), **proposal: Any) -> Any:
    space = NanoSpace((1, 8, 8), CLASSES, channels=4, length=2)
    data = DataSpec("digits", train_images=40)
    run = Trial(space, data, Recipe(), seed=0, limits=limits, measured=measured)
    genome = space.sample(np.random.default_rng(1))
    budget = Budget(1, image_size=proposal.pop("image_size", None))
    return run(Candidate(0, Proposal(genome, budget=budget, **proposal), "key"), lambda: True)


def test_what_breaks_a_limit_is_infeasible_and_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError("trained all the same")

    monkeypatch.setattr(trial, "Training", never)
    evaluation = tried(Limits(max_memory_mb=0.001))
    assert evaluation.state is State.INFEASIBLE
    assert evaluation.metrics.keys() == {"memory"}
    assert evaluation.curve == ()
    assert evaluation.reason.endswith("is above the limit of 0.001 MiB (--max-memory-mb)")


def test_what_meets_the_limits_is_trained_and_keeps_what_was_measured() -> None:
    plain = tried(Limits())
    measured = tried(Limits(max_memory_mb=100.0))
    assert measured.state is State.COMPLETE
    assert measured.metrics["accuracy"] == plain.metrics["accuracy"]  # to measure changes nothing
    assert measured.metrics.keys() - plain.metrics.keys() == {"memory"}
    shrunk = tried(Limits(), frozenset({"memory"}), image_size=4)
    assert shrunk.metrics["memory"] == measured.metrics["memory"]  # of images as they are


def test_a_training_that_goes_on_has_met_its_limits_before() -> None:
    evaluation = tried(Limits(max_memory_mb=0.001), resumes=7)
    assert evaluation.state is State.COMPLETE
    assert evaluation.metrics["memory"] > 0.001
