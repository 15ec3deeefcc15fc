"""An LSTM that reads genomes.

The only module below training that needs torch; it imports it inside its functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats, Integers
from nanonas.predictors.normal_scores import NormalScores

if TYPE_CHECKING:
    from torch import Generator, Tensor

PADDING = -1  # in place of a token, after a genome's end
_AT_ONCE = 1000  # genomes that are read together, so that a large pool needs no large memory


def padded(tokens: Sequence[Integers]) -> Integers:
    """Genomes of different lengths in one array.

    Args:
        tokens: of each genome as from `Space.tokens`, shape (its steps, fields).

    Returns:
        shape (n, steps of the longest, fields), with `PADDING` after the end of shorter ones.
    """
    steps = max(map(len, tokens), default=0)
    fields = tokens[0].shape[1] if len(tokens) else 0
    array = np.full((len(tokens), steps, fields), PADDING, dtype=np.int64)
    for number, genome in enumerate(tokens):
        array[number, : len(genome)] = genome
    return array


@dataclass
class LSTM:
    """The recurrent predictor of PNAS, Liu et al. 2018, https://arxiv.org/abs/1712.00559, sections
    4.2 and 4.3.

    The tokens of each step are embedded, one table per field, and summed; an LSTM reads the steps,
    and a linear layer maps its last state to a score. The members of an ensemble differ in their
    initial weights and in how often each network counts (bootstrap); mean and standard deviation
    are over them. They are trained together, in batched products.

    Unlike in the paper the targets are `NormalScores` of the losses: Kendall's tau on NAS-Bench-201
    with 78, 156 and 469 cells is .63, .66 and .74 with them, .51, .57 and .69 with standardised
    losses. The members agree more than they should: 44 % of the errors there lie within one
    deviation.

    Features are `padded` tokens, (n, steps, fields): integers, -1 after a genome's end; tokens
    larger than any in training are ignored. PyTorch's random state and its number of threads stay
    as they are; everything runs in one thread.

    Args:
        members: of the ensemble.
        hidden: size of the LSTM's state.
        embedding: size of a step's embedding.
        epochs: passes over the networks in one fit.
        batch_size: networks per update, at most.
        lr: of Adam, at the top of one cycle.
        weight_decay: decoupled, of matrices only.
        dropout: of the last state, in [0, 1).
        warm: continue from the weights of the last fit, with a third of the epochs; the result then
            depends on all fits so far. A fit with larger tokens starts again.
        seed: of weights, bootstrap, order and dropout.
    """

    members: int = 5
    hidden: int = 32
    embedding: int = 16
    epochs: int = 60
    batch_size: int = 64
    lr: float = 0.02
    weight_decay: float = 0.1
    dropout: float = 0.1
    warm: bool = False
    seed: int = 0
    _scores: NormalScores | None = field(default=None, repr=False)
    _sizes: tuple[int, ...] = field(default=(), repr=False)  # of each field's embedding table
    _weights: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return "lstm"

    def fit(self, features: Floats | Integers, losses: Floats) -> None:
        """Learns from n networks, 1 or more: `padded` tokens (n, steps, fields), finite losses
        (n,).
        """
        import torch

        tokens = _whole(features)
        sizes = tuple(int(size) for size in tokens.max(axis=(0, 1)) + 1)
        fits = len(sizes) == len(self._sizes) and all(map(int.__le__, sizes, self._sizes))
        continues = self.warm and bool(self._weights) and fits
        self._scores = NormalScores.of(losses)
        with _one_thread():
            generator = torch.Generator().manual_seed(self.seed)
            epochs = -(-self.epochs // 3)
            if not continues:
                epochs = self.epochs
                self._sizes, self._weights = sizes, self._initial(sum(sizes), generator)
            targets = torch.from_numpy(self._scores.score(losses)).float()
            hot, lengths = _one_hot(tokens, self._sizes)
            self._train(hot, lengths, targets, epochs, generator)

    def update(self, features: Floats, losses: Floats) -> None:
        """As `fit`; with `warm`, from the weights of the last fit."""
        self.fit(features, losses)

    def predict(self, features: Floats | Integers) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the losses of m networks, shape (m,) each."""
        import torch

        assert self._scores is not None, "fit comes before predict"
        if len(features) == 0:
            return np.zeros(0), np.zeros(0)
        weights = {name: torch.from_numpy(array) for name, array in self._weights.items()}
        tokens = _whole(features)
        scores: list[NDArray[np.float32]] = []  # (members, genomes) each
        with _one_thread(), torch.inference_mode():
            for start in range(0, len(tokens), _AT_ONCE):
                hot, lengths = _one_hot(tokens[start : start + _AT_ONCE], self._sizes)
                scores.append(_read(weights, hot, lengths).numpy())
        return self._scores.moments(np.concatenate(scores, axis=1).astype(np.float64))

    def _initial(self, tokens: int, generator: Generator) -> dict[str, NDArray[np.float32]]:
        """Initial weights, uniform as in PyTorch's own LSTM; the forget gates start open
        (Jozefowicz et al. 2015, https://proceedings.mlr.press/v37/jozefowicz15).

        Args:
            tokens: the sizes of all embedding tables in total.
            generator: of the random numbers.
        """
        import torch

        def uniform(rows: int, columns: int, bound: float) -> NDArray[np.float32]:
            share = torch.rand(self.members, rows, columns, generator=generator)
            return ((2 * share - 1) * bound).numpy()

        bias = np.zeros((self.members, 1, 4 * self.hidden), dtype=np.float32)
        bias[:, :, : self.hidden] = 1
        return {
            "embedding": uniform(tokens, self.embedding, 0.1),  # as in the paper
            "input": uniform(self.embedding, 4 * self.hidden, self.hidden**-0.5),
            "recurrent": uniform(self.hidden, 4 * self.hidden, self.hidden**-0.5),
            "bias": bias,
            "head": uniform(self.hidden, 1, self.hidden**-0.5),
            "offset": np.zeros((self.members, 1, 1), dtype=np.float32),
        }

    def _train(
        self, hot: Tensor, lengths: Tensor, targets: Tensor, epochs: int, generator: Generator
    ) -> None:
        """AdamW on the squared error, with one cycle of the learning rate.

        Args:
            hot: (n, steps, tokens), see `_one_hot`.
            lengths: (n,).
            targets: scores, (n,).
            epochs: passes over the networks.
            generator: of bootstrap, order and dropout.
        """
        import torch

        n = len(targets)
        drawn = torch.randint(n, (self.members, n), generator=generator)
        ones = torch.ones(self.members, n)
        counts = torch.zeros(self.members, n).scatter_add_(1, drawn, ones)  # bootstrap
        weights = {
            name: torch.tensor(array, requires_grad=True) for name, array in self._weights.items()
        }
        decayed = ["head", "input", "recurrent"]
        others = ["bias", "embedding", "offset"]
        optimizer = torch.optim.AdamW(
            [
                {"params": [weights[name] for name in decayed], "weight_decay": self.weight_decay},
                {"params": [weights[name] for name in others], "weight_decay": 0},
            ],
            lr=self.lr,
        )
        batches = -(-n // self.batch_size)  # that differ by at most one network
        steps = max(10, epochs * batches + 1)  # in a shorter cycle the rate has no step to rise in
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=steps, pct_start=0.2
        )
        for _ in range(epochs):
            for rows in torch.randperm(n, generator=generator).tensor_split(batches):
                size = (self.members, len(rows), self.hidden)
                kept = torch.rand(size, generator=generator) >= self.dropout
                scores = _read(weights, hot[rows], lengths[rows], kept / (1 - self.dropout))
                errors = counts[:, rows] * (scores - targets[rows]).square()  # (members, B)
                loss = errors.mean(dim=1).sum()  # each member has its own gradient
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                cycle.step()
        self._weights = {name: weight.detach().numpy() for name, weight in weights.items()}


def _read(
    weights: dict[str, Tensor], hot: Tensor, lengths: Tensor, dropout: Tensor | None = None
) -> Tensor:
    """The scores that the members predict, (members, n).

    Args:
        weights: by name, of all members, (members, …, …) each.
        hot: genomes, (n, steps, tokens), see `_one_hot`.
        lengths: (n,).
        dropout: factors of the last state, (members, n, hidden); None: no dropout.
    """
    import torch

    n, steps, _ = hot.shape
    words = hot.flatten(0, 1) @ weights["embedding"]  # (members, n × steps, embedding)
    projected = torch.baddbmm(weights["bias"], words, weights["input"])
    inputs = projected.view(-1, n, steps, projected.shape[-1])  # (members, n, steps, 4 × hidden)
    hidden = weights["recurrent"].shape[1]
    state = cell = inputs.new_zeros(len(inputs), n, hidden)
    states = []
    for step in range(steps):
        gates = inputs[:, :, step] + torch.bmm(state, weights["recurrent"])
        forget, write, show = gates[..., : 3 * hidden].sigmoid().chunk(3, dim=-1)
        cell = forget * cell + write * gates[..., 3 * hidden :].tanh()
        state = show * cell.tanh()
        states.append(state)
    last = torch.stack(states)[lengths - 1, :, torch.arange(n)]  # (n, members, hidden)
    last = last.transpose(0, 1)  # (members, n, hidden)
    if dropout is not None:
        last = last * dropout
    return torch.baddbmm(weights["offset"], last, weights["head"]).squeeze(-1)


def _one_hot(tokens: Integers, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Genomes (n, steps, fields) as (n, steps, tokens of all fields): per field a single 1, or none
    for an unknown token; and their lengths, (n,).
    """
    import torch

    by_field = [tokens[:, :, number, None] == np.arange(size) for number, size in enumerate(sizes)]
    hot = np.concatenate(by_field, axis=2).astype(np.float32)
    lengths = np.maximum(1, (tokens[:, :, 0] != PADDING).sum(axis=1))
    return torch.from_numpy(hot), torch.from_numpy(lengths)


def _whole(features: Floats | Integers) -> Integers:
    return np.asarray(features).astype(np.int64)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch in one thread: more are slower for matrices this small, and the cores are busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
