from .api import Result as Result
from .api import build as build
from .api import load as load
from .api import nano_nas as nano_nas
from .api import search as search
from .core import Budget as Budget
from .core import Candidate as Candidate
from .core import Epoch as Epoch
from .core import Evaluation as Evaluation
from .core import Evaluator as Evaluator
from .core import Objective as Objective
from .core import Proposal as Proposal
from .core import State as State
from .core import Strategy as Strategy
from .core import Told as Told
from .errors import NanonasError as NanonasError
from .networks.network import Draft as Draft
from .networks.network import Network as Network
from .sklearn import NASClassifier as NASClassifier
from .spaces.base import Space as Space

__version__: str

__all__ = [
    "Budget",
    "Candidate",
    "Draft",
    "Epoch",
    "Evaluation",
    "Evaluator",
    "NASClassifier",
    "NanonasError",
    "Network",
    "Objective",
    "Proposal",
    "Result",
    "Space",
    "State",
    "Strategy",
    "Told",
    "build",
    "load",
    "nano_nas",
    "search",
]
