"""nanonas spaces"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from nanonas.commands.arguments import Verb, parse
from nanonas.config.schema import SpaceOptions


@dataclass(frozen=True)
class Spaces:
    """Lists the search spaces and what they are made of."""


def spaces(arguments: Sequence[str]) -> None:
    """nanonas spaces"""
    parse(Spaces, "spaces", arguments)

    from nanonas.config.parts import SPACES

    console = Console()
    for name, entry in SPACES.items():
        space = entry.make(SpaceOptions(), (3, 32, 32), 10)
        what = (sys.modules[type(space).__module__].__doc__ or "").splitlines()[0]
        console.print(f"[bold]{name}[/bold]  {what}", highlight=False, soft_wrap=True)
        for decision, options in space.options().items():
            console.print(
                f"  {decision:<12} {', '.join(map(str, options))}", highlight=False, soft_wrap=True
            )
        names = ", ".join(space.operation_names)
        console.print(f"  [dim]to ban: {names}[/dim]", highlight=False, soft_wrap=True)


VERB = Verb(Spaces, spaces)
