from .bench import SHIPPED as SHIPPED
from .bench import Bench as Bench
from .files import read_table as read_table
from .table import Answers as Answers
from .table import Table as Table
from .table import TableEvaluator as TableEvaluator
from .table import TableSpace as TableSpace

__all__ = [
    "SHIPPED",
    "Answers",
    "Bench",
    "Table",
    "TableEvaluator",
    "TableSpace",
    "read_table",
]
