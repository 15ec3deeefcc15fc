from .intervals import bootstrap as bootstrap
from .intervals import median_interval as median_interval
from .intervals import wilson as wilson
from .pareto import crowding as crowding
from .pareto import expected_improvement as expected_improvement
from .pareto import front as front
from .pareto import hypervolume as hypervolume
from .pareto import hypervolume_subset as hypervolume_subset
from .ranks import Correlation as Correlation
from .ranks import kendall as kendall
from .ranks import rank_sum as rank_sum

__all__ = [
    "Correlation",
    "bootstrap",
    "crowding",
    "expected_improvement",
    "front",
    "hypervolume",
    "hypervolume_subset",
    "kendall",
    "median_interval",
    "rank_sum",
    "wilson",
]
