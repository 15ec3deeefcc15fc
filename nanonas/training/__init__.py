"""Training a network, and measuring what it costs: images, modules, weights and recipes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
