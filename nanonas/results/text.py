"""Numbers for people."""

from __future__ import annotations

from collections.abc import Mapping


def count(number: float) -> str:
    """A count for people: 812, 24.1K, 1.2M, 3.4G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{number:.0f}"


def costs(metrics: Mapping[str, float]) -> str:
    """What a network costs: 24.1K parameters, 1.2M MACs, and latency and memory where they were measured."""
    words = [f"{count(metrics['params'])} parameters", f"{count(metrics['macs'])} MACs"]
    if "latency" in metrics:
        words.append(milliseconds(metrics["latency"]))
    if "memory" in metrics:
        words.append(mebibytes(metrics["memory"]))
    return ", ".join(words)


def milliseconds(number: float) -> str:
    """Milliseconds for people: 0.31 ms, 4.20 ms, 120 ms."""
    return f"{number:.2f} ms" if number < 100 else f"{number:.0f} ms"


def mebibytes(number: float) -> str:
    """MiB for people: 0.31 MiB, 42.0 MiB, 120 MiB, 3.2 GiB."""
    if number >= 1024:
        return f"{number / 1024:.1f} GiB"
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f} MiB"


def duration(seconds: float) -> str:
    """Seconds for people: 42s, 3m 20s, 2h 05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
