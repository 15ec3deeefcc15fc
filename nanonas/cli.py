"""The command line: one command, a few verbs.

Arguments are checked before anything heavy is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from loguru import logger

from nanonas.commands.bench import Bench, bench
from nanonas.commands.compare import Compare, compare
from nanonas.commands.control import Control, control
from nanonas.commands.dashboard import Dashboard, dashboard
from nanonas.commands.plan import Plan, plan
from nanonas.commands.report import Report, report
from nanonas.commands.resume import Resume, resume
from nanonas.commands.search import Search, search
from nanonas.commands.show import Show, show
from nanonas.commands.spaces import Spaces, spaces
from nanonas.commands.train import Train, train
from nanonas.config.files import nearest
from nanonas.errors import ConfigError, NanonasError, reason_for

VERBS: dict[str, tuple[Callable[[Sequence[str]], None], type]] = {
    "search": (search, Search),
    "plan": (plan, Plan),
    "resume": (resume, Resume),
    "train": (train, Train),
    "compare": (compare, Compare),
    "bench": (bench, Bench),
    "show": (show, Show),
    "dashboard": (dashboard, Dashboard),
    "control": (control, Control),
    "report": (report, Report),
    "spaces": (spaces, Spaces),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `nanonas`. Returns the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return 0
    if given[0] == "--version":
        import nanonas

        print(f"nanonas {nanonas.__version__}")
        return 0
    logger.remove()  # a run has a log of its own; here only what is said of the images is shown
    logger.add(sys.stderr, format="{message}", filter={"": "WARNING", "nanonas.data": "INFO"})
    try:
        if given[0] not in VERBS:
            raise ConfigError(f"{given[0]!r} is no verb of nanonas{nearest(given[0], list(VERBS))}")
        VERBS[given[0]][0](given[1:])
    except NanonasError as error:
        print(f"nanonas: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = (
            f"{error.filename!r}: {error.strerror}" if error.filename else error.strerror or error
        )
        print(f"nanonas: {what}; nothing that was stored is lost", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not (reason := reason_for(error)).startswith("out of memory"):
            raise
        print(
            f"nanonas: {reason}; a smaller --batch-size or --image-size needs less", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt as stopped:
        print(
            f"\nstopped; {str(stopped) or 'the same command begins again, or goes on'}",
            file=sys.stderr,
        )
        return 130
    return 0


def _help() -> str:
    lines = ["Give it images and a budget; get back a small, accurate CNN.", ""]
    lines += [
        f"  nanonas {name:<9} {(cls.__doc__ or '').splitlines()[0]}"
        for name, (_, cls) in VERBS.items()
    ]
    return "\n".join([*lines, "", "`nanonas VERB --help` lists what a verb can be told."])
