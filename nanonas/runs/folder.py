"""A run's folder: what lies where, the newest of many, its configuration.

outputs/best_genome.json        of the newest run
outputs/NAME/
    config.yaml                 as resolved
    study.db                    every candidate, evaluation and event
    weights/NUMBER.safetensors  of the best candidates, and of those that later ones may begin with
    best_genome.json            of the best candidate
    front/NUMBER.json           with several objectives: the genomes of the best trade-offs
    front/NUMBER/final/         such a network after its final training, as final/
    finalists/NUMBER.safetensors  the best few, trained once more, from scratch
    final/                      the winner after its final training: model.safetensors,
                                genome.json, result.json, predictions.npz, pictures.npz
    backbone.safetensors        weights of the frozen backbone, where it was found behind one
    experience.jsonl            what other runs had learnt, and this one began with
    ancestor/                   the trained network that all of this run's begin with, as final/
    requests/*.json             what a user has asked for and the search has not heard of yet
    broken_images.txt           with --skip-broken: the images that were passed over, and why
    log.txt
    report.html  figures/*.png  what was found, see nanonas.runs.reading
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from nanonas.analysis.record import searching
from nanonas.config.files import read_yaml, validated
from nanonas.config.schema import Config
from nanonas.data.backbone import WEIGHTS as BACKBONE
from nanonas.engine.storage.events import IMAGES, REQUEST_TAKEN, TEST_SET_OPENED, noted
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.files import sweep
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.text import command


@dataclass(frozen=True)
class RunFolder:
    """The places of everything in one run's folder."""

    path: Path

    @property
    def store(self) -> Path:
        return self.path / "study.db"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    @property
    def best_genome(self) -> Path:
        return self.path / "best_genome.json"

    @property
    def front(self) -> Path:
        return self.path / "front"

    @property
    def final(self) -> Path:
        return self.path / "final"

    def final_of(self, number: int) -> Path:
        """The place of a final training of a network of the front, which is not the winner."""
        return self.front / str(number) / self.final.name

    @property
    def finals_of_front(self) -> dict[int, Path]:
        """These places by number, of the networks that are on the front and were trained."""
        genomes = [path.stem for path in self.front.glob("*.json")]
        numbers = sorted(int(stem) for stem in genomes if stem.isdecimal())
        places = {number: self.final_of(number) for number in numbers}
        return {n: place for n, place in places.items() if (place / "result.json").exists()}

    @property
    def finalists(self) -> Path:
        return self.path / "finalists"

    @property
    def requests(self) -> Path:
        return self.path / "requests"

    @property
    def experience(self) -> Path:
        return self.path / "experience.jsonl"

    @property
    def ancestor(self) -> Path:
        return self.path / "ancestor"

    @property
    def backbone(self) -> Path:
        return self.path / BACKBONE

    @property
    def broken(self) -> Path:
        return self.path / "broken_images.txt"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def sweep(self) -> None:
        """Removes what a killed session was writing. For the one that writes the run now."""
        for place in (self.weights, self.finalists, self.front):
            sweep(place, all_of_them=True)
        sweep(self.path)  # another process may be writing a report here
        sweep(self.requests)  # or a request
        sweep(self.path.parent, f"{self.best_genome.name}.*")  # and there are other runs

    def remove(self) -> None:
        """Removes the files of a run that came to nothing, and its folder if that is empty then."""
        for path in (
            *self.path.glob("study.db*"),
            self.path / ".study.db.lock",
            self.config,
            self.broken,
            self.experience,
            *self.ancestor.glob("*"),
            self.backbone,
            self.log,
        ):
            path.unlink(missing_ok=True)
        for folder in (self.weights, self.requests, self.ancestor, self.path):
            with contextlib.suppress(OSError):  # not there, or not empty
                folder.rmdir()


def find(source: Path) -> RunFolder:
    """The run at `source`: its folder, or, for a folder of runs, its newest.

    Raises:
        RunError: there is none.
    """
    if RunFolder(source).store.exists():
        return RunFolder(source)
    runs = [path.parent for path in source.glob("*/study.db")] if source.is_dir() else []
    runs = [path for path in runs if not path.name.startswith(".")]  # copies that are being made
    if not runs:
        if source.is_file():
            raise RunError(
                f"{str(source)!r} is a file; name a run's folder, a folder of runs or a genome's "
                ".json"
            )
        run = RunFolder(source.parent.parent)
        if source.parent == run.front and source.name.isdigit() and run.store.exists():
            export = command("nanonas export", run.path, "--candidate", source.name, "--to …")
            raise RunError(
                f"{str(source)!r} is no network of the front that had a final training of its own; "
                f"the winner is {str(run.path)!r} itself, and `{export}` exports any other"
            )
        what = "holds no run" if source.exists() else "does not exist"
        raise RunError(
            f"{str(source)!r} {what}; begin a run with `{command('nanonas search --out', source)}`"
        )
    return RunFolder(max(runs, key=lambda path: (_created(path), path.name)))


def _created(path: Path) -> float:
    """When a run was begun; when its store was last changed, where that cannot be read."""
    store = RunFolder(path).store
    try:
        with RunStore.read(store) as opened:
            return opened.created
    except RunError:
        return store.stat().st_mtime if store.exists() else 0.0


def read_config(folder: RunFolder) -> Config:
    """The run's configuration: config.yaml, or what the store holds where that is gone.

    Raises `NanonasError`.
    """
    if folder.config.exists():
        return read_yaml(folder.config)
    with RunStore.read(folder.store) as store:
        return validated(store.config, str(folder.store))


def best_genome(run: RunFolder) -> GenomeFile:
    """The genome of a run's best network. Raises `RunError` where none is evaluated yet."""
    if not run.best_genome.exists():
        raise RunError(
            f"the run {str(run.path)!r} has no evaluated network yet; "
            f"`{command('nanonas resume', run.path)}` goes on"
        )
    return read_genome(run.best_genome)


def search_seconds(run: RunFolder) -> float:
    """Seconds that a run's search took, over all its sessions, its pauses left out."""
    with RunStore.read(run.store) as store:
        return searching(store.events(), store.arrival_clocks())[1]


def total_seconds(run: RunFolder, training: float) -> float:
    """Seconds from a run's begin to its winner's test, without pauses and the time between
    sessions. What other networks of its front take after that is not counted.

    Args:
        training: seconds of the winner's last training, which `nanonas train` may have done since.
    """
    with RunStore.read(run.store) as store:
        events, arrivals = store.events(), store.arrival_clocks()
    searched = searching(events, arrivals)[1]
    opened = [event for event in events if event.kind == TEST_SET_OPENED]
    # how the purposes begin of what looks at a winner once more, or at another network
    later = ("compare", "export", "front")
    winners = [one for one in opened if not str(one.details.get("for")).startswith(later)]
    if not winners or winners[-1].details.get("for") != "the winner":
        return searched + training
    with_pauses = searching([one for one in events if one.kind != REQUEST_TAKEN], arrivals)[1]
    return winners[-1].clock - events[0].clock - (with_pauses - searched)


def fingerprint_of(store: RunStore) -> str | None:
    """The fingerprint of the images that a run was begun with; None where its version kept none."""
    images = noted(store.events(), IMAGES)
    return None if images is None else images["fingerprint"]
