from .aging import AgingEvolution as AgingEvolution
from .around.ancestral import Ancestral as Ancestral
from .around.halving import Halving as Halving
from .around.halving import ladder as ladder
from .around.inheriting import Inheriting as Inheriting
from .around.screened import Screened as Screened
from .evolution import Evolution as Evolution
from .local import LocalSearch as LocalSearch
from .nsga2 import NSGA2 as NSGA2
from .random import RandomSearch as RandomSearch

__all__ = [
    "NSGA2",
    "AgingEvolution",
    "Ancestral",
    "Evolution",
    "Halving",
    "Inheriting",
    "LocalSearch",
    "RandomSearch",
    "Screened",
    "ladder",
]
