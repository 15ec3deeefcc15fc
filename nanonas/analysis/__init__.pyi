from .answers import Judgement as Judgement
from .findings import Effect as Effect
from .findings import Findings as Findings
from .findings import HeadStart as HeadStart
from .findings import Step as Step
from .findings import Tree as Tree
from .record import Entry as Entry
from .record import Record as Record

__all__ = ["Effect", "Entry", "Findings", "HeadStart", "Judgement", "Record", "Step", "Tree"]
