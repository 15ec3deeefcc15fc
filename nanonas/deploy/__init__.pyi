from .bundle import Bundle as Bundle
from .bundle import Export as Export
from .classifying import Classifier as Classifier
from .classifying import classifier as classifier
from .folding import folded as folded
from .operations import SOURCES as SOURCES
from .operations import Source as Source
from .source import model_source as model_source
from .subject import Subject as Subject
from .subject import subject_at as subject_at
from .verdicts import Verdict as Verdict

__all__ = [
    "SOURCES",
    "Bundle",
    "Classifier",
    "Export",
    "Source",
    "Subject",
    "Verdict",
    "classifier",
    "folded",
    "model_source",
    "subject_at",
]
