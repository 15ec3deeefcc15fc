from .duration import Duration as Duration
from .files import configure as configure
from .files import read_yaml as read_yaml
from .files import to_values as to_values
from .files import to_yaml as to_yaml
from .files import validated as validated
from .parts import OBJECTIVES as OBJECTIVES
from .parts import PREDICTORS as PREDICTORS
from .parts import SPACES as SPACES
from .parts import STRATEGIES as STRATEGIES
from .parts import ObjectiveEntry as ObjectiveEntry
from .parts import PredictorEntry as PredictorEntry
from .parts import SpaceEntry as SpaceEntry
from .parts import StrategyEntry as StrategyEntry
from .parts import make_space as make_space
from .parts import make_strategy as make_strategy
from .schema import Config as Config
from .schema import DataOptions as DataOptions
from .schema import FidelityOptions as FidelityOptions
from .schema import LimitOptions as LimitOptions
from .schema import RunConfig as RunConfig
from .schema import SearchConfig as SearchConfig
from .schema import SpaceOptions as SpaceOptions
from .schema import StrategyOptions as StrategyOptions
from .schema import TrainingOptions as TrainingOptions

__all__ = [
    "OBJECTIVES",
    "PREDICTORS",
    "SPACES",
    "STRATEGIES",
    "Config",
    "DataOptions",
    "Duration",
    "FidelityOptions",
    "LimitOptions",
    "ObjectiveEntry",
    "PredictorEntry",
    "RunConfig",
    "SearchConfig",
    "SpaceEntry",
    "SpaceOptions",
    "StrategyEntry",
    "StrategyOptions",
    "TrainingOptions",
    "configure",
    "make_space",
    "make_strategy",
    "read_yaml",
    "to_values",
    "to_yaml",
    "validated",
]
