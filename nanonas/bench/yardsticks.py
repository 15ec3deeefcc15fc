"""Yardsticks from outside for `nanonas bench`: Optuna's samplers on the same table.

Needs the extra "bench".
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.bench.table import Table, TableEvaluator
from nanonas.core import Budget, Candidate, Genome, Proposal, Told, rng_for
from nanonas.errors import ConfigError

if TYPE_CHECKING:
    import optuna

OPTUNA = ("optuna-tpe", "optuna-random")
_REDRAWS = 20  # as a study allows its own strategies; then a random network of the table is tried


def optuna_installed() -> bool:
    """Whether Optuna is installed."""
    return importlib.util.find_spec("optuna") is not None


def require_optuna(name: str) -> None:
    """Checks that Optuna is installed for the strategy `name`. Raises `ConfigError`."""
    if not optuna_installed():
        raise ConfigError(f"the strategy {name!r} needs optuna: pip install 'nanonas[bench]'")


def run_optuna(
    name: str, table: Table, evaluator: TableEvaluator, seed: int, queries: int
) -> list[Told]:
    """A run of one of Optuna's samplers on a table whose genomes have the same length.

    Each position of the genome is a categorical parameter with the values that occur there in the
    table. A genome outside the table has no answer: its trial is told as failed, which the samplers
    ignore, and costs no query. A network that was already evaluated is told its value again and
    costs none either. After 20 of both in a row a random network of the table is evaluated and
    added as a trial, as a study does with strategies that repeat themselves.

    Args:
        name: one of `OPTUNA`.
        table: to search.
        evaluator: of this table.
        seed: of the sampler and of the random networks.
        queries: how many networks to evaluate.

    Returns:
        the candidates and their evaluations, in order.

    Raises:
        ConfigError: Optuna is not installed, or the genomes differ in length.
    """
    require_optuna(name)
    import optuna

    if len({len(genome) for genome in table.genomes}) > 1:
        raise ConfigError(
            f"{name} needs genomes of one length, but those of the table {table.name!r} differ"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "optuna-tpe": optuna.samplers.TPESampler,
        "optuna-random": optuna.samplers.RandomSampler,
    }
    study = optuna.create_study(direction="maximize", sampler=samplers[name](seed=seed))
    parameters: dict[str, Any] = {
        f"position {position}": optuna.distributions.CategoricalDistribution(sorted(set(values)))
        for position, values in enumerate(zip(*table.genomes, strict=True))
    }
    accuracies: dict[int, float] = {}  # of the rows that were evaluated
    run: list[Told] = []
    while len(run) < queries:
        genome, trial = _propose(study, parameters, table, accuracies)
        if trial is None:
            genome = _random(table, accuracies, rng_for(seed, len(run)))
        row = table.find(genome)
        assert row is not None  # both take a network of the table
        candidate = Candidate(
            len(run), Proposal(genome, budget=Budget(evaluator.epochs)), table.key(genome)
        )
        evaluator.submit(candidate)
        evaluation = evaluator.result()
        assert evaluation is not None
        assert evaluation.accuracy is not None
        run.append(Told(candidate, evaluation))
        accuracies[row] = evaluation.accuracy
        if trial is not None:
            study.tell(trial, accuracies[row])
        else:  # added as if the sampler had proposed it
            values = dict(zip(parameters, genome, strict=True))
            study.add_trial(
                optuna.trial.create_trial(
                    params=values, distributions=parameters, value=accuracies[row]
                )
            )
    return run


def _propose(
    study: optuna.Study, parameters: dict[str, Any], table: Table, accuracies: dict[int, float]
) -> tuple[Genome, optuna.trial.Trial | None]:
    """The genome of a network that was not evaluated yet, and its trial; no trial after 20 draws
    that found none.
    """
    import optuna

    for _ in range(_REDRAWS):
        trial = study.ask(parameters)
        genome = tuple(int(trial.params[name]) for name in parameters)
        row = table.find(genome)
        if row is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif row in accuracies:
            study.tell(trial, accuracies[row])
        else:
            return genome, trial
    return (), None


def _random(table: Table, accuracies: dict[int, float], rng: np.random.Generator) -> Genome:
    """A network of the table that was not evaluated yet."""
    rows = [row for row in table.rows if row not in accuracies]
    return table.genomes[rows[int(rng.integers(len(rows)))]]
