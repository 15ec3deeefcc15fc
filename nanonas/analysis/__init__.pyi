from .findings import Effect as Effect
from .findings import Findings as Findings
from .findings import HeadStart as HeadStart
from .lineage import Step as Step
from .lineage import Tree as Tree
from .record import Entry as Entry
from .record import Record as Record

__all__ = ["Effect", "Entry", "Findings", "HeadStart", "Record", "Step", "Tree"]
