"""Makes the experience that comes with nanonas, out of finished runs.

    nanonas search --data cifar10 --max-params 250k --time 30m --seed 1 --name first
    nanonas search --data cifar10 --max-ram-kb 48 --max-flash-kb 80.09 --time 30m --name second
    python benchmarks/make_experience.py notebooks/example_run outputs/first outputs/second

What it takes is what each of these runs leaves to later ones anyway; see docs/howto/experience.md.
The file is replaced.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.runs.experience import learnt, write_experience
from nanonas.runs.folder import find, read_config

TO = Path(__file__).parents[1] / "nanonas" / "runs" / "experience.jsonl"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs, the oldest first")
    parser.add_argument("--to", type=Path, default=TO)
    given = parser.parse_args(arguments)
    found = []
    for path in given.runs:
        folder = find(path)
        with RunStore.read(folder.store) as store:
            run = learnt(store, read_config(folder).search)
        if run is None:
            raise RunError(f"{path} has too few trained networks to learn from; let it go on")
        found.append(run)
        print(f"{path}: {len(run.networks)} networks of {run.space}, {run.task}")
    write_experience(given.to, found)


if __name__ == "__main__":
    main(sys.argv[1:])
