"""The page of a run that goes on: the parts of the report, each drawn again when there is something
new, and what is around them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nanonas.errors import NanonasError
from nanonas.report import page
from nanonas.report.page import Part
from nanonas.report.words.verdict import cards
from nanonas.serving.view import View

_PATIENCE = 0.2
_IDLE = 8.0  # a part that takes long is drawn again after so many times as long
# They look at every network, 2 ms each for the first time: a thread beside the answers draws them.
_SLOW = ("credit", "mattered")
_MOVING = ("lamp", "said", "progress", "pause", "banned", "asked")  # drawn for every answer

_SERIAL = re.compile("[0-9]{1,20}")

Ask = Callable[[str, str | None], str]


@dataclass
class _Drawn:
    """A part as it stands on the page.

    Attributes:
        part: None: it is being drawn for the first time.
        since: the page's serial number from which it is so.
        version: of the view that it was drawn from.
        seconds: of the processor, that it took; by the clock, a busy machine would be taken for a
            large run.
        at: when, in seconds since 1970.
    """

    part: Part
    since: int
    version: str = ""
    seconds: float = 0.0
    at: float = 0.0


class LivePage:
    """The page of a run, and what is new on it. Many threads may ask.

    Args:
        look: returns the run as it is now.
        idle: a part is drawn again after so many times as long as it took: of a large run rarely,
            for the search needs the processor, too.
        patience: seconds of the processor for one answer; parts that do not fit into it are drawn
            for the next one.
    """

    def __init__(
        self, look: Callable[[], View], idle: float = _IDLE, patience: float = _PATIENCE
    ) -> None:
        self._look, self._idle, self._patience = look, idle, patience
        self._lock = threading.Lock()
        self._begun, self._serial = time.time_ns(), 1
        waits = Part(page.fill("waits"))
        self._drawn = {key: _Drawn(waits, 1) for key in _SLOW}
        self._drawing: threading.Thread | None = None  # the slow ones

    def whole(self, cookie: str) -> str:
        """The page as HTML. `cookie`: see `nanonas.serving.guard.Guard`."""
        view = self._update()
        record = view.record
        search = record.search
        words = (search.get("strategy"), f"over {search.get('space')}", f"on {search.get('data')}")
        subtitle = " · ".join([*map(str, words), f"seed {search.get('seed')}"])
        panels = []
        if record.winner is not None:
            panels.append(page.candidate(view.findings, record.winner.number))
        with self._lock:
            parts = {key: drawn.part for key, drawn in self._drawn.items()}
            served = page.Served(record.space.operation_names, cookie, self._version)
        return page.whole(record, subtitle, parts, panels, served)

    def news(self, since: str) -> dict[str, Any]:
        """What has changed since a version of the page: the HTML of parts, and their plots.

        Another process's version, or none, is older than everything.
        """
        view = self._update()
        winner = view.record.winner
        with self._lock:
            begun, _, serial = since.partition("-")
            known = int(serial) if begun == str(self._begun) and _SERIAL.fullmatch(serial) else 0
            new = {key: one.part for key, one in self._drawn.items() if one.since > known}
            return {
                "version": self._version,
                "candidates": len(view.record.entries),
                "winner": None if winner is None else winner.number,
                "parts": {key: part.html for key, part in new.items()},
                "plots": {key: plot for part in new.values() for key, plot in part.plots.items()},
            }

    def candidate(self, number: int) -> str | None:
        """What a click on a candidate shows, as HTML; None where there is no such candidate."""
        findings = self._look().findings
        if number >= len(findings.record.entries):
            return None
        return page.candidate(findings, number)

    @property
    def busy(self) -> bool:
        """Whether a thread draws what takes long."""
        return self._drawing is not None and self._drawing.is_alive()

    @property
    def _version(self) -> str:
        return f"{self._begun}-{self._serial}"

    def _update(self) -> View:
        """Draws what there is to draw anew."""
        view = self._look()
        with self._lock:
            for key in _MOVING:
                self._keep(key, Part(page.fill(f"part_{key}", view=view)))
            self._keep("cards", _cards(view))
            due = [key for key in page.PARTS if key != "cards" and self._due(key, view)]
            self._draw([key for key in due if key not in _SLOW], view)
            slow = [key for key in due if key in _SLOW]
            if slow and not self.busy:
                self._drawing = threading.Thread(
                    target=self._draw_slow, args=(slow, view), daemon=True
                )
                self._drawing.start()
        return view

    def _due(self, key: str, view: View) -> bool:
        """Whether a part is to be drawn again."""
        drawn = self._drawn.get(key)
        if drawn is None:
            return True
        return drawn.version != view.version and view.now - drawn.at >= self._idle * drawn.seconds

    def _draw(self, keys: list[str], view: View) -> None:
        """Draws parts, those first that are the oldest; what takes too long is left to the next
        answer.
        """
        begin = time.thread_time()
        for key in sorted(keys, key=lambda key: self._drawn[key].at if key in self._drawn else 0.0):
            if key in self._drawn and time.thread_time() - begin > self._patience:
                continue
            start = time.thread_time()
            part = page.draw(key, view.findings, view.config, live=True)
            self._keep(key, part, view, time.thread_time() - start)

    def _draw_slow(self, keys: list[str], view: View) -> None:
        for key in keys:
            start = time.thread_time()
            part = page.draw(key, view.findings, view.config, live=True)
            with self._lock:
                self._keep(key, part, view, time.thread_time() - start)

    def _keep(self, key: str, part: Part, view: View | None = None, seconds: float = 0.0) -> None:
        """Puts a part onto the page; the page has changed when the part has."""
        drawn = self._drawn.get(key)
        if drawn is None or drawn.part != part:
            self._serial += 1
            drawn = self._drawn[key] = _Drawn(part, self._serial)
        if view is not None:
            drawn.version, drawn.seconds, drawn.at = view.version, seconds, view.now


def answer(ask: Ask, asked: Mapping[str, Any]) -> str:
    """What becomes of a request that the page has posted, as a sentence.

    Args:
        ask: leaves a request and says so; raises `NanonasError` for what is none.
        asked: "what", and the "word" that it is about: an operation or a genome.
    """
    what, word = str(asked.get("what")), asked.get("word")
    if what == "ban" and not word:
        return "choose an operation first"
    try:
        return ask(what, None if word is None else str(word))
    except NanonasError as error:
        return f"refused: {error}"


def _cards(view: View) -> Part:
    since = ("since the last news", _rough(max(0.0, view.now - view.last)))
    return Part(page.fill("part_cards", cards=[*cards(view.findings), since]))


def _rough(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
