"""nanonas search"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from nanonas.commands.arguments import Configured, Verb, configured


@dataclass(frozen=True)
class Search(Configured):
    """Finds a network: evolution proposes, workers train; the best is trained and tested once."""


def search(arguments: Sequence[str]) -> None:
    """nanonas search"""
    config = configured(Search, "search", arguments)

    from nanonas.session.start import begin
    from nanonas.terminal.live import live
    from nanonas.terminal.results import say_outcome

    console = Console()
    say_outcome(console, begin(config, live(console, explain=config.run.explain)))


VERB = Verb(Search, search)
