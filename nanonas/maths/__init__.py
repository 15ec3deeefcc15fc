"""Functions on arrays: Pareto fronts, rank statistics, confidence intervals.

They know nothing of searches.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
