"""The LSTM: PyTorch's own is the oracle; lengths, unknown tokens, and warm fits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from toys.predictors import spearman

from nanonas.core import Floats, Integers
from nanonas.predictors.lstm import LSTM, PADDING, _one_hot, _read, padded


def some_tokens(n: int, seed: int = 0, shortest: int = 1, longest: int = 6) -> list[Integers]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, size=(rng.integers(shortest, longest + 1), 2)) for _ in range(n)]


def total(tokens: list[Integers]) -> Floats:
    return np.array([float((own[:, 0] == 2).sum() + 0.2 * own[:, 1].sum()) for own in tokens])


def test_padding_comes_after_the_end() -> None:
    array = padded([np.array([[1, 2], [3, 4]]), np.array([[5, 6]])])
    np.testing.assert_array_equal(array, [[[1, 2], [3, 4]], [[5, 6], [PADDING, PADDING]]])
    assert padded([]).shape == (0, 0, 0)


def test_each_member_computes_what_pytorchs_lstm_does_with_embeddings() -> None:
    tokens, lstm = some_tokens(20), LSTM(members=3, hidden=8, embedding=4, epochs=3)
    lstm.fit(padded(tokens), total(tokens))
    weights = {name: torch.from_numpy(array) for name, array in lstm._weights.items()}
    scores = _read(weights, *_one_hot(padded(tokens), lstm._sizes))
    order = torch.cat(
        [torch.arange(8, 16), torch.arange(8), torch.arange(24, 32), torch.arange(16, 24)]
    )  # i f g o
    for member in range(3):
        w = {name: weight[member] for name, weight in weights.items()}
        oracle = torch.nn.LSTM(4, 8)
        oracle.load_state_dict(
            {
                "weight_ih_l0": w["input"].T[order],
                "weight_hh_l0": w["recurrent"].T[order],
                "bias_ih_l0": w["bias"][0, order],
                "bias_hh_l0": torch.zeros(32),
            }
        )
        for own, score in zip(tokens, scores[member], strict=True):
            first, second = w["embedding"][: lstm._sizes[0]], w["embedding"][lstm._sizes[0] :]
            words = first[torch.from_numpy(own[:, 0])] + second[torch.from_numpy(own[:, 1])]
            _, (state, _) = oracle(words[:, None])
            torch.testing.assert_close(
                score, (state[0, 0] @ w["head"] + w["offset"][0])[0], atol=1e-5, rtol=0
            )


def test_it_learns_from_genomes_of_different_lengths() -> None:
    seen, new, lstm = some_tokens(150), some_tokens(100, seed=1), LSTM(epochs=40)
    lstm.fit(padded(seen), total(seen))
    assert spearman(lstm.predict(padded(new))[0], total(new)) > 0.8


def test_more_padding_changes_nothing() -> None:
    seen, lstm = some_tokens(20), LSTM(epochs=5)
    lstm.fit(padded(seen), total(seen))
    array = padded(seen)
    wider = np.pad(array, ((0, 0), (0, 3), (0, 0)), constant_values=PADDING)
    np.testing.assert_allclose(lstm.predict(wider), lstm.predict(array), atol=1e-6)


def test_the_order_of_the_steps_matters() -> None:
    rng = np.random.default_rng(0)
    seen, new = rng.integers(3, size=(150, 5, 1)), rng.integers(3, size=(100, 5, 1))
    lstm = LSTM(epochs=60)

    def losses(tokens: Integers) -> Floats:
        return (tokens[:, 0, 0] - tokens[:, 4, 0]).astype(np.float64)

    lstm.fit(seen, losses(seen))
    assert spearman(lstm.predict(new)[0], losses(new)) > 0.8


def test_tokens_larger_than_any_seen_count_for_nothing() -> None:
    seen, lstm = np.array([[[0, 1]], [[1, 0]], [[1, 1]]]), LSTM(epochs=5)
    lstm.fit(seen, np.array([0.0, 1.0, 2.0]))
    unknown = lstm.predict(np.array([[[7, 1]], [[8, 1]], [[2, 1]]]))
    assert np.isfinite(unknown).all()
    assert np.ptp(unknown, axis=1) == pytest.approx([0, 0])


def test_a_large_pool_is_predicted_in_parts() -> None:
    seen, lstm = some_tokens(20), LSTM(epochs=3)
    lstm.fit(padded(seen), total(seen))
    pool = padded(some_tokens(1203, seed=1))
    mean, std = lstm.predict(pool)
    assert mean.shape == std.shape == (1203,)
    np.testing.assert_allclose(mean[1000:], lstm.predict(pool[1000:])[0], atol=1e-6)


def test_warm_goes_on_where_the_last_fit_ended() -> None:
    tokens, more = some_tokens(120, shortest=6), some_tokens(150, shortest=6)
    warm, cold, brief = LSTM(epochs=30, warm=True), LSTM(epochs=30), LSTM(epochs=10)
    for lstm in (warm, cold):
        lstm.fit(padded(tokens), total(tokens))
    np.testing.assert_array_equal(warm.predict(padded(more)), cold.predict(padded(more)))
    new = some_tokens(200, seed=1, shortest=6)
    for lstm in (warm, brief):
        lstm.fit(padded(more), total(more))
    error = [np.abs(lstm.predict(padded(new))[0] - total(new)).mean() for lstm in (warm, brief)]
    assert error[0] < error[1]  # the same number of updates, from better weights


def test_a_warm_fit_with_larger_tokens_begins_anew() -> None:
    warm, fresh = LSTM(epochs=5, warm=True), LSTM(epochs=5, warm=True)
    warm.fit(np.array([[[0]], [[1]]]), np.array([0.0, 1.0]))
    for lstm in (warm, fresh):
        lstm.fit(np.array([[[0]], [[1]], [[2]]]), np.array([0.0, 1.0, 2.0]))
    new = np.array([[[0]], [[2]]])
    np.testing.assert_array_equal(warm.predict(new), fresh.predict(new))


def test_the_number_of_threads_is_as_before_even_when_it_fails() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        lstm = LSTM(epochs=2)
        lstm.fit(padded(some_tokens(5)), total(some_tokens(5)))
        with pytest.raises(IndexError):
            lstm.predict(np.zeros((3, 2)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_importing_it_does_not_import_torch() -> None:
    code = "import nanonas.predictors.lstm as l, sys; l.LSTM(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
