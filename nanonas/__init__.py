"""Give it images and a budget; get back a small, accurate CNN: found by evolution, trained, and
saved.

>>> from nanonas import nano_nas
>>> model = nano_nas("evolution", population_size=10, generations=5)  # doctest: +SKIP
"""

from nanonas.api import build, load, nano_nas
from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Evaluator,
    Objective,
    Proposal,
    State,
    Strategy,
)
from nanonas.errors import NanonasError
from nanonas.networks.network import Draft, Network
from nanonas.spaces.base import Space

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Candidate",
    "Draft",
    "Epoch",
    "Evaluation",
    "Evaluator",
    "NanonasError",
    "Network",
    "Objective",
    "Proposal",
    "Space",
    "State",
    "Strategy",
    "build",
    "load",
    "nano_nas",
]
