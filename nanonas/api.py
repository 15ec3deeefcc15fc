"""nanonas from Python: the same searches as the command line's, with modules as results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanonas.config.files import configure, halves, validated
from nanonas.config.parts import SPACES, make_space
from nanonas.core import Shape
from nanonas.errors import ConfigError, GenomeError
from nanonas.runs.folder import RunFolder, find
from nanonas.text import number_of

if TYPE_CHECKING:
    import pandas as pd

    from nanonas.analysis.record import Record
    from nanonas.training.modules import NetworkModule


def search(
    data: str | Path, *, time: str | float | None = None, quiet: bool = False, **settings: Any
) -> Result:
    """Searches for a network within a time, trains it and tests it: what `nanonas search` does.

    >>> result = search("photos", time="1h", max_params=250_000)  # doctest: +SKIP
    >>> result.test_accuracy, result.best  # doctest: +SKIP

    Args:
        data: "digits", "cifar10", "cifar100", a folder of images, an .npz, or parquet.
        time: for all of it, such as "10m" or seconds; None: as the command does, half an hour
            unless the settings end the search.
        quiet: show nothing.
        settings: any other value of the configuration: `max_params=250_000`, `workers=2`, …

    Raises:
        ConfigError: an unknown setting, or a value that cannot be used.
        NanonasError: anything else that a search can say; see `nanonas.errors`.
    """
    from rich.console import Console

    from nanonas.session.start import begin
    from nanonas.terminal.live import live

    config = configure(data=str(data), time=time, **settings)
    listener = live(Console(quiet=quiet), explain=config.run.explain)
    return Result(begin(config, listener).folder.path)


def nano_nas(
    strategy: str = "evolution",
    *,
    population_size: int = 10,
    generations: int = 5,
    space: str = "nano",
    data: str | Path = "cifar10",
    epochs: int = 3,
    train_images: int | None = 10_000,
    seed: int = 0,
    device: str = "auto",
    out: str | Path = "outputs",
    quiet: bool = False,
    **settings: Any,
) -> NetworkModule:
    """Searches for an architecture and returns the best module, with the weights it was evaluated
    with.

    Works from a script without a main guard, a REPL, a notebook or standard input: workers never
    run the caller again.

    >>> model = nano_nas("evolution", population_size=10, generations=5)  # doctest: +SKIP

    Args:
        strategy: "evolution", "aging", "local", "screened", "random", or "nsga2" for the best
            trade-offs of accuracy and size.
        population_size: networks in a generation, 2 or more.
        generations: 1 or more.
        space: "nano", "layers" or "nasbench201".
        epochs: passes over the training images for each network.
        train_images: how many images, evenly over the classes, an epoch has at most; None for all.
        data: "digits", "cifar10", "cifar100", a folder of images, an .npz, or parquet.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        out: the folder that the run's own folder is made in.
        quiet: show nothing.
        settings: any other value of the configuration: `max_params=250_000`, `time="10m"`,
            `batch_size=64`, …

    Returns:
        On the CPU, in eval mode; `(B, C, H, W) -> (B, classes)`. Its architecture is
        `model.network`.

    Raises:
        ConfigError: an unknown setting, or a value that cannot be used.
        NanonasError: anything else that a search can say; see `nanonas.errors`.
    """
    from rich.console import Console

    from nanonas.runs.models import best_module
    from nanonas.session.start import begin
    from nanonas.terminal.live import live

    chosen = {
        "strategy": strategy,
        "population": population_size,
        "generations": generations,
        "space": space,
        "data": data,
        "epochs": epochs,
        "train_images": train_images,
        "seed": seed,
        "device": device,
        "out": str(out),
        **settings,
    }
    config = validated(halves(chosen), "nano_nas")
    listener = live(Console(quiet=quiet), explain=config.run.explain)
    return best_module(begin(config, listener, final=False).folder)


def build(
    genome: Sequence[int],
    space: str = "nano",
    *,
    input_shape: Shape = (3, 32, 32),
    classes: int = 10,
    seed: int | None = None,
    **options: int,
) -> NetworkModule:
    """The module of a hand-written genome, with fresh weights.

    >>> build([0, 1, 2, 3], space="nano", channels=128)  # doctest: +SKIP

    Args:
        input_shape: (channels, height, width) of the images.
        seed: of the weights; None draws from torch's global generator.
        options: of the space: `channels` for "nano".

    Returns:
        `(B, *input_shape) -> (B, classes)`, logits.

    Raises:
        GenomeError: not a genome of the space.
        ConfigError: no such space or option, or a value that cannot be used.
    """
    from nanonas.training.modules import build_module

    allowed = SPACES[space].options if space in SPACES else tuple(options)
    for name in options:
        if name not in allowed:
            raise ConfigError(
                f"build: the space {space!r} has no option {name!r}; it has "
                f"{', '.join(allowed) or 'none'}"
            )
    config = validated({"search": {"space": space, **options}}, "build")
    try:
        numbers = tuple(genome)
    except TypeError:
        raise GenomeError(f"a genome must be a list of whole numbers, but is {genome!r}") from None
    return build_module(make_space(config.search.space, input_shape, classes).decode(numbers), seed)


def load(source: str | Path) -> NetworkModule:
    """The trained network of a run, in eval mode, on the CPU.

    Args:
        source: a run's folder, a folder of runs (its newest), RUN/front/NUMBER of a network of the
            front that was trained, or what `train --out` wrote. The finally trained weights where
            there are some, those of the best candidate's evaluation otherwise.

    Returns:
        `(B, C, H, W) -> (B, classes)`. `model.preprocessing` knows how to prepare images for it:
        `model.preprocessing.batch(["owl.jpg"])` is what it takes, as a numpy array. None for runs
        of versions that did not keep that.

    Raises:
        RunError: no run there, or nothing in it yet.
    """
    from nanonas.runs.models import trained_module

    return trained_module(Path(source))


@dataclass(frozen=True)
class Result:
    """A run, with what it found.

    In a notebook it shows itself: what was searched, what came of it, and a drawing of the network.

    Args:
        folder: of the run.
    """

    folder: Path

    @property
    def _run(self) -> RunFolder:
        return find(self.folder)

    @cached_property
    def record(self) -> Record:
        """Everything that is known of the run."""
        from nanonas.runs.reading import read_record

        return read_record(self._run)

    @cached_property
    def best(self) -> NetworkModule:
        """The best network, in eval mode, on the CPU: after its final training where it had one.

        `(B, C, H, W) -> (B, classes)`, logits; `best.preprocessing.batch(images)` makes what it
        takes. Raises `RunError` where nothing is trained yet.
        """
        from nanonas.runs.models import trained_module

        return trained_module(self.folder)

    @property
    def test_accuracy(self) -> float | None:
        """In [0, 1], of the best network after its final training, on images that chose nothing;
        None where there was no final training.
        """
        final = self.record.final
        return None if final is None else float(final["test_accuracy"])

    @property
    def history(self) -> pd.DataFrame:
        """Every candidate, a row each. Raises `ConfigError` where pandas is missing."""
        from nanonas.report.rows.frames import frames

        return frames(self.record)["candidates"]

    @property
    def front(self) -> pd.DataFrame:
        """The best trade-offs of accuracy and size at the end of the search, a row each, the
        smallest first. Raises `ConfigError` where pandas is missing.
        """
        from nanonas.report.rows.frames import frames

        fronts = frames(self.record)["fronts"]
        last = fronts[fronts["after"] == fronts["after"].iloc[-1]]
        return last.drop_duplicates(ignore_index=True)

    @property
    def trained_front(self) -> pd.DataFrame:
        """The networks of the front that were finally trained (`front=3`), a row each with its test
        accuracy: the winner first, then the most accurate of the search. `nanonas.load` takes
        `f"{result.folder}/front/{number}"` for each of the others.

        Raises `ConfigError` where pandas is missing.
        """
        from nanonas.analysis.findings import Findings
        from nanonas.report.rows.frames import frame
        from nanonas.report.rows.tables import trained_front

        return frame(trained_front(Findings(self.record)))

    def report(self, out: str | Path | None = None) -> Path:
        """Writes the run's page, report.html, and returns its path.

        Args:
            out: the folder for it; None: the run's own.
        """
        from nanonas.report.writing import write_report

        return write_report(self._run, None if out is None else Path(out)).page

    def export(self, to: str | Path, candidate: int | None = None) -> Path:
        """Writes the best network as files that work without nanonas, each of them checked: PyTorch
        source, ONNX, int8, `torch.export`, a model card; see `nanonas export`.

        Args:
            to: the folder.
            candidate: the number of another network, such as one of the trained front.

        Returns:
            the folder.

        Raises:
            NanonasError: as `nanonas export`; also where a file does not do what the network does.
        """
        from nanonas.deploy.bundle import exported
        from nanonas.deploy.subject import subject_at

        return exported(subject_at(self._run.path, candidate), Path(to))

    def train(self, epochs: int = 100, *, quiet: bool = False) -> Result:
        """Trains the best network again, from the beginning and for so many epochs, on all but the
        test images, and tests it once more, which the run records.

        Raises:
            ConfigError: fewer than one epoch.
            NanonasError: as `nanonas train`.
        """
        from rich.console import Console

        from nanonas.config.schema import Config, RunConfig
        from nanonas.runs.origin import origin_of
        from nanonas.runs.source import fitting, open_source
        from nanonas.session import winner
        from nanonas.session.setup import Setup
        from nanonas.terminal.progress import TrainingProgress

        if epochs < 1:
            raise ConfigError(f"epochs must be 1 or more, but is {epochs}")
        source = fitting(open_source(self._run.path))
        winner.train(
            source.genome,
            self._run.final,
            Setup(Config(source.config, RunConfig()), source.images, origin=origin_of(self._run)),
            epochs=epochs,
            listener=TrainingProgress(Console(quiet=quiet)),
            opened=lambda: source.opened(f"train, {number_of(epochs, 'epoch')}"),
        )
        return Result(self.folder)

    def __str__(self) -> str:
        """What was searched and what came of it."""
        from nanonas.analysis.findings import Findings
        from nanonas.report.words.verdict import headline

        return "\n".join(headline(Findings(self.record)))

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from nanonas.analysis.findings import Findings
        from nanonas.report.charts.architecture import svg
        from nanonas.report.rows.frames import frame
        from nanonas.report.rows.tables import best
        from nanonas.report.words.verdict import headline

        findings = Findings(self.record)
        words = "".join(f"<p>{escape(sentence)}</p>" for sentence in headline(findings))
        winner = self.record.winner
        if winner is None:
            return words
        drawing = svg(self.record.network(winner.number), title="the network that was found")
        try:
            table = frame(best(findings)).to_html(index=False, na_rep="–")
        except ConfigError:  # without pandas
            table = ""
        return (
            f"{words}<div style='overflow-x: auto'>{drawing}</div>{table}"
            f"<p>kept in <code>{escape(str(self._run.path))}</code></p>"
        )
