from .breeding import Breeding as Breeding
from .evaluators.serial import SerialEvaluator as SerialEvaluator
from .evaluators.workers import WorkerPool as WorkerPool
from .ranking import best_networks as best_networks
from .ranking import front_of as front_of
from .replay import Difference as Difference
from .replay import replayed as replayed
from .requests import Request as Request
from .requests import RequestFiles as RequestFiles
from .storage.events import Event as Event
from .storage.store import RunStore as RunStore
from .study import End as End
from .study import Progress as Progress
from .study import Study as Study
from .study import Why as Why

__all__ = [
    "Breeding",
    "Difference",
    "End",
    "Event",
    "Progress",
    "Request",
    "RequestFiles",
    "RunStore",
    "SerialEvaluator",
    "Study",
    "Why",
    "WorkerPool",
    "best_networks",
    "front_of",
    "replayed",
]
