"""Makes the table that `nanonas bench` answers from: 1,000 small networks, each trained three times
on digits.

    python benchmarks/make_table.py --workers 2        # writes nanonas/tables/nano_digits.npz
    python benchmarks/make_table.py --networks 30      # a quick look, into --out

The networks are lists of four operations of the space "nano", eight channels wide, distinct by
`Network.key`. They are trained by the package's own lines, on few images and for few epochs, so
that their accuracies lie apart, and validated after each epoch on half of the training images. The
test accuracy is a column of the table like any other: it says how good a search's choice really
was, and is never a fitness. One thread a process; seconds are CPU seconds, so that a busy machine
does not spoil them. Trainings that are done are kept in a scratch file, and an interrupted run goes
on there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from nanonas.core import Genome, training_seed
from nanonas.spaces.nano import NanoSpace

HERE = Path(__file__).parent
SPACE = NanoSpace((1, 8, 8), classes=10, channels=8, length=4)
TRAIN_IMAGES, VALID_SHARE, EPOCHS, SEEDS = 200, 0.5, 8, 3
RECIPE = {"batch_size": 40, "lr": 0.05}  # and Recipe's other defaults, in float32
DRAW = 2026  # of the networks and of the split


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=int, default=1000, help="how many distinct networks")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "nanonas" / "tables" / "nano_digits.npz"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        help="where what is done is kept; by default beside --out, until all is done",
    )
    given = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, which have not started yet
    genomes = draw(given.networks)
    scratch = given.scratch or given.out.with_suffix(".part.jsonl")
    done = read(scratch)
    jobs = [
        (genome, seed) for genome in genomes for seed in range(SEEDS) if (genome, seed) not in done
    ]
    start, trained = time.monotonic(), 0
    with scratch.open("a", encoding="utf-8") as file:
        for genome, seed, result in results(jobs, given.workers):
            done[genome, seed] = result
            file.write(
                json.dumps({"settings": settings(), "genome": genome, "seed": seed, **result})
                + "\n"
            )
            file.flush()
            trained += 1
            if trained % 30 == 0:
                left = (time.monotonic() - start) / trained * (len(jobs) - trained)
                print(
                    f"{trained} of {len(jobs)} trainings, {left / 60:.0f} min left",
                    file=sys.stderr,
                    flush=True,
                )
    write(given.out, genomes, done)
    if given.scratch is None:
        scratch.unlink()
    say(given.out)


def draw(number: int) -> list[Genome]:
    """The first `number` distinct networks of a stream of random genomes: more of them begin with
    fewer of them.
    """
    rng, found = np.random.default_rng(DRAW), dict[str, Genome]()
    for _ in range(100_000):  # 25 times as many as there are genomes: all of them, but for bad luck
        genome = SPACE.sample(rng)
        found.setdefault(SPACE.decode(genome).key, genome)
        if len(found) == number:
            return list(found.values())
    sys.exit(f"--networks must be at most {len(found):,}, for there are no more, but is {number:,}")


def results(
    jobs: list[tuple[Genome, int]], workers: int
) -> Iterator[tuple[Genome, int, dict[str, Any]]]:
    """Trainings as they finish, in any order."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train, *job): job for job in jobs}
        for future in as_completed(futures):
            yield *futures.pop(future), future.result()


def train(genome: Genome, seed: int) -> dict[str, Any]:
    """One training: losses and validation accuracies by epoch, the test accuracy after the last,
    CPU seconds.
    """
    from nanonas.training.modules import build_module
    from nanonas.training.recipe import Recipe
    from nanonas.training.train import Training, accuracy

    training_images, validation_images, test_images = images()
    network = SPACE.decode(genome)
    number = int(
        network.key[:8], 16
    )  # so that it does not depend on which networks there are besides
    start = time.process_time()
    module = build_module(network, training_seed(seed, number))
    recipe = Recipe(**RECIPE)  # type: ignore[arg-type]
    training = Training(module, training_images, recipe, EPOCHS, training_seed(seed, number))
    losses, accuracies = [], []
    for _ in range(EPOCHS):
        losses.append(training.run_epoch(lambda: True))
        accuracies.append(accuracy(module, validation_images))
    seconds = time.process_time() - start
    return {
        "loss": losses,
        "accuracy": accuracies,
        "test": accuracy(module, test_images),
        "seconds": seconds,
    }


@lru_cache(maxsize=1)
def images() -> tuple[Any, Any, Any]:
    """To train on, to judge by, and the test set, once a process."""
    import torch

    from nanonas.data.images import DataSpec
    from nanonas.training.device import prepare
    from nanonas.training.modules import build_module
    from nanonas.training.pictures import held_out_pictures, pictures
    from nanonas.training.recipe import Recipe
    from nanonas.training.train import Training

    prepare(1)
    spec = DataSpec("digits", valid_share=VALID_SHARE, train_images=TRAIN_IMAGES, seed=DRAW)
    train_images, valid_images = pictures(spec, "cpu")
    warm_up = build_module(
        SPACE.decode((0, 2, 4, 5)), 0
    )  # so that the first training's seconds are like the others'
    Training(warm_up, train_images, Recipe(**RECIPE), 1, 0).run_epoch(lambda: True)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return train_images, valid_images, held_out_pictures(spec, "cpu")


def settings() -> str:
    """Changes with whatever the trainings depend on, so that a scratch file never mixes two."""
    said = [asdict(SPACE), TRAIN_IMAGES, VALID_SHARE, EPOCHS, RECIPE, DRAW]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]


def read(scratch: Path) -> dict[tuple[Genome, int], dict[str, Any]]:
    """The trainings in a scratch file that were made with the same settings."""
    done = {}
    if scratch.exists():
        for line in scratch.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # cut by a power cut
            if row["settings"] == settings():
                done[tuple(row["genome"]), row["seed"]] = row
    return done


def write(
    path: Path, genomes: list[Genome], done: dict[tuple[Genome, int], dict[str, Any]]
) -> None:
    """The table, in the order in which the networks were drawn."""
    import torch

    rows = [[done[genome, seed] for seed in range(SEEDS)] for genome in genomes]
    networks = [SPACE.decode(genome) for genome in genomes]
    columns = {
        "genomes": np.array(genomes, dtype=np.uint8),  # (networks, length)
        "params": np.array([network.params for network in networks], dtype=np.uint32),
        "macs": np.array([network.macs for network in networks], dtype=np.uint32),
    }
    for name, column in (("loss", "train_loss"), ("accuracy", "val_acc"), ("test", "test_acc")):
        columns[column] = np.array(
            [[row[name] for row in seeds] for seeds in rows], dtype=np.float32
        )
    columns["train_seconds"] = np.array(
        [[row["seconds"] for row in seeds] for seeds in rows], dtype=np.float32
    )
    about = {
        "format": "nanonas-table-1",
        "space": "nano",
        "options": {"channels": SPACE.channels, "length": SPACE.length},
        "input_shape": SPACE.input_shape,
        "classes": SPACE.classes,
        "data": "digits",
        "training": {
            "train_images": TRAIN_IMAGES,
            "valid_share": VALID_SHARE,
            "epochs": EPOCHS,
            **RECIPE,
        },
        "seconds": f"CPU seconds of one core, {platform.machine()}, torch {torch.__version__}",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, about=np.array(json.dumps(about)), **columns)  # type: ignore[arg-type]


def say(path: Path) -> None:
    """What there is to look at: do the accuracies lie apart, by more than the seeds do?"""
    with np.load(path) as table:
        last, test = table["val_acc"][:, :, -1], table["test_acc"].mean(axis=1)
        print(f"{path}: {len(last)} networks, {path.stat().st_size / 1024:.0f} KiB")
        print(
            "validation, quantiles 0 10 50 90 100 %:",
            np.quantile(last.mean(axis=1), [0, 0.1, 0.5, 0.9, 1]).round(4),
        )
        print(
            f"seeds' standard deviation {last.std(axis=1, ddof=1).mean():.4f}; networks' "
            f"{last.mean(axis=1).std():.4f}"
        )
        print(f"test: median {np.median(test):.4f}, best {test.max():.4f}")
        print(f"one training: {table['train_seconds'].mean():.2f} CPU seconds")


if __name__ == "__main__":
    main()
