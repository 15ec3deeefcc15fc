"""Predictors of the loss of untrained networks, behind one contract, `core.Predictor`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
