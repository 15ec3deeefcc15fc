"""Whatever a stranger has done to a file: thousands of cases of each of the formats that are read,
from a run's configuration and store to pictures and graphs.

Each case is a valid file that was changed (bytes, values, sizes, names, structure), or nonsense of
the right form. What reads it may come to a value or to one sentence that refuses it. It may not
crash, raise anything else, hang (20 s), take more than 1.5 GiB, start a program, connect anywhere,
or write outside its folder: a process of its own with an eye on that reads them.

    python benchmarks/fuzz.py                                    # some ten minutes of one core
    python benchmarks/fuzz.py --cases 10000 --formats store graph

The cases are the same each time. It prints a line for each format and writes
benchmarks/results/fuzz.json; the exit code is 1 where a case came to anything else. Linux only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import tyro

from nanonas.machine import described, version_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Options:
    """Reads changed files."""

    cases: int = 3000
    """Of each format."""
    formats: tuple[str, ...] = ()
    """By name; by default all."""
    out: Path = HERE / "results" / "fuzz.json"
    """The file of the figures; those of other formats stay in it."""


def main(options: Options) -> int:
    """Reads them, and returns the exit code."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from toys.hostile.formats import every
    from toys.hostile.parent import fuzzed

    if unknown := set(options.formats) - set(every()):
        raise SystemExit(f"no format is called {min(unknown)!r}: take some of {list(every())}")
    found = read_so_far(options.out)
    failures = 0
    print(f"{'':11}{'read':>8}{'refused':>9}{'seconds':>9}{'MiB':>7}")
    for name in options.formats or every():
        found["formats"].pop(name, None)
        with tempfile.TemporaryDirectory() as work:
            try:
                (report,) = fuzzed(Path(work), options.cases, [name])
            except AssertionError as error:
                failures += 1
                print(f"{name:11}{error}", flush=True)
                continue
        if report["failure"]:
            failures += 1
            print(f"{name:11}{report['failure']}\n{report['case']}", flush=True)
            continue
        kept = {key: report[key] for key in ("read", "refused", "seconds", "peak_mb")}
        found["formats"][name] = {"when": now(), **kept}
        print(f"{name:11}" + "{read:8}{refused:9}{seconds:9}{peak_mb:7}".format(**kept), flush=True)
        keep(options.out, found)
    total = sum(one["read"] + one["refused"] for one in found["formats"].values())
    print(f"{total:,} cases in the file; {failures or 'none'} of the formats failed")
    return 1 if failures else 0


def now() -> str:
    """To the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read_so_far(out: Path) -> dict[str, Any]:
    """What the file has of other formats."""
    formats = json.loads(out.read_text(encoding="utf-8"))["formats"] if out.exists() else {}
    machine = {**described(), "hypothesis": version_of("hypothesis")}
    return {"machine": machine, "formats": formats}


def keep(out: Path, found: dict[str, Any]) -> None:
    """Writes the figures."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Options, description=__doc__)))
