"""nanonas dashboard"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Dashboard:
    """Shows a run in the browser, live while its search goes on, and steers it.

    Ctrl-C ends the page alone.
    """

    folder: Positional[Path] = Path("outputs")
    """The run's folder; a folder of runs means its newest."""
    port: int = 8050
    """Where it listens; 0: any port that is free."""
    host: str = "127.0.0.1"
    """The address it listens at.

    0.0.0.0 is every address of this machine, :: those of IPv6, too. With another one than
    127.0.0.1, anyone who can reach it can see and steer the run.
    """


def dashboard(arguments: Sequence[str]) -> None:
    """nanonas dashboard"""
    given = parse(Dashboard, "dashboard", arguments)
    if not 0 <= given.port <= 65_535:
        raise ConfigError(f"--port must lie in [0, 65535], but is {given.port}")

    from nanonas.runs.folder import find
    from nanonas.serving.server import serve

    console = Console()

    def say(words: str) -> None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    serve(find(given.folder), given.host, given.port, say)


VERB = Verb(Dashboard, dashboard)
