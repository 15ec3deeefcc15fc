"""Which recipe trains small networks best in a short time: an ablation, one switch at a time, at
equal seconds of one core.

Each network is trained by each variant of the recipe for the same CPU seconds, with one thread, on
four fifths of the training images; accuracies are those on the last fifth, split class by class.
The test set is never opened. The speed of each variant on each network is measured first, and sets
the number of epochs, a fraction included; what a training took is reported. Differences from a
variant's base are paired by network and seed, with 95 % intervals by Student's t.

    python benchmarks/recipe.py                          # most of a day on one core
    python benchmarks/recipe.py --seconds 90 --seeds 2 --variants base muon

Trainings that are in --out already are not repeated, so a benchmark that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loguru import logger
from throughput import surroundings

from nanonas.config.files import RECIPE_BEFORE
from nanonas.config.schema import TrainingOptions
from nanonas.core import Shape, training_seed
from nanonas.data.images import DataSpec
from nanonas.maths.intervals import mean_interval
from nanonas.networks.network import Network
from nanonas.networks.reference import REFERENCES
from nanonas.session.setup import make_recipe
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.beginning import fresh_module
from nanonas.training.device import prepare
from nanonas.training.measuring.pace import pace_of
from nanonas.training.pictures import Pictures, pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training, accuracy

RESULT = Path(__file__).parent / "results" / "recipe.jsonl"

# Networks that searches found: two on CIFAR-10 in half an hour (`results/cifar10.json`), and that
# of `notebooks/example_run`, on digits; here for images of another size.
FOUND = {
    "found_214k": """
        0 2 1 0 1 0 1 0 1 0 1 3 3 1 0 1 0 0 0 2 0 0 0 2 1 0 1 0 0 0 2 0 0 3 4 1 0 1 0 1 0 1
        0 0 0 2 1 0 1 0 0 1 2 0 0 3 5 1 0 4 0 0 0 1 0 1 1 3 1 0 5 0 1 0 2 0 0 0 4 1 0 1 1 0
        1 1 0 0 3 3 1 0 3 1 0 2 1 0 1 2 1 1 0 1 1 0 3 3 0 0 0 6 1 0 1 1 0 0 2 0 0 3 2 1 0 3
        1 0 0 1 0 0 0 6 0 0 1 1 1 0 3 0 1 3 2 1 0 1 0 1 1 0 0 0 1 3 1 0 1 0 1 1 0 0 1 0 8 1
        0 1 0 0 1 1 0 0 3 5 1 0 4 0 1 1 2 5 0
    """,
    "found_149k": """
        0 1 1 0 5 0 0 1 2 0 0 0 1 1 0 5 0 1 0 2 0 0 3 3 2 0 1 0 0 1 1 0 0 1 3 1 0 1 0 0 2 1
        0 0 0 2 0 0 5 1 0 0 1 0 1 3 3 1 0 1 0 0 0 1 0 1 0 2 1 0 5 0 0 2 2 0 0 3 0 1 0 5 0 0
        0 0 2 0 0 3 1 1 5 0 0 3 2 0 0 3 6 1 0 4 0 0 0 1 0 0 0 3 1 0 5 0 0 0 0 0 0 3 3 1 0 1
        0 0 0 3 4 0 0 5 1 1 5 0 1 1 1 3 0 3 5 1 0 1 0 0 0 2 0 0 0 5 2 0 5 0 0 0 0 0 0
    """,
    "found_on_digits": """
        0 2 1 0 1 0 0 1 0 0 0 3 1 1 0 5 0 1 2 3 0 0 0 2 1 0 1 0 1 2 3 0 0 3 4 1 0 2 0 0 0 1
        0 0 4 3 1 0 1 0 0 0 2 0 1 0 2 1 0 1 0 0 2 2 0 0 3 5 1 0 3 0 0 1 1 0 0 0 2 1 0 1 0 1
        1 2 0 0 1 3 1 0 3 0 1 0 1 8 0 0 3 1 0 1 0 1 0 3 0 0 3 1 1 0 1 0 0 0 1 2 0 0 3 1 0 1
        0 1 2 2 0 0 3 3 1 0 1 0 0 1 0 2 0
    """,
}
BY_HAND = ("plain_242k", "residual_247k", "residual_96k", "resnet20")
ANCESTORS = ("double", "airbench")  # two that a search begins with; 250,000 parameters


@dataclass(frozen=True)
class Variant:
    """A recipe as what it changes of another one."""

    base: str | None  # what it is compared with
    changes: Mapping[str, Any]  # keys of the configuration


FIRST = {**RECIPE_BEFORE, "batch_size": 128, "lr": 0.3, "warmup": 0.2}
VARIANTS = {
    "base": Variant(None, FIRST),
    "linear": Variant("base", {"schedule": "linear"}),
    "muon": Variant("base", {"optimizer": "muon", "schedule": "linear", "lr": 0.1, "warmup": 0.1}),
    "muon, cosine": Variant("muon", {"schedule": "cosine"}),
    "muon, batch 256": Variant("muon", {"batch_size": 256}),
    "muon, lr 0.3": Variant("muon", {"lr": 0.3}),
    "muon, rate 0.04": Variant("muon", {"muon_lr": 0.04}),
    "muon, alternate flip": Variant("muon", {"alternate_flip": True}),
    "muon, small images": Variant("muon", {"small_images": 0.5}),
    "muon, small and alternate": Variant(
        "muon, lr 0.3", {"small_images": 0.5, "alternate_flip": True}
    ),
    "muon, crop 2": Variant("muon", {"crop": 2}),
    "muon, whiten": Variant("muon", {"whiten": True}),
    "muon, dirac": Variant("muon", {"dirac": True}),
    "muon, average": Variant("muon", {"average": 0.99}),
    "muon, biases 16 times": Variant("muon", {"bias_lr": 16.0}),
    # what searches do now, and what could be better in long trainings
    "default": Variant(None, {}),
    "default, batch 256": Variant("default", {"batch_size": 256}),
    "default, rate 0.04": Variant("default", {"muon_lr": 0.04}),
    "default, rate 0.09": Variant("default", {"muon_lr": 0.09}),
    "default, batch 256, rate 0.09": Variant(
        "default, batch 256", {"batch_size": 256, "muon_lr": 0.09}
    ),
    "default, smoothing 0.05": Variant("default", {"label_smoothing": 0.05}),
    "default, no smoothing": Variant("default", {"label_smoothing": 0.0}),
    "default, decay 0.002": Variant("default", {"weight_decay": 0.002}),
}


def options(variant: str) -> TrainingOptions:
    """The recipe of a variant as a configuration has it."""
    base = VARIANTS[variant].base
    return replace(
        TrainingOptions() if base is None else options(base), **VARIANTS[variant].changes
    )


def network(name: str, shape: Shape, classes: int) -> Network:
    """A network by its name in `BY_HAND`, `ANCESTORS` or `FOUND`."""
    if name in REFERENCES:
        return REFERENCES[name](shape, classes)
    if name in ANCESTORS:
        space = StagesSpace(shape, classes)
        return space.decode(space.ancestors()[name])
    genome = tuple(int(gene) for gene in FOUND[name].split())
    return LayersSpace(shape, classes).decode(genome)


def trained(
    made: Network, recipe: Recipe, seed: int, seconds: float, train: Pictures, valid: Pictures
) -> dict[str, Any]:
    """One training of so many CPU seconds, and what came of it."""
    module = fresh_module(made, seed, train, recipe)
    training = Training(module, train, recipe, 1, seed)
    pace = pace_of(training, min(4.0, seconds / 10), time.process_time).mean
    training.epochs = seconds / pace
    start, loss = time.process_time(), None
    while training.epoch < training.epochs:
        loss = training.run_epoch(lambda: True)
    spent = time.process_time() - start
    return {
        "accuracy": accuracy(training.result, valid, recipe.precision),
        "train_loss": loss,
        "epochs": round(training.epochs, 3),
        "cpu_seconds": round(spent, 2),
        "images_per_second": round(training.epochs * len(train) / spent, 1),
    }


# --- what is there already ------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A file of JSON lines: what the trainings were made on and with, then one for each of them."""

    path: Path

    def read(self, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The trainings that are there. Raises SystemExit where they had other settings."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        kept = [json.loads(line) for line in lines]
        for row in kept:
            if "settings" in row and row["settings"] != settings:
                raise SystemExit(
                    f"{self.path} has trainings with other settings, {row['settings']}: take "
                    "another --out"
                )
        return [row for row in kept if "variant" in row]

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


# --- what it says ---------------------------------------------------------------------------------


def differences(rows: Sequence[Mapping[str, Any]], variant: str) -> list[float]:
    """Accuracies of a variant minus those of its base, in points: by network and seed."""
    by_key = {(row["variant"], row["network"], row["seed"]): row["accuracy"] for row in rows}
    base = VARIANTS[variant].base
    return [
        100 * (value - by_key[base, made, seed])
        for (name, made, seed), value in by_key.items()
        if name == variant and base is not None and (base, made, seed) in by_key
    ]


def printed(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of the variants, and a sentence for each that has a base."""
    print("\n| variant | against | trainings | accuracy | points, 95 % | images/s | CPU seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    sentences = []
    for variant in VARIANTS:
        own = [row for row in rows if row["variant"] == variant]
        if not own:
            continue
        gains = differences(rows, variant)
        means = [
            sum(row[key] for row in own) / len(own)
            for key in ("accuracy", "images_per_second", "cpu_seconds")
        ]
        gain = "" if len(gains) < 2 else "{:+.2f} ± {:.2f}".format(*mean_interval(gains))
        print(
            f"| {variant} | {VARIANTS[variant].base or ''} | {len(own)} | {100 * means[0]:.2f} % | "
            f"{gain} | {means[1]:,.0f} | {means[2]:.1f} |"
        )
        if gain:
            sentences.append(sentence(variant, gains))
    print("\n" + "\n".join(sentences))


def sentence(variant: str, gains: Sequence[float]) -> str:
    """What the differences from its base say of a variant."""
    mean, half = mean_interval(gains)
    said = "makes no difference that could be seen"
    if abs(mean) > half:
        said = "helps" if mean > 0 else "hurts"
    base = VARIANTS[variant].base
    return (
        f"{variant!r} {said} against {base!r}: {mean:+.2f} ± {half:.2f} points over "
        f"{len(gains)} pairs."
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--train-images", type=int, help="of all; by default four fifths")
    parser.add_argument("--seconds", type=float, default=180.0, help="of CPU, for each training")
    parser.add_argument("--seeds", type=int, default=3)
    known = [*BY_HAND, *ANCESTORS, *FOUND]
    parser.add_argument(
        "--networks", nargs="+", default=known, choices=[*REFERENCES, *ANCESTORS, *FOUND]
    )
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    logger.remove()
    prepare(1)
    spec = DataSpec(given.data, valid_share=0.2, train_images=given.train_images)
    images = spec.load()
    train, valid = pictures(spec, "cpu")
    settings = {
        "data": images.fingerprint,
        "train_images": len(train),
        "valid_images": len(valid),
        "seconds": given.seconds,
    }
    rows = Rows(given.out)
    done = rows.read(settings)
    command = shlex.join(["python", "benchmarks/recipe.py", *arguments])
    rows.add({"command": command, **surroundings(), "settings": settings})
    there = {(row["variant"], row["network"], row["seed"]) for row in done}
    for seed in range(given.seeds):
        for name in given.networks:
            made = network(name, images.input_shape, images.classes)
            for variant in given.variants:  # next to each other: machines have moods
                if (variant, name, seed) in there:
                    continue
                recipe = make_recipe(options(variant), images, "cpu")
                result = trained(made, recipe, training_seed(seed, 0), given.seconds, train, valid)
                about = {"params": made.params, "macs": made.macs, "recipe": recipe.identity}
                row = {"variant": variant, "network": name, "seed": seed, **result, **about}
                rows.add(row)
                done.append(row)
                print(
                    f"{name}, {variant}, seed {seed}: {100 * row['accuracy']:.2f} % after "
                    f"{row['epochs']:.1f} epochs, {row['cpu_seconds']:.0f} CPU s",
                    flush=True,
                )
    printed(done)


if __name__ == "__main__":
    main(sys.argv[1:])
