"""Effects and credit: what the data do not say is not said."""

from __future__ import annotations

import numpy as np
from toys.report import SPACE, entry, record

from nanonas.analysis.effects import Effect
from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry


def run(number: int, effect: float, seed: int = 0) -> list[Entry]:
    """Random networks whose accuracy depends on the kernel of the first convolutions alone, and on
    luck.
    """
    rng, made = np.random.default_rng(seed), []
    for n in range(number):
        genome = SPACE.sample(rng)
        first = next(node for node in SPACE.decode(genome).nodes if node.op == "conv")
        made.append(
            entry(n, genome, 0.7 + effect * (first["kernel"] == 3) + float(rng.normal(0, 0.02)))
        )
    return made


def effects(entries: list[Entry]) -> list[Effect]:
    return Findings(record(entries)).effects


def credit(entries: list[Entry]) -> list[Effect]:
    return Findings(record(entries)).credit


def test_what_matters_is_found() -> None:
    clear = [effect.words for effect in effects(run(400, 0.06)) if effect.clear]
    assert clear[0] == "early convolutions mostly 3×3"


def test_what_does_not_matter_is_rarely_found() -> None:
    wrong = sum(any(effect.clear for effect in effects(run(80, 0.0, seed))) for seed in range(12))
    assert wrong <= 2  # 5 % each


def test_few_networks_say_nothing() -> None:
    assert effects(run(10, 0.5)) == []
    assert credit(run(10, 0.5)) == []


def test_relatives_are_not_many() -> None:
    """Two hundred of one family, all with one kernel, against one other family: that is two, and
    not two hundred.
    """
    rng = np.random.default_rng(0)
    made = [entry(0, SPACE.sample(rng), 0.9), entry(1, SPACE.sample(rng), 0.6)]
    for n in range(2, 60):
        made.append(
            entry(n, SPACE.mutate(made[n % 2].genome, rng), made[n % 2].accuracy, parents=(n % 2,))
        )
    assert effects(made) == []


def test_credit_is_counted_from_the_average_child() -> None:
    rng = np.random.default_rng(0)
    made = [entry(n, SPACE.sample(rng), 0.8) for n in range(20)]
    found = []
    for n in range(20, 320):
        parent = int(rng.integers(20))
        child = SPACE.mutate(made[parent].genome, rng)
        made.append(entry(n, child, 0.7, parents=(parent,)))
    kinds = {step.number: step.kind for step in Findings(record(made)).steps}
    for one in made[20:]:
        good = kinds[one.number] == "skip added"
        accuracy = 0.75 + 0.05 * good + float(rng.normal(0, 0.005))
        found.append(
            entry(one.number, one.genome, accuracy, parents=one.candidate.proposal.parents)
        )
    earned = credit([*made[:20], *found])
    assert earned[0].words == "skip added"
    assert earned[0].clear
    assert earned[0].mean > 0 > earned[-1].mean
    assert all(effect.n >= 8 for effect in earned)
