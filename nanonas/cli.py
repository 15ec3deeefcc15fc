"""The command line: one command, a few verbs.

A verb is a module of `nanonas.commands` that defines `VERB`; only the one that is asked for is
imported. Arguments are checked before anything heavy is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from loguru import logger

from nanonas import commands
from nanonas.commands.arguments import Verb
from nanonas.config.files import nearest
from nanonas.data import found
from nanonas.errors import ConfigError, NanonasError, reason_for

# as a user meets them; the help lists others behind
_ORDER = (
    "search",
    "doctor",
    "plan",
    "resume",
    "train",
    "compare",
    "export",
    "predict",
    "latency",
    "agent",
    "bench",
    "show",
    "dashboard",
    "control",
    "report",
    "replay",
    "backup",
    "rescue",
    "spaces",
)
_NO_VERBS = ("arguments",)  # modules of `nanonas.commands` that verbs share


def verbs() -> list[str]:
    """The names of all verbs."""
    names = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    return [*_ORDER, *sorted(names.difference(_ORDER, _NO_VERBS))]


def _verb(name: str) -> Verb:
    if name not in verbs():
        raise ConfigError(f"{name!r} is no verb of nanonas{nearest(name, verbs())}")
    verb: Verb = importlib.import_module(f"{commands.__name__}.{name}").VERB
    return verb


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `nanonas`.

    Returns the exit code: 0, 1 where a check has found something or some of what was asked for
    did not come out, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot say is no reason to stop
            stream.reconfigure(errors="replace")
    terminated: list[int] = []
    try:
        with _terminable(terminated):
            code = _answered(given)
    except KeyboardInterrupt as stopped:  # also before a verb begins
        said = str(stopped) or "the same command begins again, or goes on"
        print(f"\nstopped; {said}", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        return 0  # who reads the first lines alone has them
    finally:
        _flush()
    return 143 if terminated else code


@contextlib.contextmanager
def _terminable(terminated: list[int]) -> Iterator[None]:
    """Has SIGTERM stop what goes on as Ctrl-C does.

    Args:
        terminated: empty; it gets the signal's number.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        terminated.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _flush() -> None:
    """Lets go of what nobody reads any more, else the interpreter complains as it ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answered(given: list[str]) -> int:
    """Does what the arguments say, and says what went wrong. Returns the exit code.

    Raises:
        BrokenPipeError: nobody reads the output any more.
        KeyboardInterrupt: it is to stop.
    """
    if not given or given[0] in ("-h", "--help", "--help-all"):
        print(_help())
        return 0
    if given[0] == "--version":
        import nanonas

        print(f"nanonas {nanonas.__version__}")
        return 0
    logger.remove()  # a run has a log of its own; here only what is said of the images is shown
    logger.add(sys.stderr, format="{message}", filter={"": "WARNING", "nanonas.data": "INFO"})
    logger.enable(found.__name__)
    try:
        return _verb(given[0]).call(given[1:]) or 0
    except NanonasError as error:
        print(f"nanonas: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        what = str(error.strerror or error)
        if error.filename:
            what = f"{error.filename!r}: {error.strerror}"
        print(f"nanonas: {what}; nothing that was stored is lost", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not (reason := reason_for(error)).startswith("out of memory"):
            raise
        print(
            f"nanonas: {reason}; a smaller --batch-size or --image-size needs less", file=sys.stderr
        )
        return 2


def _help() -> str:
    lines = ["Give it images and a budget; get back a small, accurate CNN.", ""]
    for name in verbs():
        about = " ".join((_verb(name).flags.__doc__ or "").split())
        lines.append(f"  nanonas {name:<9} {about.partition('. ')[0].rstrip('.')}.")
    return "\n".join(
        [*lines, "", "`nanonas VERB --help` lists what a verb can be told; --help-all, all of it."]
    )
