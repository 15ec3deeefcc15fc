"""What is timed to calibrate a cost model, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from nanonas.networks.cost import DEFAULTS, CostModel
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.measuring import speed
from nanonas.training.measuring.speed import calibrate, probes, step_seconds
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

SPACE = StagesSpace((3, 8, 8), limits=Limits(max_params=8_000))
PRIOR = DEFAULTS["float32"]
RECIPE = Recipe(batch_size=8)


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def pictures(number: int = 32) -> Pictures:
    x = torch.zeros(number, 3, 8, 8, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    y = torch.arange(number) % 10
    return Pictures(x, y, torch.full((3,), 0.5), torch.full((3,), 0.25))


def training(number: int) -> Training:
    module = build_module(NanoSpace((3, 8, 8), 10, channels=4).decode((0, 0)), seed=0)
    return Training(module, pictures(number), RECIPE, 5, seed=0)


# --- one step -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "epochs"), [(32, 0), (8, 1)], ids=["of four", "the only one"])
def test_one_step_is_timed_and_no_more_is_taken(number: int, epochs: int) -> None:
    timed, steps = training(number), []
    plain = timed._step
    timed._step = lambda *args: (steps.append(1), plain(*args))[1]  # type: ignore[method-assign,func-returns-value]
    ticks = iter([10.0, 12.5])
    assert step_seconds(timed, lambda: next(ticks)) == 2.5
    assert len(steps) == 1
    assert timed.epoch == epochs


# --- the networks that are timed ------------------------------------------------------------------


def test_the_probes_are_different_networks_and_always_the_same() -> None:
    found = probes(SPACE, 8, PRIOR)
    assert len({network.key for network in found}) == len(found) == speed.PROBES
    assert [network.key for network in found] == [n.key for n in probes(SPACE, 8, PRIOR)]
    assert [n.key for n in probes(SPACE, 8, PRIOR, number=3)] == [n.key for n in found[:3]]


def test_the_probes_tell_more_than_as_many_random_networks() -> None:
    """Their kinds of work are more, and less alike."""

    def told(networks: list[Network]) -> float:
        times = speed._times(networks, 8, PRIOR)
        shares = times / times.sum(axis=1, keepdims=True)
        return float(np.linalg.slogdet(np.eye(len(shares)) + 25 * shares @ shares.T)[1])

    rng = np.random.default_rng(0)
    drawn = [[SPACE.decode(SPACE.sample(rng)) for _ in range(speed.PROBES)] for _ in range(5)]
    assert told(probes(SPACE, 8, PRIOR)) > max(map(told, drawn))


def test_where_few_networks_are_found_all_are_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_DRAWN", 3)
    assert 0 < len(probes(LayersSpace((3, 8, 8), 10), 8, PRIOR)) <= 3


# --- calibration ----------------------------------------------------------------------------------


def test_a_machine_is_known_from_its_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which attention is slow, and that now and then does something else."""
    slow = {kind: 2 * s if kind.startswith("values/other") else s for kind, s in PRIOR.items()}
    machine = CostModel({kind: 5 * seconds for kind, seconds in slow.items()}, 8)
    calls: list[NetworkModule] = []

    def timed(training: Training, clock: object) -> float:
        assert isinstance(training.module, NetworkModule)
        calls.append(training.module)
        hiccup = 3 if len(calls) % 7 == 0 else 1
        return hiccup * 8 * machine.seconds(training.module.network)

    monkeypatch.setattr(speed, "step_seconds", timed)
    model = calibrate(SPACE, pictures(), RECIPE, seconds=60)
    assert model.batch_size == 8
    rng = np.random.default_rng(3)
    strangers = [SPACE.decode(SPACE.sample(rng)) for _ in range(40)]
    ratios = [model.seconds(network) / machine.seconds(network) for network in strangers]
    assert np.median(np.abs(np.array(ratios) - 1)) < 0.03
    # in turns: each network is timed again after all others were
    assert calls[-speed.PROBES :] == calls[-2 * speed.PROBES : -speed.PROBES]
    assert len(set(calls)) == speed.PROBES


def test_without_time_a_few_networks_are_timed_for_a_step_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[Training] = []

    def timed(training: Training, clock: object) -> float:
        steps.append(training)
        return 1.0

    monkeypatch.setattr(speed, "step_seconds", timed)
    calibrate(SPACE, pictures(), RECIPE, seconds=0)
    assert len(steps) == 2 * len(set(steps)) == 8  # the first step of each does not count


@pytest.mark.parametrize("precision", list(DEFAULTS))
def test_real_steps_make_a_model(precision: str) -> None:
    recipe = Recipe(batch_size=8, precision=precision)
    model = calibrate(SPACE, pictures(30), recipe, threads=1, seconds=0)
    assert model.batch_size == round(30 / 4)
    assert all(model.seconds(SPACE.decode(genome)) > 0 for genome in SPACE.ancestors().values())
    assert torch.get_num_threads() == 1
