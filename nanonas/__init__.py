"""Give it images and a budget; get back a small, accurate CNN: found by evolution, trained, and
saved.

>>> from nanonas import nano_nas
>>> model = nano_nas("evolution", population_size=10, generations=5)  # doctest: +SKIP
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
