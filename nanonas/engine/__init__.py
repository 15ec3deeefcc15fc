"""The engine: asks a strategy for candidates, has them evaluated, and stores what happens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
