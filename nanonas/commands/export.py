"""nanonas export"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.config.duration import seconds
from nanonas.errors import ConfigError
from nanonas.files import in_full
from nanonas.text import milliseconds, percent

if TYPE_CHECKING:
    from nanonas.deploy.bundle import Bundle
    from nanonas.deploy.verdicts import Verdict


@dataclass(frozen=True)
class ExportFlags:
    """Writes a trained network as files that work without nanonas, and checks each of them."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, a folder of runs (its newest), the folder of a final training, or
    RUN/front/NUMBER for a network of the front that was trained."""
    to: str = "exported"
    """The folder for the files: a new one, or one of an earlier export; or hf://USER/NAME."""
    formats: tuple[Literal["pytorch", "onnx", "int8", "pt2", "c"], ...] = ()
    """Some of pytorch, onnx, int8, pt2 and c (source for microcontrollers); by default all that can
    be made here, and c where the search was for a microcontroller."""
    candidate: int | None = None
    """One of the run's networks, by its number: after its final training with --front, or with the
    weights of the search; by default the winner."""
    fold: bool = True
    """Fold batch norms into the convolutions before them, where that is exact."""
    int8_loss: float = 1.0
    """Percentage points of accuracy that int8 may lose: of the test images to count as exported, of
    the validation images not to be fine-tuned."""
    finetune: str = "60s"
    """How long int8 may be fine-tuned where it loses more than that, such as 60s or 5m; the better
    one by the validation images is kept. Or off."""
    data: str | None = None
    """The images that the files are checked on; by default those that it was found on."""
    skip_broken: bool = False
    """Go on without images that cannot be read; a run whose search did so needs no flag."""


def export(arguments: Sequence[str]) -> int:
    """nanonas export"""
    given = parse(ExportFlags, "export", arguments)
    if not 0 <= given.int8_loss <= 100:
        raise ConfigError(f"--int8-loss must be in [0, 100], but is {given.int8_loss:g}")
    if given.candidate is not None and given.candidate < 0:
        raise ConfigError(f"--candidate must be 0 or more, but is {given.candidate}")

    finetune = _finetuning_seconds(given.finetune)

    from nanonas.deploy.bundle import Export
    from nanonas.deploy.hub import PREFIX, upload
    from nanonas.deploy.subject import subject_at

    what = subject_at(given.source, given.candidate, given.data, given.skip_broken)
    how = Export(given.formats, given.fold, given.int8_loss, finetune=finetune)
    if given.to.startswith(PREFIX):
        bundle = upload(given.to, lambda folder: how.run(what, folder))
    else:
        bundle = how.run(what, in_full(Path(given.to)))
    _say(Console(), bundle, given.to)
    return 1 if bundle.failed else 0


def _finetuning_seconds(text: str) -> float | None:
    """None: never. Raises `ConfigError`."""
    if text.strip().lower() == "off":
        return None
    try:
        return seconds(text)
    except ConfigError:
        raise ConfigError(
            f"--finetune must be a duration above 0 such as 60s or 5m, or off, but is {text!r}"
        ) from None


def _say(console: Console, bundle: Bundle, to: str) -> None:
    console.print(_table(bundle))
    for name, reason in bundle.left_out.items():
        _print(console, f"{name} is left out: {reason}")
    for verdict in bundle.verdicts:
        if verdict.note:
            _print(console, f"{verdict.format}: {verdict.note}")
    for verdict in bundle.failed:
        _print(console, f"{', '.join(verdict.files)} FAILED: {verdict.reason}")
    console.print(to, style="bold", markup=False, highlight=False, soft_wrap=True)


def _print(console: Console, words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)


def _table(bundle: Bundle) -> Table:
    """What came of each format."""
    headers = ("", "size", "off by", "same class", "accuracy", "latency", "p95", "")
    columns = [Column(name, no_wrap=True) for name in headers]
    # one space between columns: with two, a terminal of 80 would cut their names
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.title = f"without nanonas, on {bundle.images}"
    for verdict in (bundle.own, *bundle.verdicts):
        names = "in nanonas" if verdict is bundle.own else "\n".join(verdict.files)
        passed = "" if verdict is bundle.own else "passed" if verdict.passed else "FAILED"
        table.add_row(names, *_figures(verdict), passed)
    return table


def _figures(verdict: Verdict) -> list[str]:
    size = f"{verdict.bytes / 1000:,.0f} kB"
    timing = verdict.timing
    if verdict.agreement is None:
        return [size, "", "", "", "", ""]
    times = ["", ""]  # the median's interval stands in verification.json: lines have 80 columns
    if timing is not None:
        times = [milliseconds(timing.median), milliseconds(timing.p95)]
    return [
        size,
        "" if verdict.difference is None else f"{verdict.difference:.1g}",
        percent(verdict.agreement),
        "–" if verdict.accuracy is None else percent(verdict.accuracy.share),
        *times,
    ]


VERB = Verb(ExportFlags, export)
