from .images import DataSpec as DataSpec
from .images import Images as Images
from .images import load as load
from .kept import cache_folder as cache_folder
from .preprocessing import Preprocessing as Preprocessing
from .sources import SOURCES as SOURCES

__all__ = [
    "SOURCES",
    "DataSpec",
    "Images",
    "Preprocessing",
    "cache_folder",
    "load",
]
