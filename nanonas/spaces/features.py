"""What a predictor reads of any `Network`: counts, sizes, ways through the graph, by the level of the map."""

from __future__ import annotations

import numpy as np

from nanonas.core import Floats
from nanonas.spaces.network import Network


def features(network: Network) -> Floats:
    """The network in numbers, shape (features,)."""
    return np.array([np.log(network.params), np.log(network.macs + 1), network.depth], dtype=np.float64)
