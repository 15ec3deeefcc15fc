"""What the experience that a search began with turns out to be worth, said and noted."""

from __future__ import annotations

from nanonas.core import Strategy
from nanonas.engine.storage.events import EXPERIENCE_JUDGED
from nanonas.engine.storage.store import RunStore
from nanonas.maths.ranks import Correlation
from nanonas.predictors.experience import useless
from nanonas.runs.experience import judgement
from nanonas.strategies.around.screened import screened_in

_EVERY = 10  # networks, after which a run notes it again


class Judge:
    """Compares what other runs have shown with what is measured here, while a search goes on.

    It notes that with the run after every tenth network, and where experience is left out or heeded
    again: so readers need neither fit a process nor read the experience.

    Args:
        strategy: of the search; one without a predictor, or that began with nothing, has nothing to
            be judged.
        store: of the run, whose notes an earlier session may have begun.
    """

    def __init__(self, strategy: Strategy, store: RunStore) -> None:
        self._screened, self._store = screened_in(strategy), store
        noted = [event.details for event in store.events() if event.kind == EXPERIENCE_JUDGED]
        self._noted = noted[-1]["n"] if noted else 0
        self._useless = bool(noted) and noted[-1]["left_out"]

    def worth(self) -> Correlation | None:
        """How experience orders the networks that were trained here; None while there are fewer
        than 3, or without experience.
        """
        return None if self._screened is None else self._screened.worth

    def heard(self) -> str | None:
        """A sentence where experience is left out, or heeded again, by what the strategy was told
        last.
        """
        worth = self.worth()
        if worth is None:
            return None
        changed = useless(worth) != self._useless
        self._useless = useless(worth)
        if changed or worth.n // _EVERY > self._noted // _EVERY:
            self._note(worth)
        if not changed:
            return None
        if self._useless:
            return f"what other runs have shown does not order these networks ({worth}): left out"
        return f"what other runs have shown orders these networks after all ({worth}): heeded"

    def end(self) -> None:
        """Notes what it came to."""
        worth = self.worth()
        if worth is not None and worth.n != self._noted:
            self._note(worth)

    def _note(self, worth: Correlation) -> None:
        self._noted = worth.n
        self._store.event(EXPERIENCE_JUDGED, judgement(worth))
