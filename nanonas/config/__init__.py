"""One run's configuration: its values, its files, and the table from strings to classes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
