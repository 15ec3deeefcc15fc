"""nanonas agent"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Agent:
    """Measures networks for a search elsewhere, on this machine.

    Runs where the network will run; a search asks it with --latency-from. Ctrl-C ends it.
    """

    host: str = "127.0.0.1"
    """The address it listens at.

    With another one than 127.0.0.1, whoever can reach it and has the token can have graphs of
    ONNX run here; nothing is encrypted.
    """
    port: int = 8765
    """Where it listens; 0: any port that is free."""
    token: str | None = None
    """What those who ask must know, 16 characters or more; by default $NANONAS_AGENT_TOKEN, or a
    new one, which is printed. Other users of this machine can see what stands here."""
    threads: int = 1
    """Threads of each pass."""
    max_mb: int = 64
    """MiB that a graph may have."""
    memory_mb: int = 1024
    """MiB of memory that measuring a graph may take."""
    max_seconds: float = 60.0
    """Seconds that measuring a graph may take, loading it included."""


def agent(arguments: Sequence[str]) -> None:
    """nanonas agent"""
    given = parse(Agent, "agent", arguments)
    if not 0 <= given.port <= 65_535:
        raise ConfigError(f"--port must lie in [0, 65535], but is {given.port}")
    at_least(1, threads=given.threads, **{"max-mb": given.max_mb, "memory-mb": given.memory_mb})
    if not 1 <= given.max_seconds <= 3600:
        raise ConfigError(f"--max-seconds must be in [1, 3600], but is {given.max_seconds:g}")

    from nanonas.serving.agent.measuring import MIB, Bounds
    from nanonas.serving.agent.server import serve

    console = Console()

    def say(words: str) -> None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    bounds = Bounds(given.max_mb * MIB, given.memory_mb * MIB, given.max_seconds)
    serve(given.host, given.port, given.token, given.threads, bounds, say)


VERB = Verb(Agent, agent)
