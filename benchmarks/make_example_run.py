"""Makes notebooks/example_run: a real small search on digits, with its store, the winner's result
and a comparison.

    python benchmarks/make_example_run.py

A few minutes on one core. The notebook reads it, and so do tests of the report; weights are left
out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from nanonas import cli

RUN = Path(__file__).parent.parent / "notebooks" / "example_run"
SEARCH = "--data digits --max-params 80k --time 5m --workers 1 --device cpu --precision float32"
COMPARE = "--epochs 10 --time-per-network 15s --seeds 2 --random 3 --device cpu"
KEPT = ("config.yaml", "best_genome.json", "final/result.json", "compare/table.json")


def main() -> None:
    """Searches, compares, and keeps what is to be read."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RUN, help="the folder to make")
    parser.add_argument(
        "--search", default="", help="flags of nanonas search in addition to those of this file"
    )
    parser.add_argument("--no-compare", action="store_true", help="leave the comparison out")
    given = parser.parse_args()
    out = given.out.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that no path of this machine is kept
        flags = [*SEARCH.split(), *given.search.split()]
        if cli.main(["search", *flags, "--out", "outputs", "--name", "example_run"]):
            raise SystemExit(1)
        run = Path("outputs") / "example_run"
        if not given.no_compare and cli.main(["compare", str(run), *COMPARE.split()]):
            raise SystemExit(1)
        keep(run, out)
    print(f"{out}: {sum(path.stat().st_size for path in out.rglob('*')) / 1000:.0f} KB")


def keep(run: Path, out: Path) -> None:
    """Copies what is to be read of a run; the store into one file, without its log."""
    shutil.rmtree(out, ignore_errors=True)
    for name in KEPT:
        if (run / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / name, out / name)
    with sqlite3.connect(run / "study.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("VACUUM INTO ?", [str(out / "study.db")])


if __name__ == "__main__":
    main()
