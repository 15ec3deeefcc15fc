"""Rounding that gradients go through, and fine-tuning with it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from toys.integers import fit, plant_outliers, small_network

from nanonas.data.images import load
from nanonas.deploy.folding import folded
from nanonas.networks.network import Draft, classifier, conv_norm, relu
from nanonas.training.augment import Augment, to_device
from nanonas.training.finetuning import Finetuning
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import Pictures
from nanonas.training.quantised import (
    IMAGE,
    Held,
    QuantisedModule,
    calibrated,
    rounded,
    rounded_maps,
    rounded_weight,
)
from nanonas.training.train import accuracy

pytestmark = pytest.mark.usefixtures("one_thread")


# --- rounding -------------------------------------------------------------------------------------


@given(st.floats(-8, 0, width=32), st.floats(0.125, 8, width=32))
@example(-1.899999976158142, 1.899999976158142)  # both ends are half-way between two steps
def test_a_map_lies_on_the_nearest_of_256_steps_and_one_is_0(low: float, high: float) -> None:
    x = torch.linspace(low, high, 400, dtype=torch.float64)
    got = rounded(x, torch.tensor(low).double(), torch.tensor(high).double())
    step = (high - low) / 255
    integers = (got / step).numpy()
    np.testing.assert_allclose(integers, np.rint(integers), atol=1e-9)
    assert len(np.unique(np.rint(integers))) <= 256
    assert float((got - x).abs().max()) <= 0.5000001 * step
    assert float(rounded(torch.zeros(1), torch.tensor(low), torch.tensor(high))) == 0


def test_gradients_pass_inside_and_move_the_ends_beyond() -> None:
    x = torch.tensor([-3.0, -0.7, 0.26, 0.9, 5.0], requires_grad=True)
    low, high = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.55, requires_grad=True)
    upstream = torch.tensor([1.0, 1.0, 1.0, 1.0, 10.0])
    rounded(x, low, high).backward(upstream)  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert low.grad is not None
    assert high.grad is not None
    # -3 is held at the low end, 5 at the high one; the three between move the step alone, by what
    # rounding did to them in units of it
    between = np.array([-0.7, 0.26, 0.9]) / 0.01
    by_step = float(np.sum(np.rint(between) - between)) / 255
    assert float(low.grad) == pytest.approx(1 - by_step, abs=1e-3)
    assert float(high.grad) == pytest.approx(10 + by_step, abs=1e-3)


def test_each_filter_has_255_steps_up_to_its_largest_weight() -> None:
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight *= torch.tensor([1e-3, 1, 10, 1e4, 0]).view(-1, 1, 1, 1)
    weight.requires_grad_()
    got = rounded_weight(weight)
    for filter_, exact in zip(got.detach()[:4], weight.detach()[:4], strict=True):
        step = float(exact.abs().max()) / 127
        integers = (filter_ / step).numpy()
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
        assert float((filter_ - exact).abs().max()) <= 0.5001 * step
    assert got[4].tolist() == torch.zeros(3, 3, 3).tolist()
    got.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert set(weight.grad.flatten().tolist()) == {1.0}


def test_what_is_rounded() -> None:
    draft = Draft((3, 8, 8), 4)
    alone = relu(draft, conv_norm(draft, "input", 6, 3))
    pooled = draft.add("maxpool", conv_norm(draft, alone, 6, 3), kernel=2, stride=2)
    swish = draft.add("act", conv_norm(draft, relu(draft, pooled), 6, 3), kind="hardswish")
    both = draft.add("add", swish, relu(draft, swish))
    mean = draft.add("avgpool", draft.add("concat", both, swish), kernel=2, stride=2)
    network = folded(build_module(classifier(draft, mean), seed=0)).network
    assert rounded_maps(network) == {
        IMAGE: IMAGE,
        "act1": "act1",  # conv1 goes on to its ReLU
        "act2": "act2",  # conv2 as well, through a pool
        "conv3": "conv3",  # a table reads it
        "act3": "act3",
        "act4": "act3",  # a ReLU of what is rounded
        "add1": "add1",
        "concat1": "concat1",
        "avgpool1": "concat1",
        "globalpool1": "globalpool1",
        "dense1": "dense1",
    }


# --- a network ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> tuple[Pictures, Pictures, Pictures]:
    """To train on, to validate with, to calibrate by."""
    images = load("digits")
    x, y = to_device(images.x_train, images.y_train)
    whole = Pictures(x, y, torch.tensor(images.mean), torch.tensor(images.std))
    train, valid = torch.split(torch.arange(len(y)), [1000, len(y) - 1000])
    parts = (replace(whole, rows=rows) for rows in (train, valid, train[:256]))
    return next(parts), next(parts), next(parts)


@pytest.fixture(scope="module")
def trained(digits: tuple[Pictures, ...]) -> NetworkModule:
    """Trained, with channels that are scaled badly for integers."""
    train = digits[0]
    module = build_module(small_network((1, 8, 8), 10), seed=2)
    rows = train.rows
    assert rows is not None
    pixels = train.x[rows].float() / 255
    x = (pixels - train.mean.view(-1, 1, 1)) / train.std.view(-1, 1, 1)
    fit(module, x.numpy(), train.y[rows].numpy())
    assert plant_outliers(module, 100.0) > 0
    return folded(module.eval())


def test_held_and_rounded_networks_are_the_network_where_ends_are_wide(
    trained: NetworkModule, digits: tuple[Pictures, ...]
) -> None:
    x = digits[1].x[:20].float() / 100 - 0.8
    ends = calibrated(trained, digits[2])
    wide = {name: (10 * low - 1, 10 * high + 1) for name, (low, high) in ends.items()}
    with torch.no_grad():
        expected = trained(x)
        torch.testing.assert_close(Held(trained, wide)(x), expected)
        assert not torch.allclose(Held(trained, {"dense1": (-0.1, 0.1)})(x), expected)
        student = QuantisedModule(trained, ends)
        assert not torch.allclose(student(x), expected)
        torch.testing.assert_close(student.floating()(x), expected)
    for name, found in student.ranges().items():
        assert found == pytest.approx(ends[name])


def test_fine_tuning_gets_back_what_integers_lost(
    trained: NetworkModule, digits: tuple[Pictures, ...]
) -> None:
    train, valid, calibration = digits
    floats = accuracy(trained, valid)
    weights = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    ends = calibrated(trained, calibration)
    found = Finetuning(epochs=4).run(trained, ends, train, valid, Augment())
    assert floats - found.before > 0.03
    assert found.after >= floats - 0.01
    assert found.epochs == 4
    again = QuantisedModule(found.module, {**calibrated(found.module, calibration), **found.ranges})
    assert accuracy(again, valid) == pytest.approx(found.after, abs=0.003)
    for name, tensor in trained.state_dict().items():  # it is left as it was
        assert torch.equal(tensor, weights[name])


def test_the_beginning_is_kept_where_training_hurts(
    trained: NetworkModule, digits: tuple[Pictures, ...]
) -> None:
    train, valid, calibration = digits
    ends = calibrated(trained, calibration)
    found = Finetuning(epochs=1, lr=3.0, looks=2).run(trained, ends, train, valid, Augment())
    assert found.after == found.before
    for name, tensor in found.module.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name])


def test_it_depends_on_its_arguments_alone_unless_time_ends_it(
    trained: NetworkModule, digits: tuple[Pictures, ...]
) -> None:
    train, valid, calibration = digits
    ends, augment = calibrated(trained, calibration), Augment(crop=1)
    how = Finetuning(epochs=0.5, looks=1)

    def weights(how: Finetuning) -> list[Tensor]:
        return list(how.run(trained, ends, train, valid, augment).module.state_dict().values())

    first, second, other = weights(how), weights(how), weights(replace(how, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    ticks = itertools.count()
    ended = replace(how, epochs=9.0, seconds=5.0, clock=lambda: float(next(ticks)))
    assert ended.run(trained, ends, train, valid, augment).epochs == pytest.approx(4 / 16)
