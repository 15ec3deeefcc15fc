"""Scores of untrained networks, against brute force and PyTorch; and the trial that measures them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nanonas.config.parts import SPACES
from nanonas.config.schema import SpaceOptions
from nanonas.core import Budget, Candidate, Evaluation, Proposal, State
from nanonas.data.images import DataSpec
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import ACTIVATIONS
from nanonas.spaces.nano import NanoSpace
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import pictures
from nanonas.training.recipe import Recipe
from nanonas.training.trial import Trial, _minibatch
from nanonas.training.untrained import IMAGES, SCORES, grad_norm, jacob_cov, naswot, scores, synflow

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, CLASSES = (2, 8, 8), 5


def batch(
    number: int = 12, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(number, *shape, generator=draw), torch.randint(
        classes, (number,), generator=draw
    )


def chain(
    *layers: tuple[str, dict[str, int | float | str]], shape: tuple[int, int, int] = SHAPE
) -> Network:
    """The layers one after the other, global pooling and a dense layer; convolutions have a bias."""
    draft, x = Draft(shape, CLASSES), "input"
    for op, attributes in layers:
        if op == "conv":
            attributes = {"kernel": 3, "stride": 1, "groups": 1, "bias": True, **attributes}
        x = draft.add(op, x, **attributes)
    return draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES))


CONV = ("conv", {"filters": 4})
NORM = ("norm", {})
DROPOUT = ("dropout", {"rate": 0.5})


def act(kind: str) -> tuple[str, dict[str, int | float | str]]:
    return "act", {"kind": kind}


def shaken(module: NetworkModule) -> NetworkModule:
    """The module with every tensor changed, norms' scales and statistics and all biases too, as by
    training.
    """
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.1)
    return module


# --- synflow --------------------------------------------------------------------------------------


def test_synflow_of_a_chain_is_its_length_times_the_product_of_its_weights() -> None:
    layers = [("conv", {"filters": filters, "kernel": 1}) for filters in (3, 6)]
    module = shaken(build_module(chain(layers[0], NORM, act("gelu"), layers[1], DROPOUT)))
    flow = np.ones(SHAPE[0])
    for name in ("conv1", "conv2", "dense1"):
        flow = (
            np.abs(
                module.get_parameter(f"{name}.weight")
                .detach()
                .double()
                .numpy()
                .reshape(-1, len(flow))
            )
            @ flow
        )
    assert synflow(module, *batch()) == pytest.approx(math.log(3 * flow.sum()), rel=1e-12)


def test_synflow_is_the_sum_over_finite_differences() -> None:
    draft = Draft(SHAPE, CLASSES)
    wide = draft.add("conv", "input", filters=4, kernel=3, stride=1, groups=2, bias=True)
    wide = draft.add(
        "maxpool", draft.add("act", draft.add("norm", wide), kind="silu"), kernel=2, stride=2
    )
    short = draft.add("conv", "input", filters=3, kernel=3, stride=2, groups=1, bias=True)
    joined = draft.add("concat", wide, short)
    network = draft.finish(draft.add("dense", draft.add("globalpool", joined), units=CLASSES))
    module = build_module(network, seed=0)
    names = ("conv1", "conv2", "dense1")
    weights = [module.get_parameter(f"{name}.weight").detach().double().abs() for name in names]

    def flow() -> float:
        ones = torch.ones(1, *SHAPE, dtype=torch.float64)
        a = F.max_pool2d(F.conv2d(ones, weights[0], padding=1, groups=2), 2)
        b = F.conv2d(ones, weights[1], stride=2, padding=1)
        return float((torch.cat([a, b], dim=1).mean(dim=(2, 3)) @ weights[2].T).sum())

    before, total = flow(), 0.0
    for weight in weights:
        for place in np.ndindex(*weight.shape):
            kept = weight[place].item()
            weight[place] = kept * (
                1 + 1e-6
            )  # in which the flow is linear, as long as no maximum changes
            total += (flow() - before) / 1e-6
            weight[place] = kept
    assert synflow(module, *batch()) == pytest.approx(math.log(total), abs=1e-6)


def test_synflow_knows_neither_norms_nor_biases_nor_images() -> None:
    module = build_module(chain(CONV, NORM, act("relu"), CONV), seed=0)
    before = synflow(module, *batch())
    for name, tensor in module.state_dict().items():
        if name.startswith("norm") or name.endswith("bias"):
            tensor.fill_(7)
    images, labels = batch(3)
    assert synflow(module, 5 * images, labels) == before


@pytest.mark.parametrize("weight", [1e-10, 1e10])
def test_synflow_of_a_deep_network_stays_finite(weight: float) -> None:
    layers = [("conv", {"filters": 1, "kernel": 1})] * 30
    module = build_module(chain(*layers, shape=(1, 8, 8)), seed=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(weight if parameter.ndim == 4 else 1.0)
    expected = (
        30 * math.log(weight) + math.log(31 * CLASSES) if weight > 1 else math.nan
    )  # less than float64 holds
    assert synflow(module, *batch(shape=(1, 8, 8))) == pytest.approx(
        expected, rel=1e-6, nan_ok=True
    )


# --- the others -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_naswot_is_the_determinant_of_how_many_activations_agree(kind: str) -> None:
    module = build_module(chain(CONV, NORM, act(kind), CONV, act(kind)), seed=0)
    images, labels = batch(6)
    parts = dict(module.named_children())
    module.train()
    with torch.no_grad():
        first = parts["norm1"](parts["conv1"](images))
        second = parts["conv2"](parts["act1"](first.clone()))
    codes = torch.cat([first.flatten(1), second.flatten(1)], dim=1).numpy() > 0
    kernel = np.array(
        [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    )
    assert naswot(module, images, labels) == pytest.approx(
        np.linalg.slogdet(kernel.astype(float))[1], rel=1e-9
    )


def correlation_score(rows: np.ndarray) -> float:
    values = np.linalg.eigvalsh(np.corrcoef(rows)).clip(min=0) + 1e-5
    return -float(np.sum(np.log(values) + 1 / values))


def test_jacob_cov_is_that_of_the_images_one_by_one() -> None:
    module = build_module(chain(CONV, act("gelu"), CONV, act("relu"), CONV), seed=0)
    images, labels = batch(6)
    rows = []
    for image in images:
        single = image[None].clone().requires_grad_()
        module(single).sum().backward()
        assert single.grad is not None
        rows.append(single.grad.flatten().double().numpy())
    assert jacob_cov(module, images, labels) == pytest.approx(
        correlation_score(np.array(rows)), rel=1e-3
    )


def test_jacob_cov_takes_the_norms_statistics_for_constants() -> None:
    """A linear network: all gradients are the same, and those through the statistics would be
    rounding errors.
    """
    module = build_module(chain(CONV, NORM), seed=0)
    same = -sum(math.log(value + 1e-5) + 1 / (value + 1e-5) for value in [6, 0, 0, 0, 0, 0])
    assert jacob_cov(module, *batch(6)) == pytest.approx(same, rel=1e-3)


def test_grad_norm_is_the_sum_of_the_layers_gradients() -> None:
    module = build_module(chain(CONV, NORM, act("relu"), CONV, act("silu")), seed=0)
    images, labels = batch()
    found = grad_norm(module, images, labels)
    assert all(parameter.grad is None for parameter in module.parameters())
    F.cross_entropy(module.train()(images), labels).backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    norms = [
        math.sqrt(float(gradients[f"{name}.weight"].square().sum()))
        for name in ("conv1", "conv2", "dense1")
    ]
    assert found == pytest.approx(sum(norms), rel=1e-5)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_a_score_leaves_no_trace(score: Callable[[NetworkModule, Tensor, Tensor], float]) -> None:
    module = shaken(build_module(chain(CONV, NORM, act("relu"), DROPOUT, CONV))).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    images, labels = batch()
    pixels, state = images.clone(), torch.get_rng_state()
    first = score(module, images, labels)
    torch.manual_seed(5)
    assert score(module, images, labels) == first
    torch.set_rng_state(state)
    score(module, images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, pixels)
    assert not images.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not module.training
    assert not any(module._modules[name]._forward_pre_hooks for name in ("act1", "norm1"))  # type: ignore[union-attr]


def test_dropout_makes_no_difference() -> None:
    plain, dropped = (
        chain(CONV, NORM, act("relu"), CONV),
        chain(CONV, NORM, act("relu"), DROPOUT, CONV),
    )
    assert scores(plain, *batch(), seed=3) == scores(dropped, *batch(), seed=3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 8), (3, 2, 1)], ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_networks_of_every_space_have_finite_scores(name: str, shape: tuple[int, int, int]) -> None:
    space = SPACES[name].make(SpaceOptions(channels=4), shape, CLASSES)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        network = space.decode(space.mutate(space.sample(rng), rng))
        found.append(scores(network, *batch(8, shape), seed=0))
        assert all(math.isfinite(value) for value in found[-1].values())
        assert {"synflow", "grad_norm"} <= set(found[-1]) <= set(SCORES)
    assert (
        found[-1]
        == scores(network, *batch(8, shape), seed=0)
        != scores(network, *batch(8, shape), seed=1)
    )


def test_a_score_without_a_value_is_left_out() -> None:
    draft = Draft(
        (1, 8, 8), CLASSES
    )  # no activations, and gradients that are the same for all pixels
    network = draft.finish(draft.add("dense", draft.add("globalpool", "input"), units=CLASSES))
    module, images, labels = build_module(network, seed=0), *batch(shape=(1, 8, 8))
    assert math.isnan(naswot(module, images, labels))
    assert math.isnan(jacob_cov(module, images, labels))
    assert set(scores(network, images, labels, seed=0)) == {"synflow", "grad_norm"}


# --- one candidate --------------------------------------------------------------------------------

SPACE = NanoSpace((1, 8, 8), 10, channels=4, length=2)


def measured(number: int, folder: Path, data: DataSpec, epochs: int = 0) -> Evaluation:
    candidate = Candidate(number, Proposal((0, 2), budget=Budget(epochs)), "key")
    return Trial(SPACE, data, Recipe(), seed=0, weights=folder)(candidate, lambda: True)


def test_a_trial_without_epochs_only_scores(tmp_path: Path) -> None:
    data = DataSpec("digits", seed=3)
    evaluation = measured(5, tmp_path, data)
    assert evaluation.state is State.COMPLETE
    assert set(evaluation.metrics) == set(SCORES)
    assert (evaluation.accuracy, evaluation.curve, evaluation.reason) == (None, (), None)
    assert evaluation.seconds > 0
    assert list(tmp_path.iterdir()) == []
    assert measured(5, tmp_path, data).metrics == evaluation.metrics
    assert (
        measured(6, tmp_path, data).metrics["synflow"] != evaluation.metrics["synflow"]
    )  # its own weights


@pytest.mark.parametrize(("train_images", "expected"), [(None, IMAGES), (12, 12)])
def test_all_candidates_are_scored_on_the_same_training_images(
    train_images: int | None, expected: int
) -> None:
    train, _ = pictures(DataSpec("digits", seed=3, train_images=train_images), "cpu")
    images, labels = _minibatch(train, seed=4)
    again, _ = _minibatch(train, seed=4)
    assert len(images) == len(labels) == expected
    assert torch.equal(images, again)
    assert train.rows is not None
    known = {
        (x.numpy().tobytes(), int(y))
        for x, y in zip(train.x[train.rows], train.y[train.rows], strict=True)
    }
    pixels = (images * train.std.view(-1, 1, 1) + train.mean.view(-1, 1, 1)) * 255
    drawn = {
        (x.numpy().tobytes(), int(y))
        for x, y in zip(pixels.round().to(torch.uint8), labels, strict=True)
    }
    assert drawn <= known
    assert len(drawn) == expected
