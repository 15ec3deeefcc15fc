"""What training costs: work counted by hand, and a made-up machine whose speeds are found again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest

from nanonas.errors import ConfigError
from nanonas.networks import ops
from nanonas.networks.cost import DEFAULTS, ROOTS, CostModel, counts, fitted, per_image
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network, classifier
from nanonas.networks.ops import FAMILIES, Attribute, Op, same_shape
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.stages.space import StagesSpace

PRIOR = DEFAULTS["bfloat16"]


def conv(filters: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> dict[str, Attribute]:
    return {"filters": filters, "kernel": kernel, "stride": stride, "groups": groups, "bias": False}


def chain(*layers: tuple[str, dict[str, Attribute]], side: int = 8) -> Network:
    """Layers on an RGB image, one after the other, and a classifier of 10 classes."""
    draft, x = Draft((3, side, side), 10), "input"
    for op, attributes in layers:
        x = draft.add(op, x, name=None, **attributes)
    return classifier(draft, x)


def random_networks(number: int, seed: int) -> list[Network]:
    rng = np.random.default_rng(seed)
    spaces = StagesSpace(limits=Limits(max_params=100_000)), LayersSpace()
    return [space.decode(space.sample(rng)) for space in spaces for _ in range(number // 2)]


# --- what is counted ------------------------------------------------------------------------------


def test_a_small_network_counted_by_hand() -> None:
    network = chain(
        ("conv", conv(20)),
        ("maxpool", {"kernel": 2, "stride": 2}),
        ("norm", {}),
        ("act", {"kind": "gelu"}),
        ("conv", conv(40, kernel=1)),
    )
    assert counts(network) == {
        "values/image": 3 * 64,
        "macs/conv/image": 64 * 9 * 3 * 32,  # 20 filters are two blocks of 16
        "values/conv": (3 * 64 + 20 * 64) + (20 * 16 + 40 * 16),
        "values/pool/maxpool": 20 * 64 + 20 * 16,
        "windows/pool/maxpool": 20 * 16 * 4,
        "rest/pool/maxpool": 20 * 64,
        "values/norm/norm": 2 * 20 * 16,
        "rest/norm/norm": 20 * 16,
        "values/act/gelu": 2 * 20 * 16,
        "macs/conv/1x1": 16 * 32 * 48,
        "values/pool/globalpool": 40 * 16 + 40,
        "rest/pool/globalpool": 8 * 16,
        "values/dense/dense": 40 + 10,
        "macs/dense/dense": 400,
        "step/once": 1,
        "step/nodes": 7,
        "step/layers": 3,
        "step/params": 20 * 27 + 2 * 20 + 800 + 410,
        "step/products": 20**2 * (27 + 9 * 20) + 20**2 * (40 + 9 * 20),
    }


@pytest.mark.parametrize(
    ("attributes", "kind", "number"),
    [
        (conv(16), "macs/conv/kxk", 64 * 9 * 16 * 16),
        (conv(16, kernel=5), "macs/conv/kxk", 64 * 25 * 16 * 16),
        (conv(17, kernel=1), "macs/conv/1x1", 64 * 16 * 32),
        (conv(16, stride=2), "macs/conv/kxk/strided", 16 * 9 * 16 * 16),
        (conv(16, kernel=1, stride=2), "macs/conv/1x1/strided", 16 * 16 * 16),
        (conv(16, kernel=5, groups=16), "macs/conv/depthwise/5", 64 * 25 * 16),
        (conv(16, kernel=5, groups=16), "rows/conv/depthwise/5", 8 * 5 * 16),
        (conv(16, stride=2, groups=16), "macs/conv/depthwise/3/strided", 16 * 9 * 16),
        (conv(16, stride=2, groups=16), "rows/conv/depthwise/3/strided", 8 * 3 * 16),
        (conv(32, groups=4), "macs/conv/grouped", 64 * 9 * 4 * 32),
    ],
    ids=str,
)
def test_convolutions_are_told_apart_by_how_they_are_computed(
    attributes: dict[str, Attribute], kind: str, number: int
) -> None:
    work = counts(chain(("conv", conv(16)), ("conv", attributes)))
    assert work[kind] == number
    assert work.pop("macs/conv/image") == 64 * 9 * 3 * 16
    assert sum(each.startswith("macs/conv") for each in work) == 1


def test_what_is_computed_of_the_image_without_weights_is_still_the_image() -> None:
    work = counts(chain(("space_to_depth", {"stride": 2}), ("conv", conv(16)), ("conv", conv(16))))
    assert work["macs/conv/image"] == 16 * 9 * 12 * 16
    assert work["macs/conv/kxk"] == 16 * 9 * 16 * 16


def test_channels_that_fill_blocks_leave_no_rest_and_count_as_they_are() -> None:
    network = chain(("conv", conv(32)), ("norm", {}), ("conv", conv(64)))
    work = counts(network)
    assert not any(kind.startswith("rest") for kind in work)
    assert sum(n for kind, n in work.items() if kind.startswith("macs")) == network.macs


# --- what it costs --------------------------------------------------------------------------------


def test_seconds_are_the_sum_of_what_each_kind_costs() -> None:
    network = chain(("conv", conv(16)), ("act", {"kind": "relu"}))
    zeros = dict.fromkeys(ROOTS, 0.0)
    model = CostModel({**zeros, "macs/conv/image": 2.0, "values/act": 3.0, "step": 5.0}, 10)
    work = counts(network)
    per_step = sum(n for kind, n in work.items() if kind.startswith("step"))
    assert model.seconds(network) == pytest.approx(
        2.0 * 64 * 27 * 16 + 3.0 * 2 * 16 * 64 + 5.0 * per_step / 10
    )
    assert sum(model.by_kind(network).values()) == model.seconds(network)


@pytest.mark.parametrize("precision", list(DEFAULTS))
def test_more_of_anything_costs_more(precision: str) -> None:
    model = CostModel(DEFAULTS[precision])
    plain = chain(("conv", conv(32)), ("norm", {}), ("act", {"kind": "relu"}))
    more = [
        chain(("conv", conv(32)), ("norm", {}), ("act", {"kind": "relu"}), ("conv", conv(32, 1))),
        chain(("conv", conv(32)), ("norm", {}), ("act", {"kind": "relu"}), ("norm", {})),
        chain(("conv", conv(48)), ("norm", {}), ("act", {"kind": "relu"})),
        chain(("conv", conv(32)), ("norm", {}), ("act", {"kind": "relu"}), side=12),
    ]
    assert all(model.seconds(network) > model.seconds(plain) for network in more)


def test_a_larger_batch_shares_what_a_step_costs() -> None:
    network = chain(("conv", conv(16)))
    small, large = (CostModel(PRIOR, batch_size).seconds(network) for batch_size in (8, 512))
    step = sum(v for k, v in CostModel(PRIOR, 1).by_kind(network).items() if k.startswith("step"))
    assert small - large == pytest.approx(step / 8 - step / 512)


def test_an_operation_without_an_entry_costs_what_its_family_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ops.OPS, "rms_norm", Op(same_shape, family="norm"))
    monkeypatch.setitem(ops.OPS, "mystery", Op(same_shape, macs=lambda node: 1_000))
    model = CostModel({**PRIOR, "values/norm": 7e-9})
    work = model.by_kind(chain(("conv", conv(16)), ("rms_norm", {}), ("mystery", {})))
    assert work["values/norm/rms_norm"] == pytest.approx(7e-9 * 2 * 16 * 64)
    assert work["macs/other/mystery"] == pytest.approx(PRIOR["macs"] * 1_000)
    assert work["values/other/mystery"] == pytest.approx(PRIOR["values/other"] * 2 * 16 * 64)


def test_the_defaults_know_every_family_of_operations_and_are_above_0() -> None:
    for prior in DEFAULTS.values():
        assert prior.keys() >= ROOTS
        assert all(seconds > 0 for seconds in prior.values())
        known = {kind.split("/")[1] for kind in prior if "/" in kind}
        assert known >= set(FAMILIES)


def test_a_model_goes_through_json() -> None:
    model = CostModel({**PRIOR, "values/act/new": 1.5e-9}, 64)
    assert CostModel(**json.loads(json.dumps(asdict(model)))) == model
    assert hash(model) == hash(CostModel(**asdict(model)))


@pytest.mark.parametrize(
    ("coefficients", "batch_size", "message"),
    [
        ({**PRIOR, "macs": -1.0}, 128, "'macs' must be 0 s or more, but is -1.0"),
        ({**PRIOR, "macs": math.nan}, 128, "'macs' must be 0 s or more, but is nan"),
        ({"macs": 1.0, "values": 1.0}, 128, "needs coefficients of rest, rows, step, windows"),
        (PRIOR, 0, "batch_size must be 1 or more, but is 0"),
    ],
    ids=["negative", "nan", "missing", "batch"],
)
def test_what_is_no_model_is_refused(
    coefficients: dict[str, float], batch_size: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        CostModel(coefficients, batch_size)


# --- a made-up machine ----------------------------------------------------------------------------


def a_machine(seed: int, slower: float, spread: float) -> CostModel:
    """Another machine: slower altogether, and each kind of work by a factor of its own."""
    rng = np.random.default_rng(seed)
    return CostModel({k: slower * v * math.exp(rng.normal(0, spread)) for k, v in PRIOR.items()})


def calibrated(machine: CostModel, networks: Sequence[Network], noise: float = 0.0) -> CostModel:
    rng = np.random.default_rng(1)
    seconds = [machine.seconds(n) * math.exp(rng.normal(0, noise)) for n in networks]
    return fitted([per_image(network, 128) for network in networks], seconds, 128, PRIOR)


def errors(model: CostModel, machine: CostModel, networks: Sequence[Network]) -> list[float]:
    return [abs(model.seconds(n) / machine.seconds(n) - 1) for n in networks]


def test_a_machine_that_is_only_slower_is_known_from_one_network() -> None:
    machine = a_machine(0, slower=7.0, spread=0.0)
    network, *others = random_networks(10, seed=0)
    assert max(errors(calibrated(machine, [network]), machine, others)) < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_a_machine_of_another_kind_is_found_from_noisy_times(seed: int) -> None:
    machine = a_machine(seed, slower=3.0, spread=0.5)
    strangers = random_networks(40, seed=1)
    before = np.median(errors(CostModel({k: 3 * v for k, v in PRIOR.items()}), machine, strangers))
    after = np.median(errors(calibrated(machine, random_networks(60, 0), 0.03), machine, strangers))
    assert after < 0.05
    assert after < before / 2


def test_coefficients_are_never_below_0_and_what_was_not_seen_is_as_slow_as_the_rest() -> None:
    machine = a_machine(0, slower=2.0, spread=0.0)
    free = CostModel({**machine.coefficients, "values/act/relu": 0.0})
    model = calibrated(free, [chain(("conv", conv(16)), ("act", {"kind": "relu"}))] * 3)
    assert min(model.coefficients.values()) >= 0
    assert model.coefficients["values/act/relu"] < machine.coefficients["values/act/relu"]
    ratio = model.coefficients["values/norm/norm"] / PRIOR["values/norm/norm"]
    assert ratio == pytest.approx(model.coefficients["values/act/gelu"] / PRIOR["values/act/gelu"])


def test_the_fit_is_a_function_of_the_measurements() -> None:
    machine, networks = a_machine(0, 2.0, 0.5), random_networks(10, seed=0)
    assert calibrated(machine, networks) == calibrated(machine, networks)
