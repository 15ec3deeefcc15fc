from .base import Bans as Bans
from .base import Space as Space
from .choices import one_point_crossover as one_point_crossover
from .choices import point_mutation as point_mutation
from .choices import uniform_crossover as uniform_crossover
from .layers.space import LayersSpace as LayersSpace
from .nano import NanoSpace as NanoSpace
from .nasbench201 import NASBench201Space as NASBench201Space
from .stages.space import StagesSpace as StagesSpace

__all__ = [
    "Bans",
    "LayersSpace",
    "NASBench201Space",
    "NanoSpace",
    "Space",
    "StagesSpace",
    "one_point_crossover",
    "point_mutation",
    "uniform_crossover",
]
