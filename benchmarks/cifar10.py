"""Half an hour on CIFAR-10: search and final training together, at most 250,000 parameters, the
test set opened once.

    python benchmarks/cifar10.py                          # downloads CIFAR-10 (170 MB) once
    python benchmarks/cifar10.py --data PATH --seed 1     # the same images from elsewhere
    python benchmarks/cifar10.py --max-params 100k
    python benchmarks/cifar10.py --run outputs/NAME       # a run that is there already

Everything else is as it is by default. Adds an entry to benchmarks/results/cifar10.json: wall clock
from start to tested network, test accuracy, parameters, MACs, how many networks were tried,
hardware and versions. To beat: 75.2 % at 247K parameters after half an hour, which nanoNAS reports.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

import nanonas
from nanonas.config.files import configure
from nanonas.runs.folder import RunFolder, find, read_config, total_seconds
from nanonas.runs.reading import read_record
from nanonas.session.start import begin
from nanonas.terminal.live import live
from nanonas.training.final import read_result

HERE = Path(__file__).parent


def entry_of(folder: RunFolder, note: str) -> dict[str, Any]:
    """What a finished run came to."""
    config, final, record = read_config(folder), read_result(folder.final), read_record(folder)
    if final is None or record.winner is None:
        raise SystemExit(f"{folder.path} is not at its end: nanonas resume {folder.path}")
    states = Counter(entry.state for entry in record.entries if entry.state is not None)
    winner = record.winner.candidate
    return {
        "date": date.fromtimestamp(folder.store.stat().st_mtime).isoformat(),
        "data": Path(config.search.data.data).name,
        "note": note,
        "seed": config.search.seed,
        "max_params": config.search.limits.max_params,
        "budget": str(config.run.time),
        "wall_seconds": round(total_seconds(folder, final.seconds)),
        "test_accuracy": final.test_accuracy,
        "validation_accuracy_in_search": record.winner.accuracy,
        "winner": {"number": winner.number, "hand_made": winner.proposal.ancestor},
        "params": final.params,
        "macs": final.macs,
        "evaluated": dict(sorted(states.items())),
        "final_epochs": final.epochs,
        "final_seconds": round(final.seconds),
        "latency_ms": final.latency_ms,
        "genome": list(winner.proposal.genome),
        "hardware": final.where,
        "precision": config.search.training.precision,
        "versions": {
            "nanonas": nanonas.__version__,
            "torch": final.torch,
            "python": platform.python_version(),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="CIFAR-10 from elsewhere; by default the official archive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-params", default="250k")
    parser.add_argument("--time", default="30m", help="wall clock for all of it")
    parser.add_argument("--run", type=Path, help="add an entry of a run that is there already")
    parser.add_argument("--note", default="", help="what there is to know of it")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "cifar10.json")
    given = parser.parse_args()

    if given.run is None:
        config = configure(
            data=given.data or "cifar10",
            max_params=given.max_params,
            time=given.time,
            seed=given.seed,
        )
        folder = begin(config, live(Console())).folder
    else:
        folder = find(given.run)
    result = entry_of(folder, given.note)
    results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([*results, result], indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
