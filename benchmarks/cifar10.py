"""Half an hour on CIFAR-10: search and final training together, at most 250,000 parameters, the
test set opened once.

    python benchmarks/cifar10.py                          # downloads CIFAR-10 (170 MB) once
    python benchmarks/cifar10.py --data PATH --seed 1     # the same images from elsewhere

Runs configs/cifar10_30m.yaml with the given seed and adds an entry to
benchmarks/results/cifar10.json: wall clock from start to tested network, test accuracy, parameters,
MACs, how many networks were tried, hardware and versions. To beat: 75.2 % at 247K parameters after
half an hour, which nanoNAS reports.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from datetime import date
from pathlib import Path

from rich.console import Console

import nanonas
from nanonas.config.duration import Duration
from nanonas.config.files import read_yaml
from nanonas.engine.storage.store import RunStore
from nanonas.session.start import begin
from nanonas.terminal.live import live

HERE = Path(__file__).parent
CONFIG = HERE.parent / "configs" / "cifar10_30m.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="CIFAR-10 from elsewhere; by default the official archive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time", default="30m", help="wall clock for all of it")
    parser.add_argument("--note", default="", help="what there is to know of the data")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "cifar10.json")
    given = parser.parse_args()

    config = read_yaml(CONFIG)
    data = dataclasses.replace(config.search.data, data=given.data or config.search.data.data)
    search = dataclasses.replace(config.search, seed=given.seed, data=data)
    run = dataclasses.replace(config.run, time=Duration(given.time))
    start = time.monotonic()
    outcome = begin(dataclasses.replace(config, search=search, run=run), live(Console()))
    seconds = time.monotonic() - start
    assert outcome.final is not None
    with RunStore.read(outcome.folder.store) as store:
        states = [evaluation.state.value for evaluation in store.latest().values()]
    result = {
        "date": date.today().isoformat(),
        "data": Path(data.data).name,
        "note": given.note,
        "seed": given.seed,
        "budget": given.time,
        "wall_seconds": round(seconds),
        "test_accuracy": outcome.final.test_accuracy,
        "validation_accuracy_in_search": outcome.evaluation.accuracy,
        "params": outcome.final.params,
        "macs": outcome.final.macs,
        "evaluated": {state: states.count(state) for state in sorted(set(states))},
        "final_epochs": outcome.final.epochs,
        "final_seconds": round(outcome.final.seconds),
        "latency_ms": outcome.final.latency_ms,
        "genome": list(outcome.best.proposal.genome),
        "hardware": outcome.final.hardware,
        "precision": read_yaml(outcome.folder.config).search.training.precision,
        "versions": {
            "nanonas": nanonas.__version__,
            "torch": outcome.final.torch,
            "python": platform.python_version(),
        },
    }
    results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([*results, result], indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
