"""The command line: one command, a few verbs. Arguments are checked before anything heavy is imported."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from loguru import logger
from rich.console import Console
from rich.markup import escape
from tyro.conf import OmitArgPrefixes, Positional

from nanonas.config import Config, RunConfig, SearchConfig, nearest, read_yaml, seconds, to_values, validated
from nanonas.engine.serial import reason_for
from nanonas.errors import ConfigError, NanonasError

if TYPE_CHECKING:
    from nanonas.folder import RunFolder
    from nanonas.runs import Outcome
    from nanonas.training.final import FinalResult


@dataclass(frozen=True)
class Search:
    """Finds a network: evolution proposes, workers train, the best is trained for good and tested once."""

    config: Path | None = None
    """A YAML file with any of the values below; flags win over it. See configs/."""
    search: OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Plan:
    """Says what a search will take here: time, memory, disk. Times three networks; takes what search takes."""

    config: Path | None = None
    """A YAML file with any of the values below; flags win over it. See configs/."""
    search: OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Resume:
    """Goes on with a run that was interrupted, or extends one that has ended."""

    folder: Positional[Path] = Path("outputs")
    """The run's folder; a folder of runs means its newest."""
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Train:
    """Trains a network for good, on training and validation images, and tests it once. Interrupted, it goes on."""

    source: Positional[Path] = Path("outputs")
    """A run's folder (its best network), a folder of runs (its newest), or a genome's JSON file."""
    epochs: int = 100
    """Passes over the images."""
    seed: int = 0
    """Of weights, order and augmentation."""
    lr: float | None = None
    """Learning rate at the top of its cycle; by default the search's."""
    data: str | None = None
    """The images; by default those that the network was found on."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    out: Path | None = None
    """The folder for the trained network; by default RUN/final, or beside the genome's file."""


@dataclass(frozen=True)
class Compare:
    """Trains the found network, ResNet-18, a plain baseline and random networks with one recipe, and tests each."""

    source: Positional[Path] = Path("outputs")
    """A run's folder (its best network), a folder of runs (its newest), or a genome's JSON file."""
    epochs: int = 20
    """Passes over the images, for every network."""
    time_per_network: str | None = None
    """At most so long for each network and seed: 10m, 1h. What would take longer gets fewer epochs."""
    seeds: int = 3
    """Trainings of each network."""
    random: int = 3
    """How many random networks of the space take part."""
    data: str | None = None
    """The images; by default those that the network was found on."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True)
class Bench:
    """Compares strategies on a table of trained networks: how many queries until the best one, and at what regret."""

    table: Path | None = None
    """An .npz of benchmarks/make_table.py, or NAS-Bench-201 as parquet; by default 1,000 small networks on digits."""
    strategies: tuple[str, ...] = ()
    """Which ones; by default all, and optuna-tpe and optuna-random where Optuna is installed."""
    seeds: int = 10
    """Runs of each strategy."""
    queries: int = 150
    """Networks that a run may ask for."""
    objective: str | None = None
    """What a query answers: val_acc, val_acc_trial (one training, at random); val_acc_200ep, val_acc_200ep_trial or
    val_acc_12ep of NAS-Bench-201; by default the first that the table has."""
    workers: int | None = None
    """Processes; by default one a core."""
    population: int = 30
    """Members of a generation."""
    out: Path = Path("bench")
    """The folder for bench.json and regret.png."""


@dataclass(frozen=True)
class Show:
    """Says what a run has found, or what a genome's file holds."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, a folder of runs (its newest), or a genome's JSON file."""
    top: int = 5
    """How many of the best networks."""


@dataclass(frozen=True)
class Dashboard:
    """Shows a run in the browser, live while its search goes on, and steers it. Ctrl-C ends the page alone."""

    folder: Positional[Path] = Path("outputs")
    """The run's folder; a folder of runs means its newest."""
    port: int = 8050
    """Where it listens; 0: any port that is free."""
    host: str = "127.0.0.1"
    """The address it listens at. With another one than 127.0.0.1, whoever can reach it can see and steer the run."""


@dataclass(frozen=True)
class Control:
    """Asks a search that goes on to pause, to resume, to ban or allow an operation, or to try a genome."""

    folder: Positional[Path]
    """The run's folder; a folder of runs means its newest."""
    what: Positional[Literal["pause", "resume", "ban", "allow", "plant"]]
    """pause begins no further network, resume goes on; the others take one more word."""
    word: Positional[str | None] = None
    """ban and allow: an operation, such as conv5x5; plant: a genome's JSON file, or its numbers, such as 0,1,2,3."""


@dataclass(frozen=True)
class Report:
    """Writes what a run has found as one page that opens anywhere, report.html, and its figures as PNG."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, or a folder of runs (its newest)."""
    out: Path | None = None
    """The folder for report.html and figures/; by default the run's own."""
    png: bool = True
    """Draw the PNG figures, too, where matplotlib is installed."""


@dataclass(frozen=True)
class Spaces:
    """Lists the search spaces and what they are made of."""


# --- the verbs --------------------------------------------------------------------------------------------------------


def search(arguments: Sequence[str]) -> None:
    """nanonas search"""
    config = _configured(Search, "search", arguments)

    from nanonas import runs

    _report(runs.begin(config))


def plan(arguments: Sequence[str]) -> None:
    """nanonas plan"""
    config = _configured(Plan, "plan", arguments)

    from nanonas import plan

    Console().print(plan.in_words(plan.plan(config)))


def resume(arguments: Sequence[str]) -> None:
    """nanonas resume"""
    from nanonas import runs
    from nanonas.folder import find, read_config

    folder = _parse(Resume, "resume", arguments).folder
    stored = read_config(find(folder)).run  # the defaults of the flags: so it is parsed a second time
    parsed = _parse(Resume, "resume", arguments, Resume(folder, stored))
    if (parsed.run.out, parsed.run.name) != (stored.out, stored.name):
        raise ConfigError("--out and --name are of a new run, but resume goes on with one where it is; leave them out")
    run = validated(to_values(Config(run=parsed.run)), "the command line").run
    more_time = any(word.split("=")[0] == "--time" for word in arguments)
    _report(runs.resume(parsed.folder, run, more_time=more_time))


def train(arguments: Sequence[str]) -> None:
    """nanonas train"""
    given = _parse(Train, "train", arguments)
    _at_least(1, epochs=given.epochs)
    _at_least(0, seed=given.seed)
    if given.lr is not None and not 0 < given.lr <= 100:
        raise ConfigError(f"--lr must be above 0 and at most 100, but is {given.lr}")

    from nanonas import winner
    from nanonas.folder import fitting, open_source
    from nanonas.results.progress import TrainingProgress

    source = fitting(open_source(given.source, given.data))
    folder = given.out or source.folder / "final"
    console = Console()
    with TrainingProgress(console, "training") as progress:
        result = winner.train(
            source.genome,
            folder,
            replace(source.config, seed=given.seed, lr=given.lr or source.config.lr),
            device=given.device,
            epochs=given.epochs,
            progress=progress,
            opened=lambda: source.opened(f"train, {given.epochs} epochs, seed {given.seed}"),
        )
    _say_final(console, result, folder)


def compare(arguments: Sequence[str]) -> None:
    """nanonas compare"""
    given = _parse(Compare, "compare", arguments)
    _at_least(1, epochs=given.epochs, seeds=given.seeds)
    _at_least(0, random=given.random)
    limit = None if given.time_per_network is None else seconds(given.time_per_network, "--time-per-network")

    from nanonas.compare import Comparison
    from nanonas.folder import fitting, open_source

    Comparison(
        fitting(open_source(given.source, given.data)),
        epochs=given.epochs,
        seconds_per_network=limit,
        seeds=given.seeds,
        random=given.random,
        device=given.device,
        console=Console(),
    ).run()


def bench(arguments: Sequence[str]) -> None:
    """nanonas bench"""
    given = _parse(Bench, "bench", arguments)
    _at_least(1, seeds=given.seeds, queries=given.queries)
    _at_least(2, population=given.population)
    if given.workers is not None:
        _at_least(1, workers=given.workers)

    from nanonas import bench

    bench.Bench(**vars(given), console=Console()).run()


def show(arguments: Sequence[str]) -> None:
    """nanonas show"""
    given = _parse(Show, "show", arguments)
    _at_least(1, top=given.top)

    from nanonas.engine.store import RunStore
    from nanonas.folder import open_source
    from nanonas.report import read_record
    from nanonas.results import tables
    from nanonas.training.final import read_result

    console = Console()
    source = open_source(given.source)
    if source.run is not None:
        with RunStore.read(source.run.store) as store:
            console.print(f"[bold]{escape(str(source.run.path))}[/bold]")
            console.print(tables.summary(store) + "\n", markup=False, highlight=False, soft_wrap=True)
            console.print(tables.fitness(read_record(source.run)))
            console.print()
            console.print(tables.best_table(store, given.top))
            if (audit := tables.audit_table(store)).row_count:
                console.print(
                    "\n[bold]what ordered the networks before they were trained[/bold]: Kendall's τ, 95 %",
                    highlight=False,
                )
                console.print(audit)
            if (said := tables.inheritance(store)) is not None:
                console.print(f"\n[bold]inheritance[/bold]: {said}", highlight=False, soft_wrap=True)
        _say_front(console, source.run)
    console.print("\n[bold]the best network[/bold]")
    console.print(tables.architecture(source.genome.make_space(), source.genome.genome))
    console.print(tables.architecture_tree(source.genome.network(), "\nlayer by layer"))
    if source.run is not None and (result := read_result(source.run.final)):
        _say_final(console, result, source.run.final)


def dashboard(arguments: Sequence[str]) -> None:
    """nanonas dashboard"""
    given = _parse(Dashboard, "dashboard", arguments)
    if not 0 <= given.port <= 65_535:
        raise ConfigError(f"--port must lie in [0, 65535], but is {given.port}")

    from nanonas.dashboard import serve
    from nanonas.folder import find

    console = Console()

    def say(words: str) -> None:
        console.print(words, markup=False, highlight=False, soft_wrap=True)

    serve(find(given.folder), given.host, given.port, say)


def control(arguments: Sequence[str]) -> None:
    """nanonas control"""
    given = _parse(Control, "control", arguments)

    from nanonas.control import ask, genome_in, genome_of
    from nanonas.engine.requests import ALLOW, BAN, PLANT, Request
    from nanonas.folder import find, read_config
    from nanonas.genome import read_genome

    run, word = find(given.folder), given.word
    if (word is None) != (given.what not in (BAN, ALLOW, PLANT)):
        takes = "takes one more word" if word is None else f"takes no further word, but was given {word!r}"
        raise ConfigError(f"control {given.what} {takes}; see `nanonas control --help`")
    if given.what == PLANT:
        search = read_config(run).search
        named = Path(word).suffix == ".json"
        genome = genome_of(read_genome(Path(word)), search) if named else genome_in(word, search)
        request = Request(PLANT, genome=genome)
    else:
        request = Request(given.what, operation=word)
    Console().print(ask(run, request), markup=False, highlight=False, soft_wrap=True)


def report(arguments: Sequence[str]) -> None:
    """nanonas report"""
    given = _parse(Report, "report", arguments)

    from nanonas.folder import find
    from nanonas.report import write_report

    written = write_report(find(given.source), given.out, given.png)
    console = Console()
    console.print(str(written.page), markup=False, highlight=False, soft_wrap=True)
    if written.pictures:
        said = f"{written.pictures[0].parent}: {len(written.pictures)} figures"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    elif given.png:
        console.print("the figures as PNG need matplotlib: pip install 'nanonas\\[plots]'", highlight=False)


def spaces(arguments: Sequence[str]) -> None:
    """nanonas spaces"""
    _parse(Spaces, "spaces", arguments)

    from nanonas.config import SPACES
    from nanonas.spaces.operations import known_operations

    console = Console()
    for name, entry in SPACES.items():
        space = entry.make(SearchConfig(), (3, 32, 32), 10)
        what = (sys.modules[type(space).__module__].__doc__ or "").splitlines()[0]
        console.print(f"[bold]{name}[/bold]  {what}", highlight=False, soft_wrap=True)
        for decision, options in getattr(space, "options", dict)().items():
            console.print(f"  {decision:<12} {', '.join(map(str, options))}", highlight=False, soft_wrap=True)
        names = ", ".join(known_operations(space))
        console.print(f"  [dim]to ban: {names}[/dim]", highlight=False, soft_wrap=True)


VERBS: dict[str, tuple[Callable[[Sequence[str]], None], type]] = {
    "search": (search, Search),
    "plan": (plan, Plan),
    "resume": (resume, Resume),
    "train": (train, Train),
    "compare": (compare, Compare),
    "bench": (bench, Bench),
    "show": (show, Show),
    "dashboard": (dashboard, Dashboard),
    "control": (control, Control),
    "report": (report, Report),
    "spaces": (spaces, Spaces),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `nanonas`. Returns the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return 0
    if given[0] == "--version":
        import nanonas

        print(f"nanonas {nanonas.__version__}")
        return 0
    logger.remove()  # a run has a log of its own; here only what is said of the images is shown
    logger.add(sys.stderr, format="{message}", filter={"": "WARNING", "nanonas.training": "INFO"})
    try:
        if given[0] not in VERBS:
            raise ConfigError(f"{given[0]!r} is no verb of nanonas{nearest(given[0], list(VERBS))}")
        VERBS[given[0]][0](given[1:])
    except NanonasError as error:
        print(f"nanonas: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"{error.filename!r}: {error.strerror}" if error.filename else error.strerror or error
        print(f"nanonas: {what}; nothing that was stored is lost", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        if not (reason := reason_for(error)).startswith("out of memory"):
            raise
        print(f"nanonas: {reason}; a smaller --batch-size or --image-size needs less", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"\nstopped; {str(stopped) or 'the same command begins again, or goes on'}", file=sys.stderr)
        return 130
    return 0


def _help() -> str:
    lines = ["Give it images and a budget; get back a small, accurate CNN.", ""]
    lines += [f"  nanonas {name:<9} {(cls.__doc__ or '').splitlines()[0]}" for name, (_, cls) in VERBS.items()]
    return "\n".join([*lines, "", "`nanonas VERB --help` lists what a verb can be told."])


# --- what they say ----------------------------------------------------------------------------------------------------


def _report(outcome: Outcome) -> None:
    from nanonas.engine.store import RunStore
    from nanonas.report import write_at_end
    from nanonas.results import tables
    from nanonas.results.progress import best_line

    console = Console()
    run = escape(str(outcome.folder.path))
    console.print(f"\n{outcome.end.message}; the best of the search, by validation accuracy:", highlight=False)
    console.print(f"  {best_line(outcome.best, outcome.evaluation)}", highlight=False, soft_wrap=True)
    console.print(tables.architecture(outcome.space, outcome.best.proposal.genome))
    with RunStore.read(outcome.folder.store) as store:
        said = tables.inheritance(store)
    if said is not None:
        console.print(f"\n{said}", highlight=False, soft_wrap=True)
    _say_front(console, outcome.folder)
    if outcome.final is not None:
        _say_final(console, outcome.final, outcome.folder.final)
    page = write_at_end(outcome.folder)
    console.print(f"\nkept in {run}; next:", highlight=False, soft_wrap=True)
    if page is not None:
        said = f"  [bold]{escape(str(page))}[/bold]  [dim]what was found, how, and whether to believe it[/dim]"
        console.print(said, highlight=False, soft_wrap=True)
    for command, what in (
        (f"nanonas show {run}", "what was found"),
        (f"nanonas train {run} --epochs 100", "train it longer"),
        (f"nanonas compare {run}", "against ResNet-18, a plain CNN and random networks"),
        (f'python -c "import nanonas; model = nanonas.load({str(run)!r})"', "the module"),
    ):
        console.print(f"  [bold]{command}[/bold]  [dim]{what}[/dim]", highlight=False, soft_wrap=True)


def _say_front(console: Console, folder: RunFolder) -> None:
    from nanonas.config import make_objectives
    from nanonas.engine.store import RunStore
    from nanonas.folder import read_config
    from nanonas.results import tables

    objectives = make_objectives(read_config(folder).search)
    if len(objectives) == 1:
        return
    names = " and ".join(objective.name for objective in objectives)
    console.print(f"\n[bold]the front[/bold]: the best trade-offs of {names}", highlight=False)
    with RunStore.read(folder.store) as store:
        console.print(tables.front_table(store, objectives))
    console.print(
        f"  each is a genome's file: nanonas train {escape(str(folder.front))}/NUMBER.json",
        highlight=False,
        soft_wrap=True,
    )


def _say_final(console: Console, result: FinalResult, folder: Path) -> None:
    from nanonas.results.text import count, duration

    console.print(
        f"\n[bold green]test accuracy {result.test_accuracy:.2%}[/bold green] on {result.test_images:,} images that "
        f"nothing was chosen by; {count(result.params)} parameters, {count(result.macs)} MACs, "
        f"{result.latency_ms:.2f} ms an image; trained for {result.epochs} epochs in {duration(result.seconds)} "
        f"on {result.hardware}, seed {result.seed}\n  {escape(str(folder / 'model.safetensors'))}",
        highlight=False,
        soft_wrap=True,
    )


# --- arguments --------------------------------------------------------------------------------------------------------


def _parse(cls: type[Any], verb: str, arguments: Sequence[str], default: Any = None) -> Any:
    """The verb's arguments. Prints help, and ends, where that is asked for; raises `ConfigError` for what is wrong."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, prog=f"nanonas {verb}", description=cls.__doc__, args=list(arguments), default=default)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(_sentence(complaint.getvalue())) from None


def _configured(cls: type[Search] | type[Plan], verb: str, arguments: Sequence[str]) -> Config:
    """The configuration of a new search, from --config and flags."""
    given = _config_file(arguments)
    defaults = Config() if given is None else read_yaml(given)
    parsed = _parse(cls, verb, arguments, cls(given, defaults.search, defaults.run))
    return validated(to_values(Config(parsed.search, parsed.run)), "the command line")


def _sentence(box: str) -> str:
    """What tyro says in a box, as one line."""
    lines = [line.strip("╭╮╰╯│─ ") for line in box.splitlines()[1:]]
    return " ".join(line for line in lines if line)


def _config_file(arguments: Sequence[str]) -> Path | None:
    """The value of --config, read before the rest: its values are the defaults of all other flags."""
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return None


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"--{name} must be {least} or more, but is {value}")
