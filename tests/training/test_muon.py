"""Muon against the singular value decomposition, against one matrix at a time, and as a part of a
training.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nanonas.core import Shape
from nanonas.data.images import DataSpec
from nanonas.networks.network import Draft, Network, classifier, conv_norm, depthwise, relu
from nanonas.networks.reference import REFERENCES
from nanonas.training.augment import Augment
from nanonas.training.modules import build_module
from nanonas.training.muon import (
    COEFFICIENTS,
    ROUNDS,
    Muon,
    divided,
    filters_before_norms,
    muon_weights,
    orthogonalised,
)
from nanonas.training.pictures import Pictures, pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE: Shape = (1, 8, 8)
RECIPE = Recipe(batch_size=50, lr=0.1, augment=Augment(crop=1), optimizer="muon")
SHAPES = [(8, 27), (8, 27), (16, 72), (40, 16), (16, 16), (1, 9), (8, 72), (96, 864)]


@pytest.fixture(scope="module")
def few() -> Pictures:
    train, _ = pictures(DataSpec("digits", seed=3), "cpu")
    assert train.rows is not None
    return replace(train, rows=train.rows[:200])


def matrices() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


def one_at_a_time(matrix: Tensor) -> Tensor:
    """Newton and Schulz as Jordan writes them down, in double precision."""
    a, b, c = COEFFICIENTS
    x: Tensor = matrix.double()
    x = x.T if len(x) > x.shape[1] else x
    x = x / x.norm()
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if len(matrix) > matrix.shape[1] else x


def test_all_matrices_together_are_each_by_itself() -> None:
    for matrix, found in zip(matrices(), orthogonalised(matrices()), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), one_at_a_time(matrix), rtol=2e-3, atol=2e-4)


def test_the_result_has_the_singular_vectors_of_the_matrix_and_singular_values_near_one() -> None:
    for matrix, found in zip(matrices(), orthogonalised(matrices()), strict=True):
        u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
        inside = u.T @ found.double() @ vt.T  # diagonal, if the singular vectors are the same
        values = inside.diagonal()
        assert (inside - values.diag()).abs().max() < 1e-3
        reached = values[s > 0.005 * matrix.norm()]
        assert len(reached) > 0.7 * len(values)
        assert reached.min() > 0.6
        assert values.max() < 1.21


@pytest.mark.parametrize("shape", [(16, 72), (40, 16)])
def test_the_direction_is_that_of_pytorchs_own(shape: tuple[int, int]) -> None:
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("PyTorch 2.9 has the first Muon")
    generator = torch.Generator().manual_seed(1)
    weight, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    p = torch.nn.Parameter(weight.clone())
    p.grad = grad.clone()
    theirs([p], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False).step()
    direction = (weight - p.detach()).flatten()
    (ours,) = orthogonalised([grad])
    cosine = torch.nn.functional.cosine_similarity(direction, ours.flatten(), dim=0)
    assert cosine > 0.999  # theirs computes in bfloat16


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e12])
def test_a_gradient_of_any_scale_makes_the_same_step_and_none_of_zeros_makes_nan(
    scale: float,
) -> None:
    (matrix, _, *_) = matrices()
    (whole,) = orthogonalised([matrix])
    (scaled,) = orthogonalised([scale * matrix])
    if scale > 1e-6:
        torch.testing.assert_close(scaled, whole, rtol=1e-3, atol=1e-4)
    assert scaled.isfinite().all()
    assert orthogonalised([torch.zeros(4, 9)])[0].abs().max() == 0


def test_matrices_of_low_rank_stay_finite() -> None:
    (found,) = orthogonalised([torch.ones(16, 72)])
    assert found.isfinite().all()
    assert torch.linalg.matrix_norm(found, 2) == pytest.approx(1.0, abs=0.35)


def test_a_step_begins_on_the_sphere_and_follows_nesterovs_momentum() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(8, 3, 3, 3, generator=generator)
    grads = [torch.randn(8, 3, 3, 3, generator=generator) for _ in range(3)]
    p = torch.nn.Parameter(weight.clone().to(memory_format=torch.channels_last))
    muon = Muon([p], lr=0.1, momentum=0.9)
    buffer, wanted = torch.zeros(8, 27), weight.reshape(8, 27).double()
    for grad in grads:
        p.grad = grad.clone().to(memory_format=torch.channels_last)
        muon.step()
        buffer = 0.9 * buffer + grad.reshape(8, 27)
        update = one_at_a_time(grad.reshape(8, 27) + 0.9 * buffer)
        wanted = wanted * math.sqrt(8) / wanted.norm() - 0.1 * update
        torch.testing.assert_close(p.detach().reshape(8, 27).double(), wanted, rtol=1e-3, atol=1e-4)
    muon.param_groups[0]["lr"] = 0.0
    muon.step()
    assert float(p.detach().norm()) == pytest.approx(math.sqrt(8))


def test_biases_are_refused() -> None:
    with pytest.raises(ValueError, match=r"but one has the shape \(4,\); leave biases"):
        Muon([torch.nn.Parameter(torch.zeros(4))], lr=0.1)


# --- what it trains -------------------------------------------------------------------------------


def mixed() -> Network:
    """Convolutions before a norm, before a pool and a norm, before none, read twice, depthwise."""
    draft = Draft(SHAPE, 10)

    def conv(x: str, name: str) -> str:
        return draft.add("conv", x, filters=8, kernel=3, stride=1, groups=1, bias=False, name=name)

    x = relu(draft, draft.add("norm", conv("input", "normed")))
    x = draft.add("norm", draft.add("maxpool", conv(x, "pooled"), kernel=2, stride=2))
    x = relu(draft, conv(relu(draft, x), "bare"))
    twice = conv(x, "twice")
    x = draft.add("add", draft.add("norm", twice), twice)
    x = relu(draft, draft.add("norm", depthwise(draft, x, 3)))
    x = relu(draft, conv_norm(draft, x, 12, 1))
    return classifier(draft, x)


def test_it_trains_convolutions_that_a_norm_and_nothing_else_reads() -> None:
    network = mixed()
    wide = [n.name for n in network.nodes if n.op == "conv" and n.kernel == 1]
    assert filters_before_norms(network) == ["normed", "pooled", *wide]
    assert muon_weights(torch.nn.Conv2d(3, 8, 3)) == []


def test_every_parameter_has_one_optimizer(few: Pictures) -> None:
    training = Training(build_module(mixed(), 0), few, RECIPE, 1, 0)
    assert training.muon is not None
    names = {id(p): name for name, p in training.module.named_parameters()}
    by_muon = {names[id(p)] for group in training.muon.param_groups for p in group["params"]}
    by_sgd = [names[id(p)] for group in training.optimizer.param_groups for p in group["params"]]
    assert by_muon == {f"{name}.weight" for name in filters_before_norms(mixed())}
    assert sorted([*by_muon, *by_sgd]) == sorted(names.values())
    plain = Training(build_module(mixed(), 0), few, replace(RECIPE, optimizer="sgd"), 1, 0)
    assert plain.muon is None


def test_scaled_filters_compute_the_same_in_training(few: Pictures) -> None:
    """So it is no loss to put them on a sphere."""
    module = build_module(mixed(), 0)
    images = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(0))
    before = module.train()(images)
    with torch.no_grad():
        for weight in muon_weights(module):
            weight.mul_(3.0)
    torch.testing.assert_close(module(images), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reference", ["plain_61k", "separable_57k"])
def test_it_learns_faster_than_chance_and_both_rates_follow_the_schedule(
    few: Pictures, reference: str
) -> None:
    recipe = replace(RECIPE, schedule="linear", warmup=0.25)
    training = Training(build_module(REFERENCES[reference](SHAPE, 10), 0), few, recipe, 4, 0)
    assert training.muon is not None
    losses = [training.run_epoch(lambda: True) for _ in range(4)]
    assert losses[0] is not None
    assert losses[3] is not None
    assert losses[3] < 0.8 * losses[0]
    factor = (1 - 15 / 16) / 0.75  # at the last of 16 steps
    assert training.muon.param_groups[0]["lr"] == pytest.approx(factor * recipe.muon_lr)
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(factor * recipe.lr)


def test_matrices_are_divided_by_the_time_that_they_take() -> None:
    shapes = [(8, 72), (160, 864), (96, 576), (864, 160), (8, 72)]
    shares = divided(shapes, 2)
    assert sorted(place for share in shares for place in share) == [0, 1, 2, 3, 4]
    assert [share[0] for share in shares] == [1, 3]  # the largest apart
    assert all(len(share) > 1 for share in divided([(16, 16)] * 5, 2))
    assert divided([(3, 27)], 3) == [[0], [], []]
