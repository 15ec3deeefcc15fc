from .audit import audited as audited
from .audit import audited_scores as audited_scores
from .ensemble import Ensemble as Ensemble
from .gaussian import GaussianProcess as GaussianProcess
from .lstm import LSTM as LSTM
from .lstm import padded as padded

__all__ = [
    "LSTM",
    "Ensemble",
    "GaussianProcess",
    "audited",
    "audited_scores",
    "padded",
]
