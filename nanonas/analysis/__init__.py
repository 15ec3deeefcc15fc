"""What a run's record says: who came from whom, and what can be learnt from it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
