"""The next candidate, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from nanonas.networks.network import Network

REDRAWS = (
    20  # times a strategy may come up with what cannot be taken; then random genomes are drawn
)
REDRAWS_UNDER_BANS = 200  # parents that use what is banned have few children that do not
RANDOM_DRAWS = 10_000


@dataclass
class Refused:
    """Why draws were not taken."""

    too_large: int = 0
    banned: int = 0
    smallest: Network | None = None  # of those that are too large
