"""Outside yardsticks for `nanonas bench`: Optuna's samplers on the same table.

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
_REDRAWS = 20  # as a study has for its own strategies; then a random network of the table is tried


def optuna_installed() -> bool:
    """Whether Optuna is there."""
    return importlib.util.find_spec("optuna") is not None


def require_optuna(name: str) -> None:
    """Raises `ConfigError` where Optuna is not there."""
    if not optuna_installed():
        raise ConfigError(f"the strategy {name!r} needs optuna: pip install 'nanonas[bench]'")


def run_optuna(
    name: str, table: Table, evaluator: TableEvaluator, seed: int, queries: int
) -> list[Told]:
    """A run of one of `OPTUNA`, on a table whose genomes are of one length.

    Each position of the genome is a categorical parameter with the numbers that the table has
    there. A genome outside the table cannot be answered: its trial is told as failed, which the
    samplers leave out, and costs no query. One that was asked before is told its value again and
    costs none either. After 20 of either in a row a random network of the table is evaluated and
    added as a trial: what a study does with strategies that repeat themselves.

    Raises:
        ConfigError: Optuna is not there, or the genomes differ in length.
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
    places: dict[str, Any] = {
        f"position {place}": optuna.distributions.CategoricalDistribution(sorted(set(values)))
        for place, values in enumerate(zip(*table.genomes, strict=True))
    }
    known: dict[int, float] = {}  # accuracies by row
    run: list[Told] = []
    while len(run) < queries:
        genome, trial = _propose(study, places, table, known)
        if trial is None:
            genome = _random(table, known, rng_for(seed, len(run)))
        row = table.find(genome)
        assert row is not None  # both see to that
        candidate = Candidate(
            len(run), Proposal(genome, budget=Budget(evaluator.epochs)), table.key(genome)
        )
        evaluator.submit(candidate)
        evaluation = evaluator.result()
        assert evaluation is not None
        assert evaluation.accuracy is not None
        run.append(Told(candidate, evaluation))
        known[row] = evaluation.accuracy
        if trial is not None:
            study.tell(trial, known[row])
        else:
            params = dict(zip(places, genome, strict=True))
            study.add_trial(
                # as if it had asked
                optuna.trial.create_trial(params=params, distributions=places, value=known[row])
            )
    return run


def _propose(
    study: optuna.Study, places: dict[str, Any], table: Table, known: dict[int, float]
) -> tuple[Genome, optuna.trial.Trial | None]:
    """A genome of a network that was not asked yet, and its trial; no trial where 20 of them were
    none.
    """
    import optuna

    for _ in range(_REDRAWS):
        trial = study.ask(places)
        genome = tuple(int(trial.params[place]) for place in places)
        row = table.find(genome)
        if row is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif row in known:
            study.tell(trial, known[row])
        else:
            return genome, trial
    return (), None


def _random(table: Table, known: dict[int, float], rng: np.random.Generator) -> Genome:
    """Any network of the table that was not asked yet."""
    rows = [row for row in table.rows if row not in known]
    return table.genomes[rows[int(rng.integers(len(rows)))]]
