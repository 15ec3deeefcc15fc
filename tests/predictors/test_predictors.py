"""The contract that every predictor keeps, and what the ensemble of trees promises beyond it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable

import numpy as np
import pytest
from toys.predictors import spearman

from nanonas.core import Floats, Integers, Predictor
from nanonas.errors import ConfigError
from nanonas.predictors.ensemble import Ensemble
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.predictors.lstm import LSTM

GENES, VALUES = 6, 4


def vectors(genomes: Integers) -> Floats:
    return np.eye(VALUES)[genomes].reshape(len(genomes), GENES * VALUES)


def sequences(genomes: Integers) -> Floats:
    return genomes[:, :, None].astype(np.float64)


Make = Callable[[], Predictor]
Encode = Callable[[Integers], Floats]
FACTORIES: dict[str, tuple[Make, Encode]] = {
    "gaussian": (lambda: GaussianProcess(), vectors),
    "gaussian, a group a gene": (lambda: GaussianProcess([VALUES] * GENES), vectors),
    "gaussian, a reference and few points": (
        lambda: GaussianProcess(
            [VALUES] * GENES, vectors(genomes(50, seed=5)), points=80, tuned_on=40
        ),
        vectors,
    ),
    "ensemble": (lambda: Ensemble(trees=40), vectors),
    "ensemble, another seed": (lambda: Ensemble(trees=40, seed=7), vectors),
    "lstm": (lambda: LSTM(epochs=30), sequences),
    "lstm, other sizes": (
        lambda: LSTM(members=3, hidden=24, embedding=8, batch_size=20, epochs=20, seed=7),
        sequences,
    ),
}
ORDER_MATTERS = ("ensemble", "lstm")  # whose bootstrap is by row


@pytest.fixture(params=FACTORIES)
def kind(request: pytest.FixtureRequest) -> tuple[Make, Encode]:
    return FACTORIES[request.param]


def genomes(n: int, seed: int = 0) -> Integers:
    return np.random.default_rng(seed).integers(VALUES, size=(n, GENES))


def truth(some: Integers) -> Floats:
    """A loss with an effect of each gene, and one of two together."""
    worth = np.random.default_rng(99).normal(size=(GENES, VALUES))
    losses: Floats = worth[np.arange(GENES), some].sum(axis=1) + 2.0 * (some[:, 0] == some[:, 1])
    return losses


def numpys_state() -> Integers:
    """A copy of the state of numpy's global generator."""
    state = np.random.get_state()
    assert isinstance(state, tuple)
    return np.array(state[1], dtype=np.int64)


def expected(
    predictor: Predictor, features: Floats, losses: Floats, new: Floats
) -> tuple[Floats, Floats]:
    """Fits, predicts, and checks what holds for every prediction."""
    predictor.fit(features, losses)
    mean, std = predictor.predict(new)
    assert mean.shape == std.shape == (len(new),)
    assert mean.dtype == std.dtype == np.float64
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std >= 0).all()
    return mean, std


# --- the contract ---------------------------------------------------------------------------------


def test_it_learns_a_simple_function(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = genomes(120), genomes(300, seed=1)
    mean, _ = expected(make(), encode(seen), truth(seen), encode(new))
    assert spearman(mean, truth(new)) > 0.5
    assert (
        np.abs(mean - truth(new)).mean() < 0.9 * np.abs(truth(seen).mean() - truth(new)).mean()
    )  # than the mean


def test_fitting_changes_no_argument(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    features, losses = encode(genomes(20)), truth(genomes(20))
    before = features.copy(), losses.copy()
    expected(make(), features, losses, features)
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(losses, before[1])


def test_the_same_seed_predicts_the_same_and_nothing_depends_on_numpys_or_pytorchs_state(
    kind: tuple[Make, Encode],
) -> None:
    import torch

    make, encode = kind
    seen, new = genomes(30), genomes(20, seed=1)
    numpys, pytorchs = numpys_state(), torch.get_rng_state()
    first = expected(make(), encode(seen), truth(seen), encode(new))
    np.testing.assert_array_equal(numpys_state(), numpys)
    assert torch.equal(torch.get_rng_state(), pytorchs)
    np.random.seed(5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        again = expected(make(), encode(seen), truth(seen), encode(new))
    np.testing.assert_array_equal(first, again)


def test_a_second_fit_forgets_the_first(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = genomes(25), genomes(20, seed=1)
    used, fresh = make(), make()
    used.fit(encode(genomes(40, seed=3)), -truth(genomes(40, seed=3)))
    np.testing.assert_array_equal(
        expected(used, encode(seen), truth(seen), encode(new)),
        expected(fresh, encode(seen), truth(seen), encode(new)),
    )


@pytest.mark.parametrize(
    ("factor", "offset"), [(1000.0, 0.0), (1e-4, 0.0), (1.0, -50.0), (3.0, 1e4)]
)
def test_it_follows_the_unit_of_the_losses(
    kind: tuple[Make, Encode], factor: float, offset: float
) -> None:
    make, encode = kind
    seen, new = genomes(40), genomes(30, seed=1)
    mean, std = expected(make(), encode(seen), truth(seen), encode(new))
    other_mean, other_std = expected(
        make(), encode(seen), factor * truth(seen) + offset, encode(new)
    )
    np.testing.assert_allclose((other_mean - offset) / factor, mean, atol=0.02)
    np.testing.assert_allclose(other_std / factor, std, atol=0.02)


def test_the_order_of_the_rows_says_little(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = genomes(60), genomes(100, seed=1)
    order = np.random.default_rng(0).permutation(60)
    mean, _ = expected(make(), encode(seen), truth(seen), encode(new))
    other, _ = expected(make(), encode(seen[order]), truth(seen[order]), encode(new))
    if make().name in ORDER_MATTERS:
        assert spearman(mean, other) > 0.7
    else:
        np.testing.assert_allclose(mean, other, atol=1e-3)


def test_each_network_is_predicted_for_itself(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = genomes(20), genomes(9, seed=1)
    predictor = make()
    all_at_once = expected(predictor, encode(seen), truth(seen), encode(new))
    one_by_one = [predictor.predict(encode(new[i : i + 1])) for i in range(9)]
    np.testing.assert_allclose(all_at_once, np.concatenate(one_by_one, axis=1), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_networks_are_enough(kind: tuple[Make, Encode], n: int) -> None:
    make, encode = kind
    losses = truth(genomes(n))
    mean, _ = expected(make(), encode(genomes(n)), losses, encode(genomes(50, seed=1)))
    assert (np.abs(mean - losses.mean()) <= 3 * np.ptp(losses) + 3).all()


def test_when_all_losses_are_equal_that_is_what_it_expects(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    mean, _ = expected(make(), encode(genomes(30)), np.full(30, -0.7), encode(genomes(50, seed=1)))
    np.testing.assert_allclose(mean, -0.7, atol=0.05)


def test_of_the_same_network_many_times_over_it_expects_what_is_usual(
    kind: tuple[Make, Encode],
) -> None:
    make, encode = kind
    same = np.repeat(genomes(1), 30, axis=0)
    losses = np.linspace(1.0, 2.0, 30)
    mean, _ = expected(make(), encode(same), losses, encode(same[:2]))
    np.testing.assert_allclose(mean, 1.5, atol=0.2)


def test_features_that_are_the_same_for_all_do_no_harm(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = genomes(80), genomes(100, seed=1)
    seen[:, 3:], new[:, 3:] = 2, 2
    mean, _ = expected(make(), encode(seen), truth(seen), encode(new))
    assert spearman(mean, truth(new)) > 0.5


def test_one_diverged_network_does_not_hide_the_others(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = genomes(120), genomes(200, seed=1)
    losses = truth(seen)
    losses[17] = 1e6
    mean, _ = expected(make(), encode(seen), losses, encode(new))
    assert spearman(mean, truth(new)) > 0.5


def test_of_no_networks_there_is_nothing_to_say(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    expected(make(), encode(genomes(10)), truth(genomes(10)), encode(genomes(0)))


def test_it_can_be_pickled_before_and_after_fitting(kind: tuple[Make, Encode]) -> None:
    make, encode = kind
    seen, new = encode(genomes(20)), encode(genomes(10, seed=1))
    fresh = pickle.loads(pickle.dumps(make()))
    first = expected(fresh, seen, truth(genomes(20)), new)
    np.testing.assert_array_equal(first, pickle.loads(pickle.dumps(fresh)).predict(new))


def test_names_are_one_word(kind: tuple[Make, Encode]) -> None:
    assert kind[0]().name.isidentifier()


# --- the ensemble of trees ------------------------------------------------------------------------


def test_without_scikit_learn_the_ensemble_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError) as error:
        Ensemble()
    assert (
        str(error.value)
        == "the ensemble of trees needs scikit-learn: pip install 'nanonas[surrogates]'"
    )


def test_the_ensemble_doubts_what_is_far_more_than_what_is_near() -> None:
    ensemble = Ensemble()
    x = np.linspace(0, 1, 60)[:, None]
    ensemble.fit(x, np.where(x[:, 0] < 0.5, 0.0, np.random.default_rng(0).normal(size=60)))
    _, std = ensemble.predict(np.array([[0.1], [0.3], [0.7], [0.9]]))
    assert std[:2].max() < std[2:].min()
