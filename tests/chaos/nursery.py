"""Where searches are begun: a process that has imported all that they need, and forks for each.

It reads orders from standard input, a line of JSON each, and answers each with two lines: the
number of the process that does it, and the exit code with which that one has ended, negative for a
signal.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chaos.fate import Fate

TESTS = Path(__file__).parents[1]
CRASHED = 70  # the exit code of a search that ended in a traceback


class Nursery:
    """This end of it. A context manager."""

    def __enter__(self) -> Nursery:
        paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.nursery"],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that no line waits where `select` does not see it
        )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._selector.close()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def begin(self, arguments: list[str], printed: Path, **order: Any) -> int:
        """Begins the command `nanonas` in a session of its own, and returns its process.

        Args:
            printed: the file that it prints to.
            order: "environment"; "pretended": whether nothing is trained; "fate" and
                "fate_of_workers", as the fields of a `Fate`.
        """
        assert self._process.stdin is not None
        self._code: int | None = None
        order |= {"arguments": arguments, "printed": str(printed)}
        self._process.stdin.write(json.dumps(order, default=str).encode() + b"\n")
        return self._answer(60)

    def ended(self, seconds: float) -> int | None:
        """The exit code of what was begun last; None where it has none after so many seconds."""
        if self._code is None and self._selector.select(seconds):
            self._code = self._answer(0)
        return self._code

    def _answer(self, seconds: float) -> int:
        assert self._process.stdout is not None
        assert not seconds or self._selector.select(seconds), "the nursery does not answer"
        return int(self._process.stdout.readline())


def serve() -> None:
    """The life of a nursery."""
    import nanonas.commands.rescue
    import nanonas.commands.resume
    import nanonas.session.start
    import nanonas.terminal.live
    import nanonas.terminal.results
    import nanonas.training.device  # noqa: F401
    from nanonas.commands.arguments import configured
    from nanonas.commands.search import Search
    from nanonas.config.files import to_values

    to_values(configured(Search, "search", []))  # what is made once is made now
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _live(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _live(order: Mapping[str, Any]) -> None:
    """The life of one search; it does not return."""
    code = CRASHED
    try:
        os.setsid()
        printed = os.open(order["printed"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (printed, 1), (printed, 2)):
            os.dup2(source, target)
        os.environ.update(order["environment"])
        tempfile.tempdir = None  # it is asked for anew

        from chaos.fate import Fate, meet
        from nanonas import cli

        fates = [
            None if fate is None else Fate(**{**fate, "mark": Path(fate["mark"])})
            for fate in (order["fate"], order["fate_of_workers"])
        ]
        if order["pretended"]:
            _pretend(fates[1])
        meet(fates[0])
        code = cli.main(order["arguments"])
    except BaseException:  # noqa: BLE001 - whatever it is, this is no second nursery
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _pretend(fate: Fate | None) -> None:
    """Lets this process' search be a pretended one, whose workers meet a fate."""
    from chaos.pretended import Pretended
    from nanonas.session.setup import Setup
    from nanonas.terminal import results

    def trials(self: Setup, weights: Path | None = None) -> list[Pretended]:
        assert weights is not None
        return [Pretended(self.config.search.seed, weights, fate)] * self.workers

    setattr(Setup, "trials", trials)  # noqa: B010
    setattr(results, "write_at_end", lambda folder: None)  # noqa: B010 - it takes half of the time


if __name__ == "__main__":
    serve()
