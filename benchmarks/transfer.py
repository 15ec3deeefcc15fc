"""What a trained network is worth to a problem with few images: begun with its weights, against
from scratch.

A small hand-made network is trained on one half of a data set's classes. Then, for each seed, a few
images of each class of the other half are drawn, and a network of the same kind is trained on them:
from scratch, with the weights of the first (`nanonas train --init-from`) at several learning rates
of the body, and with its body frozen. Differences are paired by seed, with 95 % intervals by
Student's t.

    python benchmarks/transfer.py --data cifar10

takes some minutes of one core. With `--search 60`, searches of so many seconds in all, final
training included, meet each other, too: from scratch, and with the first network as their ancestor
(`nanonas search --ancestor`). Each training opens the test images once, when it has ended.
With `--tune` the test images are left alone: training images that nobody trains on stand in for
them, so that defaults can be chosen. Trainings that have ended are only read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nanonas.commands.search import search
from nanonas.commands.train import train
from nanonas.config.schema import DataOptions
from nanonas.config.trainings import load_images
from nanonas.core import Integers
from nanonas.data.images import Images
from nanonas.files import write_text
from nanonas.machine import described
from nanonas.maths.intervals import mean_interval
from nanonas.networks.limits import Limits
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile
from nanonas.runs.reading import read_record
from nanonas.spaces.stages.space import StagesSpace

RESULT = Path(__file__).parent / "results" / "transfer.json"
SCRATCH, FROZEN = "from scratch", "frozen body"
SEARCHED = "search with an ancestor"
JUDGES = 400  # training images of each class that stand in for test images with --tune
ANCESTOR = "plain"


def halves(images: Images) -> tuple[list[int], list[int]]:
    """The classes of the first problem, and of the second."""
    middle = images.classes // 2
    return [*range(middle)], [*range(middle, images.classes)]


def write_problem(
    images: Images, classes: Sequence[int], path: Path, few: int | None, seed: int, tune: bool
) -> None:
    """Writes the images of some classes as .npz, unless they are there.

    Args:
        few: training images of each class, drawn by `seed`; None: all.
        tune: whether training images stand in for the test images.
    """
    if path.exists():
        return
    rng = np.random.default_rng(seed)
    train, judges = list[Integers](), list[Integers]()
    for label in classes:
        rows = rng.permutation(np.flatnonzero(images.y_train == label))
        apart = min(JUDGES, len(rows) // 2)
        train.append(rows[apart:][:few])
        judges.append(rows[:apart])
    rows, held_out = np.concatenate(train), np.concatenate(judges)
    tested = np.flatnonzero(np.isin(images.y_test, classes))
    x_test, y_test = images.x_test[tested], images.y_test[tested]
    if tune:
        x_test, y_test = images.x_train[held_out], images.y_train[held_out]
    np.savez(
        path,
        x_train=images.x_train[rows],
        y_train=np.searchsorted(classes, images.y_train[rows]),
        x_test=x_test,
        y_test=np.searchsorted(classes, y_test),
        class_names=np.array([images.class_names[label] for label in classes]),
    )


def write_network(path: Path, images: Images, classes: Sequence[int], given: Any) -> None:
    """The hand-made network, scaled to the limits, as a genome's file."""
    limits = Limits(max_params=given.max_params, max_macs=given.max_macs)
    space = StagesSpace(images.input_shape, len(classes), limits=limits)
    genome = space.ancestors()[ANCESTOR]
    names = tuple(images.class_names[label] for label in classes)
    GenomeFile(space.name, genome, images.input_shape, names).write(path)


def trained(folder: Path, *words: str | Path) -> dict[str, Any]:
    """The result of `nanonas train` with these arguments into a folder."""
    with contextlib.redirect_stdout(io.StringIO()):
        train([*map(str, words), "--out", str(folder), "--device", "cpu"])
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def searched(folder: Path, given: Any, *words: str | Path) -> dict[str, Any]:
    """The result of `nanonas search` with these arguments into a folder, of one worker."""
    limits = ["--max-params", str(given.max_params), "--max-macs", str(given.max_macs)]
    place = ["--out", str(folder.parent), "--name", folder.name, "--time", f"{given.search}s"]
    result = folder / "final" / "result.json"
    if not result.exists():
        with contextlib.redirect_stdout(io.StringIO()):
            search([*map(str, words), *limits, *place, "--workers", "1", "--device", "cpu"])
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return {**found, "candidates": len(read_record(RunFolder(folder)).trained)}


def of_searches(given: Any, images: Images) -> dict[str, list[dict[str, Any]]]:
    """The results of searches, one for each seed, by what they begin with."""
    work, second = given.folder, halves(images)[1]
    kind, found = "tune" if given.tune else "test", dict[str, list[dict[str, Any]]]()
    for name, words in ((SCRATCH, []), (SEARCHED, ["--ancestor", work / "source"])):
        found[name] = []
        for seed in range(given.seeds):
            data = work / f"{kind}-{given.few}-{seed}.npz"
            write_problem(images, second, data, given.few, seed, given.tune)
            place = work / f"{kind}-{given.few}-{seed}-search-{given.search}"
            about = ["--data", data, "--seed", str(seed)]
            found[name].append(searched(place / name.replace(" ", "-"), given, *words, *about))
        one = summed_up(found)[name]
        mean, half = one["mean"]
        shown = f"{100 * mean:5.1f} ± {100 * half:.1f} %, {one['candidates']:.0f} candidates"
        print(f"{given.search:4d} s of search, {name:23s} {shown}")
    return found


def measured(given: Any, images: Images) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The results of each way, one for each seed, by epochs."""
    work, (first, second) = given.folder, halves(images)
    work.mkdir(parents=True, exist_ok=True)
    source = work / "source"
    write_problem(images, first, work / "source.npz", None, 0, tune=True)
    write_network(work / "source.json", images, first, given)
    begun = ["--epochs", str(given.source_epochs), "--data", str(work / "source.npz")]
    start = time.perf_counter()
    accuracy = trained(source, work / "source.json", *begun)["test_accuracy"]
    print(f"the first half: {accuracy:.2%}, {time.perf_counter() - start:.0f} s")
    kind = "tune" if given.tune else "test"
    write_network(work / "target.json", images, second, given)
    ways: dict[str, list[str | Path]] = {SCRATCH: [work / "target.json"]}
    for factor in given.body_lr:
        ways[f"body at {factor:g}"] = ["--init-from", source, "--body-lr", str(factor)]
    ways[FROZEN] = ["--init-from", source, "--freeze-body"]
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for epochs in given.epochs:
        for name, words in ways.items():
            results = []
            for seed in range(given.seeds):
                data = work / f"{kind}-{given.few}-{seed}.npz"
                write_problem(images, second, data, given.few, seed, given.tune)
                place = work / f"{kind}-{given.few}-{seed}-{epochs}" / name.replace(" ", "-")
                about = ["--data", data, "--seed", str(seed), "--epochs", str(epochs)]
                results.append(trained(place, *words, *about))
            found.setdefault(f"{epochs} epochs", {})[name] = results
            one = summed_up(found[f"{epochs} epochs"])[name]
            intervals = one["mean"], one["minus_scratch"]
            shown = [f"{100 * mean:5.1f} ± {100 * half:.1f}" for mean, half in intervals]
            print(f"{epochs:4d} epochs, {name:14s} {shown[0]} %, against scratch {shown[1]}")
    return found


def summed_up(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Of each way: the accuracies, seed by seed; their mean and that of the difference, each
    with half the width of its interval; how long a training took, of a search the final one; and
    how many candidates searches tried, on average.
    """
    scratch = np.array([one["test_accuracy"] for one in results[SCRATCH]])
    found = {}
    for name, each in results.items():
        accuracies = np.array([one["test_accuracy"] for one in each])
        pairs = [list(accuracies), list(accuracies - scratch)]
        found[name] = {
            "accuracies": list(accuracies),
            "mean": mean_interval(pairs[0]),
            "minus_scratch": mean_interval(pairs[1]),
            "seconds": float(np.mean([one["seconds"] for one in each])),
        }
        if "candidates" in each[0]:
            found[name]["candidates"] = float(np.mean([one["candidates"] for one in each]))
    return found


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--few", type=int, default=20, help="images of each class")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, nargs="+", default=[100], help="on the few images")
    parser.add_argument("--source-epochs", type=int, default=8)
    parser.add_argument("--body-lr", type=float, nargs="+", default=[0.3])
    parser.add_argument("--search", type=int, default=0, help="seconds of a search; 0: none")
    parser.add_argument("--max-params", type=int, default=60_000)
    parser.add_argument("--max-macs", type=int, default=3_000_000)
    parser.add_argument("--tune", action="store_true", help="leave the test images alone")
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/transfer"), help="for images and trainings"
    )
    parser.add_argument("--out", type=Path, default=RESULT, help="nothing is written with --tune")
    given = parser.parse_args(arguments)
    images = load_images(DataOptions(data=given.data))
    found = measured(given, images)
    if given.search:
        found[f"{given.search} s of search"] = of_searches(given, images)
    if given.tune:
        return
    flags = {"folder", "out", "tune", "data"}
    result = {
        "command": "python benchmarks/transfer.py --data cifar10",
        "settings": {name: value for name, value in vars(given).items() if name not in flags},
        "data": images.name,
        "machine": described(),
        "torch": torch.__version__,
        "results": {epochs: summed_up(values) for epochs, values in found.items()},
    }
    write_text(given.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
