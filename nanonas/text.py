"""Numbers, and commands to type, for people."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_BLOCKS = "▁▂▃▄▅▆▇█"


def count(number: float) -> str:
    """A count for people: 812, 24.1K, 1.2M, 3.4G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def number_of(number: float, noun: str, plural: str = "", form: str = ",") -> str:
    """What is counted, with its number: 1 image, 1,200 images, 3 children.

    Args:
        plural: of the noun; "" for an "s" behind it.
        form: how the number is written, such as ".3g".
    """
    shown = f"{number:{form}}"
    return f"{shown} {by_number(shown == '1', noun, plural or f'{noun}s')}"


def by_number(one: bool | int, singular: str, plural: str) -> str:
    """The word that goes with one thing, or with any other number of them: is, are."""
    return singular if one == 1 else plural


def command(*words: str | Path) -> str:
    """A command as a shell reads it: what is no `Path` stands as it is, a `Path` quoted."""
    return " ".join(shlex.quote(str(word)) if isinstance(word, Path) else word for word in words)


def costs(metrics: Mapping[str, float]) -> str:
    """What a network costs: 24.1K parameters, 1.2M MACs, latency and memory where they were
    measured, flash and RAM where they were counted.
    """
    words = [f"{count(metrics['params'])} parameters", f"{count(metrics['macs'])} MACs"]
    if "latency" in metrics:
        words.append(milliseconds(metrics["latency"]))
    if "memory" in metrics:
        words.append(mebibytes(metrics["memory"]))
    if "flash" in metrics:
        words.append(f"{kilobytes(metrics['flash'])} of flash")
    if "ram" in metrics:
        words.append(f"{kilobytes(metrics['ram'])} of RAM")
    return ", ".join(words)


def milliseconds(number: float) -> str:
    """Milliseconds for people: 0.31 ms, 4.20 ms, 120 ms."""
    return f"{number:.2f} ms" if number < 100 else f"{number:.0f} ms"


def mebibytes(number: float) -> str:
    """MiB for people: 0.31 MiB, 42.0 MiB, 120 MiB, 3.2 GiB."""
    if number >= 1024:
        return f"{number / 1024:.1f} GiB"
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} MiB"


def kilobytes(number: float) -> str:
    """Bytes for people, in KB of 1024: 0.31 KB, 42.0 KB, 1,200 KB."""
    number /= 1024
    return f"{number:,.{2 if number < 10 else 1 if number < 100 else 0}f} KB"


def duration(seconds: float) -> str:
    """Seconds for people: 42s, 3m 20s, 2h 05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Values as a line of blocks, lowest to highest: ▁▃▄▆█; of more than `width` the last of each
    stretch.
    """
    if not values:
        return ""
    places = (
        range(len(values))
        if len(values) <= width
        else [(n + 1) * len(values) // width - 1 for n in range(width)]
    )
    shown = [values[place] for place in places]
    low, high = min(shown), max(shown)
    return "".join(
        _BLOCKS[round((len(_BLOCKS) - 1) * (value - low) / (high - low)) if high > low else 0]
        for value in shown
    )


def percent(share: float) -> str:
    """A share for people: 98.61 %."""
    return f"{100 * share:.2f} %"


def began_with(beginning: Mapping[str, Any]) -> str:
    """Whose weights a training began with, as its result has it: "began with the weights of cars,
    97.2 % of its parameters, which learnt 0.3 times as fast".
    """
    factor = beginning["body_lr"]
    how = "stayed as they were" if factor == 0 else f"learnt {factor:g} times as fast"
    if factor == 1:
        how = "learnt as fast as the others"
    share = f"{100 * beginning['share']:.1f} % of its parameters"
    return f"began with the weights of {beginning['name']}, {share}, which {how}"


def finalists_begin(ancestor: bool) -> str:
    """What finalists begin with.

    Args:
        ancestor: whether all trainings of their search begin with another network's weights.
    """
    return "with the ancestor's weights alone" if ancestor else "from scratch"


def tested_by(metric: str) -> str:
    """What an accuracy on test images is called, by the metric of its run."""
    return "balanced test accuracy" if metric == "balanced_accuracy" else "test accuracy"


def points(difference: float) -> str:
    """A difference of two shares for people, in percentage points: +0.69, −1.20."""
    return signed(100 * difference)


def interval(middle: float, low: float, high: float) -> str:
    """A figure with its interval for people: +0.35 (−0.12 to +0.82)."""
    return f"{signed(middle)} ({signed(low)} to {signed(high)})"


def signed(number: float) -> str:
    """A number with its sign, and the minus that typesetters use: +0.35, −0.12."""
    return f"{number:+.2f}".replace("-", "−")


def shortened(text: str, most: int) -> str:
    """A text of at most so many letters: of a longer one its beginning and its end, where names
    differ, "great spo…pecker".
    """
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end].rstrip()}…{text[len(text) - end :]}"


def share_in_words(share: float) -> str:
    """ "40 %", "0.12 %": with two digits below one percent."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.01 else f"{100 * share:.2g} %"


_UNITS: Mapping[str, Callable[[float], str]] = {
    "": str,
    "count": count,
    "hundredths": "{:.2f}".format,
    "kilobytes": kilobytes,
    "digits": "{:.3g}".format,
    "mebibytes": mebibytes,
    "milliseconds": milliseconds,
    "percent": percent,
    "points": points,
    "seconds": duration,
    "share": "{:.0%}".format,
    "signed": signed,
    "thousandths": "{:.3f}".format,
    "spread": lambda share: f"± {100 * share:.2f}",
}


def in_unit(value: float, unit: str) -> str:
    """A value for people, by its unit: "percent" and "points" of a share, "seconds", "count", …;
    "" as it is.
    """
    return _UNITS[unit](value)
