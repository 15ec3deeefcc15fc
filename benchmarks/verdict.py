"""Is the search worth its time? At several limits, the whole run against each hand-made network, a
random network and a random search, each with the same limits and the same time in all, by seed.

    python benchmarks/verdict.py --data cifar10   # three days: 12 contenders, 3 seeds, 4 limits
    python benchmarks/verdict.py --limit 100k --only search --seed 0
    python benchmarks/verdict.py --limit 100k --only residual --seed 1
    python benchmarks/verdict.py --data digits --time 20s --seeds 2 --max-params 20k --max-macs

It is `nanonas compare --equal-time` of one run for each limit. The run with the first seed comes
first: the others get its plan. What is done is kept in the folder of the runs and not done again,
so that a call can be interrupted, or do one contender. After each training the result file has all
that there is, with hardware and versions; then table and sentence are printed. Cores must be idle:
seconds are compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kept import Results
from loguru import logger
from rich.console import Console

from nanonas.analysis.equal_time import EqualTime
from nanonas.commands.compare import equal_time_table
from nanonas.config.files import configure
from nanonas.errors import ConfigError, NanonasError
from nanonas.runs.folder import RunFolder
from nanonas.runs.source import fitting, open_source
from nanonas.session.start import begin, resume
from nanonas.session.verdict import verdict_of

RESULT = Path(__file__).parent / "results" / "verdict.json"
PARAMS, MACS = ("250000", "100000", "50000"), ("1000000",)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--label", help="what the data are called; by default the source's name")
    parser.add_argument("--time", default="30m", help="of each contender and seed")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, … so many")
    parser.add_argument("--seed", type=int, nargs="+", help="these alone, in this call")
    parser.add_argument("--max-params", nargs="*", default=PARAMS, help="a run for each")
    parser.add_argument("--max-macs", nargs="*", default=MACS, help="a run for each")
    parser.add_argument("--limit", nargs="+", help="of these limits alone those, in this call")
    parser.add_argument("--only", nargs="+", default=(), help="contenders, in this call")
    parser.add_argument("--resnet18", action="store_true", help="ResNet-18, too")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--runs", type=Path, default=Path("outputs/verdict"), help="their folder")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    if given.seeds < 1 or min(given.seed or [0]) < 0:
        parser.error("--seeds must be 1 or more, and a --seed 0 or more")
    return given


def amount(key: str, text: str) -> int:
    """A limit as people write it. Raises `ConfigError`."""
    return int(getattr(configure(**{key: text}).search.limits, key))


def limits(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, int]]]:
    """The limits that this call is about: a name, and the keys of the configuration.

    Raises:
        ConfigError: what is no amount, or a --limit that is none of them.
    """
    every = [("max_params", amount("max_params", text)) for text in given.max_params]
    every += [("max_macs", amount("max_macs", text)) for text in given.max_macs]
    wanted = [amount("max_params", text) for text in given.limit or ()]
    for one in wanted:
        if one not in [limit for _, limit in every]:
            known = ", ".join(str(limit) for _, limit in every)
            raise ConfigError(f"--limit {one} is none of the limits; known are {known}")
    for key, limit in every:
        if not wanted or limit in wanted:
            yield f"{key.removeprefix('max_')}-{limit}", {key: limit}


def run_of(given: argparse.Namespace, label: str, name: str, limit: dict[str, int]) -> RunFolder:
    """The run of the first seed, at its end."""
    out = given.runs / f"{label}-{given.time}"
    folder = RunFolder(out / name)
    if not folder.store.exists():
        config = configure(
            data=given.data,
            time=given.time,
            device=given.device,
            workers=given.workers,
            out=out,
            name=name,
            **limit,
        )
        begin(config)
    elif not (folder.final / "result.json").exists():
        resume(folder.path)
    return folder


def keep(said: EqualTime, name: str, entry: dict[str, Any], results: Results) -> None:
    """Puts what there is of a limit into the result file."""
    rows = {row["limit"]: row for row in entry["limits"]} | {
        name: {"limit": name, **said.to_values()}
    }
    entry["limits"] = [rows[limit] for limit in sorted(rows)]
    results.keep()


def main(arguments: Sequence[str]) -> None:
    given = parsed(arguments)
    logger.remove()
    label = given.label or Path(given.data).stem
    console = Console()
    results = Results(given.out)
    entry = results.entry(f"{label}, {given.time}", {"time": given.time}, "limits")
    seeds = given.seed or range(given.seeds)
    for name, limit in limits(given):
        run = run_of(given, label, name, limit)
        verdict = verdict_of(fitting(open_source(run.path)))
        names = verdict.names(given.only, given.resnet18)
        keep(verdict.so_far(), name, entry, results)
        for one in verdict.trained(names, seeds):
            keep(verdict.so_far(), name, entry, results)
            print(
                f"{name}, {one.contender}, seed {one.seed}: {one.test_accuracy:.4f} in "
                f"{one.seconds:.0f} s",
                flush=True,
            )
        said = verdict.so_far()
        console.print(equal_time_table(said))
        for sentence in (said.sentence, *said.remarks):
            console.print(f"{sentence}.", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except NanonasError as error:
        raise SystemExit(str(error)) from None
