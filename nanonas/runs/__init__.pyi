from .asking import ask as ask
from .copying import Backup as Backup
from .copying import backup as backup
from .folder import RunFolder as RunFolder
from .folder import best_genome as best_genome
from .folder import find as find
from .folder import read_config as read_config
from .genome import GenomeFile as GenomeFile
from .genome import read_genome as read_genome
from .models import best_module as best_module
from .models import trained_module as trained_module
from .reading import read_record as read_record
from .rescuing import Condition as Condition
from .rescuing import condition as condition
from .rescuing import rescue as rescue

__all__ = [
    "Backup",
    "Condition",
    "GenomeFile",
    "RunFolder",
    "ask",
    "backup",
    "best_genome",
    "best_module",
    "condition",
    "find",
    "read_config",
    "read_genome",
    "read_record",
    "rescue",
    "trained_module",
]
