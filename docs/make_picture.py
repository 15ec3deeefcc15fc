"""Draws the README's picture from a run: accuracy as the search goes on, and the network it found.

    make search && .venv/bin/python docs/make_picture.py outputs

One SVG without scripts: the dots appear in the order in which the networks were trained, ten times
as fast as they were; a reader who prefers no motion sees them all at once.
"""

from __future__ import annotations

import argparse
import math
import re
from html import escape
from pathlib import Path

from nanonas.analysis import Record
from nanonas.report import svg
from nanonas.runs import find, read_record
from nanonas.text import count

OUT = Path(__file__).parent / "figures" / "search.svg"
LEFT, TOP, WIDE, HIGH = 58, 64, 470, 330  # of the plot, in pixels
SPEED = 10  # seconds of the search in a second of the animation
TICKS = (0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
STYLE = """
text{font:13px system-ui,sans-serif;fill:#24292f}.dim{fill:#656d76}.title{font-weight:600}
.grid{stroke:#d0d7de;stroke-width:1}.best{fill:none;stroke:#d55e00;stroke-width:2}
.dot{fill:#0072b2;fill-opacity:.55}.new{fill:#d55e00;fill-opacity:1}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#8d96a0}.grid{stroke:#30363d}
.dot{fill:#56b4e9}.best{stroke:#ff8a3c}.new{fill:#ff8a3c}}
.dot{animation:show .3s both}@keyframes show{from{opacity:0}}
.best{stroke-dasharray:1;animation:draw both linear}@keyframes draw{from{stroke-dashoffset:1}}
@media (prefers-reduced-motion:reduce){.dot,.best{animation:none!important}}
"""


def text(x: float, y: float, words: str, kind: str = "dim", anchor: str = "start") -> str:
    """A line of words at a place in pixels."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def height(accuracy: float) -> float:
    """Where an accuracy in [0, 1) stands on an axis on which halving the error is one step."""
    return -math.log10(1 - min(accuracy, 0.999))


class Plot:
    """The dots of a search: seconds to the right, accuracy upwards."""

    def __init__(self, record: Record) -> None:
        trained = [entry for entry in record.trained if entry.accuracy and entry.elapsed]
        self.entries = sorted(trained, key=lambda entry: entry.elapsed or 0.0)
        self.seconds = max(entry.elapsed or 0.0 for entry in self.entries)
        accuracies = [entry.accuracy or 0.0 for entry in self.entries]
        self.bottom = height(max(0.1, min(sorted(accuracies)[len(accuracies) // 10], 0.8)))
        self.top = height(max(accuracies)) + 0.12

    def at(self, seconds: float, accuracy: float) -> tuple[float, float]:
        """The place of a point, in pixels."""
        share = (height(accuracy) - self.bottom) / (self.top - self.bottom)
        x = LEFT + WIDE * seconds / self.seconds
        return round(x, 1), round(TOP + HIGH * (1 - max(share, 0.0)), 1)

    def drawn(self) -> str:
        """The axes, a dot for each network, and the best so far as a line."""
        parts = [*self._axes()]
        line, best = "", 0.0
        for entry in self.entries:
            seconds, accuracy = entry.elapsed or 0.0, entry.accuracy or 0.0
            x, y = self.at(seconds, accuracy)
            is_best = accuracy > best
            if is_best:
                line += f"H{x}V{y}" if line else f"M{x} {y}"
                best = accuracy
            kind = "dot new" if is_best else "dot"
            appears = f"animation-delay:{seconds / SPEED:.2f}s"
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="4" style="{appears}"/>')
        line += f"H{LEFT + WIDE}"
        lasts = f"animation-duration:{self.seconds / SPEED:.1f}s"
        parts.append(f'<path class="best" pathLength="1" style="{lasts}" d="{line}"/>')
        return "".join(parts)

    def _axes(self) -> list[str]:
        parts: list[str] = []
        for tick in TICKS:
            if self.bottom <= height(tick) <= self.top:
                _, y = self.at(0, tick)
                parts.append(f'<path class="grid" d="M{LEFT} {y}H{LEFT + WIDE}"/>')
                parts.append(text(LEFT - 8, y + 4, f"{100 * tick:.4g} %", anchor="end"))
        step = next(s for s in (5, 10, 15, 30, 60, 300, 600, 3600) if self.seconds / s <= 7)
        for seconds in range(0, int(self.seconds) + 1, step):
            x = LEFT + WIDE * seconds / self.seconds
            parts.append(text(x, TOP + HIGH + 20, f"{seconds} s", anchor="middle"))
        return parts


def picture(record: Record) -> str:
    """The whole SVG."""
    plot, winner = Plot(record), record.winner
    assert winner is not None, "the run has no trained network"
    network = record.network(winner.number)
    drawn = svg(network, title="the network that was found")
    wide, high = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)"', drawn)[:2])
    beside = LEFT + WIDE + 42
    scale = min(1.0, 400 / wide, (HIGH + 20) / high)
    placed = re.sub(
        r'width="[\d.]+" height="[\d.]+"',
        f'x="{beside}" y="{TOP}" width="{scale * wide:.0f}" height="{scale * high:.0f}"',
        drawn,
        count=1,
    )
    total = beside + max(round(scale * wide) + 16, 360)
    left = f"{len(plot.entries)} networks in {plot.seconds:.0f} seconds"
    told = f"{count(network.params)} parameters, {count(network.macs)} MACs"
    if record.final is not None:
        right = f"{record.final['test_accuracy']:.1%} of the test images are right"
        told = f"{right}, {count(network.params)} parameters"
    epochs = record.search["epochs"]
    heads = [
        text(LEFT, 26, left, "title"),
        text(LEFT, 46, f"accuracy on validation images, {epochs} epochs each"),
        text(beside, 26, "the network that was found", "title"),
        text(beside, 46, told),
    ]
    box = f"0 0 {total} {TOP + HIGH + 36}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img">'
        f"<title>{left}; {escape(told)}</title><style>{STYLE}</style>"
        f"{''.join(heads)}{plot.drawn()}{placed}</svg>\n"
    )


def main() -> None:
    """Draws the picture of a run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("outputs"), help="a run's folder")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.out.write_text(picture(read_record(find(given.run))), encoding="utf-8")
    print(given.out)


if __name__ == "__main__":
    main()
