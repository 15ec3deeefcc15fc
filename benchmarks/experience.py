"""How much sooner does a search get there that begins with what other runs have learnt, on other
images only?

A search without experience goes on for T seconds, on digits and on 5,000 images of CIFAR-10; what
its five seeds have learnt is the experience of the other data. Then a search with the experience of
the other data alone begins anew with the same seed, and is stopped as soon as it is as accurate as
the one without was in T; so is one whose experience is poisoned: the accuracies of each run are
shuffled among its networks. Neither has more than 1.5 T.

Seconds are those of one core's work in this process, from the images in memory to the evaluation:
what the predictor and the reading of experience take is in them, and a machine that has other
things to do does not change them. All train under the same cost model, measured once, so that equal
networks train alike. The test set is never opened.

    python benchmarks/experience.py --cifar10 cifar10          # a quarter of an hour of a core
    python benchmarks/experience.py --cifar10 cifar10 --supply nanonas/runs/experience.jsonl

The second writes what the searches without experience have learnt into the file that comes with
nanonas. A search that is in --out already is not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from kept import Results, with_interval
from loguru import logger

from nanonas.config.files import configure, to_values
from nanonas.config.parts import Past
from nanonas.config.schema import Config
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.events import IMAGES
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress
from nanonas.predictors.experience import PastRun, useless
from nanonas.runs.experience import learnt, read_experience, task_of, write_experience
from nanonas.session.schedule import calibrate_here, typical_cost
from nanonas.session.setup import Setup, cost_words, resolved
from nanonas.strategies.around.screened import screened_in
from nanonas.training.device import prepare

RESULT = Path(__file__).parent / "results" / "experience.json"
PATIENCE = 1.5  # times T, that a search with experience may take
# What is searched on each data, and for how many seconds.
DATA: dict[str, tuple[dict[str, Any], float]] = {
    "digits": ({"max_params": "50k", "valid_share": 0.3, "candidate_seconds": 0.5}, 20.0),
    "cifar10": (
        {
            "max_params": "100k",
            "valid_share": 0.04,
            "train_images": 5000,
            "candidate_seconds": 1.5,
            "candidate_image_size": 24,
        },
        30.0,
    ),
}


def config_of(data: str, source: str, seed: int) -> Config:
    """A search on one data, before its cost is measured."""
    settings, _ = DATA[data]
    config = configure(
        **settings,
        data=source,
        seed=seed,
        workers=1,
        lag=1,
        device="cpu",
        doctor=False,
        experience=False,
    )
    return resolved(config)


def with_cost(config: Config, setup: Setup, entry: dict[str, Any]) -> Config:
    """The configuration with what training costs, which is measured where `entry` has it not."""
    if "cost" not in entry:
        cost = calibrate_here(setup, None)
        entry["cost"] = list(cost_words(cost))
        entry["typical_cost"] = float(f"{typical_cost(setup, cost):.4g}")
    training = replace(
        config.search.training, cost=tuple(entry["cost"]), typical_cost=entry["typical_cost"]
    )
    return replace(config, search=replace(config.search, training=training))


def searched(
    config: Config,
    setup: Setup,
    seconds: float,
    until: float,
    runs: Sequence[PastRun] | None,
) -> tuple[dict[str, Any], PastRun | None]:
    """What came of a search, and when; and what it has learnt."""
    past = None
    if runs is not None:
        options = replace(config.search.strategy, experience=True)
        config = replace(config, search=replace(config.search, strategy=options))
        past = Past(tuple(runs), task_of(config.search, setup.image_notes()))
    start = time.process_time()
    setup = Setup(config, setup.images, past=past)
    better: list[tuple[float, float]] = []
    number, dropped = 0, None

    def observe(progress: Progress) -> None:
        nonlocal number, dropped
        number, spent = progress.evaluated, time.process_time() - start
        screened = screened_in(setup.strategy)
        assert screened is not None
        if dropped is None and screened.prior is None:
            dropped = 0  # before anything was trained
        if dropped is None and useless(screened.worth):
            dropped = number
        accuracy = None if progress.best is None else progress.best.evaluation.accuracy
        if accuracy is not None and (not better or accuracy > better[-1][1]):
            better.append((round(spent, 2), accuracy))
        if spent > seconds or (better and better[-1][1] >= until):
            raise StopIteration

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.db"
        with RunStore.begin(path, to_values(config), durable=False) as store:
            store.event(IMAGES, setup.image_notes())
            study = setup.study(store, SerialEvaluator(setup.trials()[0]))
            with contextlib.suppress(StopIteration):
                study.run(observe=observe)
            kept = learnt(store, config.search)
    within = [row for row in better if row[0] <= seconds]
    found = {
        "accuracy": within[-1][1],
        "seconds": within[-1][0],
        "candidates": number,
        "better": better,
    }
    return found | ({} if runs is None else {"dropped after": dropped}), kept


def poisoned(runs: Sequence[PastRun], seed: int) -> list[PastRun]:
    """The runs with the accuracies of each shuffled among its networks."""
    rng = np.random.default_rng(seed)
    shuffled = []
    for run in runs:
        order = rng.permutation(len(run.networks))
        networks = tuple(
            replace(network, accuracy=run.networks[place].accuracy)
            for network, place in zip(run.networks, order, strict=True)
        )
        shuffled.append(replace(run, networks=networks))
    return shuffled


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", default="cifar10", help="its source, for `nanonas search`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--supply", type=Path, help="file that what was learnt is written to")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    logger.remove()
    prepare(1)
    source = {"digits": "digits", "cifar10": given.cifar10}
    results = Results(given.out)
    places = {data: given.out.with_name(f"experience_{data}.jsonl") for data in DATA}
    command = shlex.join(["python", "benchmarks/experience.py", *arguments])
    setups = {data: Setup(config_of(data, source[data], 0)) for data in DATA}
    entries = {
        data: results.entry(data, {**settings, "T": limit}, "seeds", command=command)
        for data, (settings, limit) in DATA.items()
    }

    for data, (_, limit) in DATA.items():
        for seed in range(len(entries[data]["seeds"]), given.seeds):
            config = with_cost(config_of(data, source[data], seed), setups[data], entries[data])
            found, kept = searched(config, setups[data], limit, 2.0, None)
            assert kept is not None
            before = read_experience(places[data]) if places[data].exists() else ()
            write_experience(places[data], [*before, kept])
            entries[data]["seeds"].append({"seed": seed, "without": found})
            results.keep()
            print(
                f"{data}, seed {seed}: {100 * found['accuracy']:.1f} % in {limit:.0f} s", flush=True
            )

    for data, other in zip(DATA, reversed(DATA), strict=True):
        limit, runs = DATA[data][1], read_experience(places[other])
        for row in entries[data]["seeds"][: given.seeds]:
            config = with_cost(
                config_of(data, source[data], row["seed"]), setups[data], entries[data]
            )
            goal, words = row["without"]["accuracy"], []
            for way, past in (("with", runs), ("poisoned", poisoned(runs, row["seed"]))):
                if way not in row:
                    row[way], _ = searched(config, setups[data], PATIENCE * limit, goal, past)
                    results.keep()
                reached = row[way]["accuracy"] >= goal
                words.append(f"{way} {row[way]['seconds'] if reached else PATIENCE * limit:.0f} s")
            print(f"{data}, seed {row['seed']}: {', '.join(words)} of {limit:.0f} s", flush=True)

    for data, entry in entries.items():
        limit = DATA[data][1]
        for way in ("with", "poisoned"):
            shares = [
                row[way]["seconds"] / limit
                if row[way]["accuracy"] >= row["without"]["accuracy"]
                else PATIENCE
                for row in entry["seeds"][: given.seeds]
            ]
            entry[f"{way}, share of T"] = [round(share, 3) for share in shares]
            print(f"{data}, {way} experience of the other: {with_interval(shares)} of T")
    results.keep()
    if given.supply is not None:
        write_experience(
            given.supply, [run for data in DATA for run in read_experience(places[data])]
        )


if __name__ == "__main__":
    main(sys.argv[1:])
