"""The contract of a search space, for all of them; PyTorch is the oracle of shapes and counts."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nanonas.core import Genome, Shape
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.network import Network
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.modules import build_module

FACTORIES: dict[str, Callable[[Shape, int], Space]] = {  # a new space adds a line
    "stages": StagesSpace,
    "layers": LayersSpace,
    "nano": NanoSpace,
    "nasbench201": partial(NASBench201Space, cells=1),  # five a stage take minutes
}
FEWER = {  # a fifth of the networks
    FACTORIES["nasbench201"]: 5,  # they are large, and differ in six operations at most
    FACTORIES["stages"]: 5,  # a dozen are decoded for each that is drawn
}
SHAPES: list[tuple[Shape, int]] = [
    ((1, 8, 8), 10),
    ((3, 32, 32), 10),
    ((1, 28, 28), 10),
    ((3, 9, 14), 2),
    ((2, 1, 5), 3),
    ((3, 64, 48), 100),
    ((3, 224, 224), 1000),
]

pytestmark = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


def genomes(space: Space, seed: int) -> Iterator[Genome]:
    """Random genomes, their mutants of several generations, and children of two."""
    rng = np.random.default_rng(seed)
    pool = [space.sample(rng) for _ in range(8)]
    while True:
        first, second = (pool[int(rng.integers(len(pool)))] for _ in range(2))
        kind = rng.integers(4)
        if kind == 0:
            genome = space.sample(rng)
        elif kind == 1:
            genome = space.crossover(first, second, rng)
        else:
            genome = space.mutate(first, rng)
        pool[int(rng.integers(len(pool)))] = genome
        yield genome


@pytest.fixture
def quick_on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what has no say in counts, but takes most of the time on meta: weights, norms and
    activations.
    """

    def normed(self: nn.BatchNorm1d | nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(x)
        assert x.shape[1] == self.num_features
        return x

    for name in ("uniform_", "normal_", "zeros_", "ones_", "kaiming_uniform_", "kaiming_normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    for norm in (nn.BatchNorm1d, nn.BatchNorm2d):
        monkeypatch.setattr(norm, "forward", normed)
    for activation in (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish):
        monkeypatch.setattr(activation, "forward", lambda self, x: x)


def counted(network: Network) -> tuple[int, float]:
    """Parameters and MACs for one image, as PyTorch counts them without computing anything."""
    with torch.device("meta"):
        module = build_module(network).eval()
        images = torch.empty(2, *network.input_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = module(images)
    assert logits.shape == (2, network.classes)
    return sum(
        parameter.numel() for parameter in module.parameters()
    ), counter.get_total_flops() / 4


def test_ten_thousand_genomes_decode_and_count(
    factory: Callable[[Shape, int], Space],
) -> None:
    share = -(-10_000 // len(SHAPES) // FEWER.get(factory, 1))
    for number, (shape, classes) in enumerate(SHAPES):
        space = factory(shape, classes)
        for genome in islice(genomes(space, number), share):
            network = space.decode(genome)
            assert network.input_shape == shape
            assert network.nodes[-1].shape == (classes,)
            assert network.params > 0
            assert network.macs > 0


@pytest.mark.usefixtures("quick_on_meta")
def test_a_thousand_networks_count_as_pytorch_does(
    factory: Callable[[Shape, int], Space],
) -> None:
    share = -(-1_000 // len(SHAPES) // FEWER.get(factory, 1))
    for number, (shape, classes) in enumerate(SHAPES):
        space = factory(shape, classes)
        for genome in islice(genomes(space, 100 + number), share):
            network = space.decode(genome)
            assert (network.params, network.macs) == counted(network), genome


@pytest.mark.usefixtures("one_thread")
def test_two_hundred_networks_run_forward_and_backward(
    factory: Callable[[Shape, int], Space],
) -> None:
    space = factory((1, 8, 8), 10)
    images, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    small = (genome for genome in genomes(space, 200) if space.decode(genome).params <= 2_000_000)
    for genome in islice(small, 200 // FEWER.get(factory, 1)):
        module = build_module(space.decode(genome), seed=0)
        loss = nn.functional.cross_entropy(module(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss), genome
        assert all(
            p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters()
        ), genome


def test_a_mutant_is_another_network(factory: Callable[[Shape, int], Space]) -> None:
    space = factory((3, 32, 32), 10)
    rng = np.random.default_rng(0)
    genome = space.sample(rng)
    for _ in range(300):
        child = space.mutate(genome, rng)
        assert space.decode(child).key != space.decode(genome).key
        genome = child


def test_the_same_seed_gives_the_same_genomes(factory: Callable[[Shape, int], Space]) -> None:
    space = factory((3, 32, 32), 10)
    first, again, other = (list(islice(genomes(space, seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert [space.decode(g).key for g in first] == [space.decode(g).key for g in again]


def test_genomes_are_tuples_of_integers_that_json_keeps(
    factory: Callable[[Shape, int], Space],
) -> None:
    space = factory((3, 32, 32), 10)
    for genome in islice(genomes(space, 3), 50):
        assert type(genome) is tuple
        assert all(type(value) is int for value in genome)
        assert space.decode(json.loads(json.dumps(genome))).key == space.decode(genome).key
        assert space.decode(tuple(np.array(genome))).key == space.decode(genome).key


def test_what_is_remembered_is_of_its_own_space_and_genome(
    factory: Callable[[Shape, int], Space],
) -> None:
    space, other = factory((3, 32, 32), 10), factory((3, 32, 32), 7)
    genome = next(genome for genome in genomes(space, 8) if 1 in genome)
    assert [s.decode(genome).classes for s in (space, other, space)] == [10, 7, 10]
    with pytest.raises(GenomeError, match="holds True"):  # which equals 1
        space.decode(tuple(value == 1 or value for value in genome))


def test_variation_leaves_the_parents_alone(factory: Callable[[Shape, int], Space]) -> None:
    space = factory((3, 32, 32), 10)
    rng = np.random.default_rng(5)
    a, b = space.sample(rng), space.sample(rng)
    kept = tuple(a), tuple(b)
    space.mutate(a, rng)
    space.crossover(a, b, rng)
    assert (a, b) == kept


def test_a_space_of_another_image_size_is_otherwise_the_same(
    factory: Callable[[Shape, int], Space],
) -> None:
    space = factory((3, 32, 32), 7)
    smaller = space.at(8)
    assert (smaller.input_shape, smaller.classes, type(smaller)) == ((3, 8, 8), 7, type(space))
    assert smaller.at(32) == space
    assert space.at(None) is space


def test_random_networks_are_nearly_all_different(
    factory: Callable[[Shape, int], Space],
) -> None:
    space = factory((3, 32, 32), 10)
    rng = np.random.default_rng(6)
    assert len({space.decode(space.sample(rng)).key for _ in range(200)}) >= 190


def test_what_predictors_read_is_finite_and_of_one_shape(
    factory: Callable[[Shape, int], Space],
) -> None:
    for number, (shape, classes) in enumerate(SHAPES):
        space = factory(shape, classes)
        assert min(space.groups) >= 1
        for genome in islice(genomes(space, 300 + number), 20):
            features = space.encode(genome)
            assert features.shape == (sum(space.groups),)
            assert features.dtype == np.float64
            assert np.isfinite(features).all()
            assert np.array_equal(space.encode(genome), features)


def test_what_sequence_models_read_are_whole_numbers_of_0_or_more(
    factory: Callable[[Shape, int], Space],
) -> None:
    space = factory((3, 32, 32), 10)
    read = [space.tokens(genome) for genome in islice(genomes(space, 4), 200)]
    assert len({tokens.shape[1] for tokens in read}) == 1
    for tokens in read:
        assert tokens.ndim == 2
        assert len(tokens) >= 1
        assert tokens.dtype == np.int64
        assert tokens.min() >= 0


def test_genomes_of_one_network_read_the_same(factory: Callable[[Shape, int], Space]) -> None:
    space = factory((1, 8, 8), 3)
    read: dict[str, list[bytes]] = {}
    for genome in islice(genomes(space, 7), 1500):
        read.setdefault(space.decode(genome).key, []).append(space.encode(genome).tobytes())
    assert all(len(set(some)) == 1 for some in read.values())
    assert any(len(some) > 1 for some in read.values())


def test_a_space_is_a_frozen_value_that_pickles(
    factory: Callable[[Shape, int], Space],
) -> None:
    space = factory((3, 32, 32), 10)
    assert pickle.loads(pickle.dumps(space)) == space
    assert factory((3, 32, 32), 10) == space
    assert hash(space) == hash(factory((3, 32, 32), 10))
    with pytest.raises(AttributeError):
        space.classes = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (
            "0123",
            "a genome must be a list of integers, but is '0123'; give for instance [0, 1, 2, 3].",
        ),
        (7, "a genome must be a list of integers, but is 7; give for instance [0, 1, 2, 3]."),
        ([0, 1.5], "a genome must be a list of integers, but position 1 holds 1.5."),
        ([True, 0], "a genome must be a list of integers, but position 0 holds True."),
    ],
)
def test_what_is_no_list_of_integers_is_refused(
    factory: Callable[[Shape, int], Space], genome: object, message: str
) -> None:
    with pytest.raises(GenomeError) as error:
        factory((3, 32, 32), 10).decode(genome)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        (
            (32, 32),
            10,
            (
                "input_shape must be (channels, height, width), whole numbers of 1 or more, but is "
                "(32, 32)"
            ),
        ),
        (
            (3, 0, 8),
            10,
            (
                "input_shape must be (channels, height, width), whole numbers of 1 or more, but is "
                "(3, 0, 8)"
            ),
        ),
        ((3, 8, 8), 1, "classes must be a whole number of 2 or more, but is 1."),
    ],
)
def test_what_is_no_problem_is_refused(
    factory: Callable[[Shape, int], Space], shape: Shape, classes: int, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        factory(shape, classes)
    assert str(error.value).startswith(message)
