"""An LSTM that reads genomes.

The only file below the training that needs torch, inside its functions.
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

PADDING = -1


def padded(tokens: Sequence[Integers]) -> Integers:
    """Genomes of different lengths in one array.

    Args:
        tokens: of each genome as `Space.tokens` has them, (its steps, fields).

    Returns:
        shape (n, steps of the longest, fields), with `PADDING` after the end of those that are
        shorter.
    """
    steps, fields = max(map(len, tokens), default=0), tokens[0].shape[1] if len(tokens) else 0
    array = np.full((len(tokens), steps, fields), PADDING, dtype=np.int64)
    for row, own in zip(array, tokens, strict=True):
        row[: len(own)] = own
    return array


@dataclass
class LSTM:
    """The recurrent predictor of PNAS, Liu et al. 2018, https://arxiv.org/abs/1712.00559, sections
    4.2 and 4.3.

    The tokens of each step are embedded, one table per field, and added up; an LSTM reads the
    steps, and a linear layer makes a score of its last state. Members differ in their first weights
    and in how often each network counts (bootstrap); mean and standard deviation are over them.
    They train side by side, as one batched product each.

    Unlike in the paper the targets are `NormalScores` of the losses: Kendall's tau on NAS-Bench-201
    with 78, 156 and 469 cells is .63, .66 and .74 with them, .51, .57 and .69 with standardised
    losses. The members agree more than they should: 44 % of the errors there lie within one
    deviation.

    Features are `padded` tokens, (n, steps, fields): whole numbers, -1 after a genome's end; those
    larger than any in training count for nothing. Neither PyTorch's random state nor its number of
    threads is touched; all runs in one thread.

    Args:
        members: of the ensemble.
        hidden: size of the LSTM's state.
        embedding: size of a step's embedding.
        epochs: passes over the networks in one fit.
        batch_size: networks an update, at most.
        lr: of Adam, at the top of one cycle.
        weight_decay: decoupled, of matrices.
        dropout: of the last state, in [0, 1).
        warm: go on from the weights of the last fit, with a third of the epochs; what is learnt
            then depends on all fits so far. A fit that brings larger tokens begins anew.
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
    _sizes: tuple[int, ...] = field(default=(), repr=False)  # of each field's table
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
        known = len(sizes) == len(self._sizes) and all(map(int.__le__, sizes, self._sizes))
        goes_on = self.warm and bool(self._weights) and known
        self._scores = NormalScores.of(losses)
        with _one_thread():
            draw = torch.Generator().manual_seed(self.seed)
            if not goes_on:
                self._sizes, self._weights = sizes, self._begun(sum(sizes), draw)
            targets = torch.from_numpy(self._scores.score(losses)).float()
            epochs = -(-self.epochs // 3) if goes_on else self.epochs
            self._train(*_one_hot(tokens, self._sizes), targets, epochs, draw)

    def update(self, features: Floats, losses: Floats) -> None:
        """As `fit`; with `warm`, from the weights of the last one."""
        self.fit(features, losses)

    def predict(self, features: Floats | Integers) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the losses of m networks, shape (m,) each."""
        import torch

        assert self._scores is not None, "fit comes before predict"
        weights = {name: torch.from_numpy(array) for name, array in self._weights.items()}
        with _one_thread(), torch.inference_mode():
            read = [
                _read(weights, *_one_hot(part, self._sizes)) for part in _parts(_whole(features))
            ]
        members = (
            np.concatenate([scores.numpy() for scores in read], axis=1)
            if read
            else np.zeros((self.members, 0))
        )
        return self._scores.moments(members.astype(np.float64))

    def _begun(self, tokens: int, draw: Generator) -> dict[str, NDArray[np.float32]]:
        """First weights, uniform as in PyTorch's own LSTM; the forget gates start open (Jozefowicz
        et al. 2015).
        """
        import torch

        def uniform(rows: int, columns: int, bound: float) -> NDArray[np.float32]:
            return (
                (2 * torch.rand(self.members, rows, columns, generator=draw) - 1) * bound
            ).numpy()

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
        self, hot: Tensor, lengths: Tensor, targets: Tensor, epochs: int, draw: Generator
    ) -> None:
        """AdamW on the squared error, one cycle of the learning rate."""
        import torch

        n = len(targets)
        drawn = torch.randint(n, (self.members, n), generator=draw)
        counts = torch.zeros(self.members, n).scatter_add_(
            1, drawn, torch.ones(self.members, n)
        )  # bootstrap
        weights = {
            name: torch.tensor(array, requires_grad=True) for name, array in self._weights.items()
        }
        decayed = {"input", "recurrent", "head"}
        optimizer = torch.optim.AdamW(
            [
                {"params": [weights[name] for name in decayed_or_not], "weight_decay": decay}
                for decayed_or_not, decay in (
                    (sorted(decayed), self.weight_decay),
                    (sorted(weights.keys() - decayed), 0),
                )
            ],
            lr=self.lr,
        )
        batches = -(-n // self.batch_size)  # that differ by at most one network
        steps = max(10, epochs * batches + 1)  # a cycle of fewer has no step to rise in
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=steps, pct_start=0.2
        )
        for rows in (
            rows
            for _ in range(epochs)
            for rows in torch.randperm(n, generator=draw).tensor_split(batches)
        ):
            kept = torch.rand(self.members, len(rows), self.hidden, generator=draw) >= self.dropout
            scores = _read(weights, hot[rows], lengths[rows], kept / (1 - self.dropout))
            loss = (
                (counts[:, rows] * (scores - targets[rows]).square()).mean(dim=1).sum()
            )  # each member its own mean
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            cycle.step()
        self._weights = {name: weight.detach().numpy() for name, weight in weights.items()}


def _read(
    weights: dict[str, Tensor], hot: Tensor, lengths: Tensor, kept: Tensor | None = None
) -> Tensor:
    """The members' scores, (members, n), of genomes (n, steps, tokens); `kept` is the dropout of
    the last state.
    """
    import torch

    n, steps, _ = hot.shape
    words = hot.flatten(0, 1) @ weights["embedding"]  # (members, n × steps, embedding)
    inputs = torch.baddbmm(weights["bias"], words, weights["input"]).view(
        -1, n, steps, weights["bias"].shape[-1]
    )
    hidden = weights["recurrent"].shape[1]
    state = cell = inputs.new_zeros(len(inputs), n, hidden)
    states = []
    for step in range(steps):
        gates = inputs[:, :, step] + torch.bmm(state, weights["recurrent"])
        forget, write, show = gates[..., : 3 * hidden].sigmoid().chunk(3, dim=-1)
        cell = forget * cell + write * gates[..., 3 * hidden :].tanh()
        state = show * cell.tanh()
        states.append(state)
    last = torch.stack(states)[lengths - 1, :, torch.arange(n)].transpose(
        0, 1
    )  # (members, n, hidden)
    if kept is not None:
        last = last * kept
    return torch.baddbmm(weights["offset"], last, weights["head"]).squeeze(-1)


def _one_hot(tokens: Integers, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Genomes as (n, steps, tokens of all fields), one 1 a field, none if it is unknown; and their
    lengths, (n,).
    """
    import torch

    hot = [tokens[:, :, number, None] == np.arange(size) for number, size in enumerate(sizes)]
    lengths = np.maximum(1, (tokens[:, :, 0] != PADDING).sum(axis=1))
    return torch.from_numpy(np.concatenate(hot, axis=2).astype(np.float32)), torch.from_numpy(
        lengths
    )


def _whole(features: Floats | Integers) -> Integers:
    return np.asarray(features).astype(np.int64)


def _parts(tokens: Integers) -> list[Integers]:
    """At most 1,000 genomes at a time, so that a large pool needs no large memory."""
    return [tokens[start : start + 1000] for start in range(0, len(tokens), 1000)]


@contextmanager
def _one_thread() -> Iterator[None]:
    """For matrices this small more threads are slower, and worker processes need their cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
