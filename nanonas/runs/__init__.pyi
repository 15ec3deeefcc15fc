from .asking import ask as ask
from .folder import RunFolder as RunFolder
from .folder import best_genome as best_genome
from .folder import find as find
from .folder import read_config as read_config
from .genome import GenomeFile as GenomeFile
from .genome import read_genome as read_genome
from .models import best_module as best_module
from .models import trained_module as trained_module
from .reading import command as command
from .reading import read_record as read_record

__all__ = [
    "GenomeFile",
    "RunFolder",
    "ask",
    "best_genome",
    "best_module",
    "command",
    "find",
    "read_config",
    "read_genome",
    "read_record",
    "trained_module",
]
