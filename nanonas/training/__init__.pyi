from .augment import Augment as Augment
from .augment import normalise as normalise
from .final import FinalResult as FinalResult
from .modules import MODULES as MODULES
from .modules import build_module as build_module
from .recipe import Recipe as Recipe
from .train import Training as Training
from .train import accuracy as accuracy
from .trial import Trial as Trial
from .weights import load_weights as load_weights
from .weights import save_weights as save_weights

__all__ = [
    "MODULES",
    "Augment",
    "FinalResult",
    "Recipe",
    "Training",
    "Trial",
    "accuracy",
    "build_module",
    "load_weights",
    "normalise",
    "save_weights",
]
