from .listener import Begun as Begun
from .listener import Listener as Listener
from .listener import Listeners as Listeners
from .plan import Forecast as Forecast
from .plan import forecast as forecast
from .replay import Repeat as Repeat
from .replay import Replay as Replay
from .session import Outcome as Outcome
from .setup import Setup as Setup
from .setup import resolved as resolved
from .start import begin as begin
from .start import resume as resume

__all__ = [
    "Begun",
    "Forecast",
    "Listener",
    "Listeners",
    "Outcome",
    "Repeat",
    "Replay",
    "Setup",
    "begin",
    "forecast",
    "resolved",
    "resume",
]
