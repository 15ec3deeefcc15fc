from .answers import Judgement as Judgement
from .effects import Effect as Effect
from .findings import Findings as Findings
from .lineage import Step as Step
from .lineage import Tree as Tree
from .record import Entry as Entry
from .record import Record as Record
from .twins import HeadStart as HeadStart

__all__ = ["Effect", "Entry", "Findings", "HeadStart", "Judgement", "Record", "Step", "Tree"]
