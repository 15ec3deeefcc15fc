"""Training images per second on this machine's CPU: nanonas against the loop everybody writes.

What is measured: the same four networks (`NETWORKS`), trained by

- nanonas, as a search does it: one process a core with one thread each, all busy at once, each with
its own copy of
  the network; `Training` with the default `Recipe`, crop and flip; the rates of the processes are
  added. Once in float32 and, where the hardware multiplies bfloat16 faster, once in that (what
  `precision: auto` then stands for);
- the loop everybody writes: `loop_everybody_writes` below. A `DataLoader` with 0 and with 2
workers, transforms image
  by image as torchvision's on PIL images, torch's default number of threads, NCHW, float32,
  `loss.item()` every step. Batch size, module, optimizer and loss are nanonas'. The better of the
  two counts.

Only training steps are measured: no validation, no start-up. Each measurement has fresh processes;
it begins when all of them have warmed up, and counts the steps that end within its window. In each
repetition every contender takes its turn on every network, so that what else the machine does hits
all alike. The pixels are random, as many as CIFAR-10's: speed does not depend on what they show. So
no epoch of the loop ends within a window of the default length, which spares it the restart of its
workers.

The share of peak is images/s × 3 × 2 × MACs over the rate of a matrix product of 1024 × 1024 in the
same precision, one thread on every core at once, measured in the same repetitions. 3, because the
backward pass costs about twice the forward pass; what norms, activations, augmentation and
optimizer cost counts as nothing.

In the same run the final training is measured, which uses the whole machine for one network: see
`final_speed.py`.

    python benchmarks/throughput.py

takes about 20 minutes on two cores that must be otherwise idle, and writes
benchmarks/results/throughput.json: hardware, versions, settings, each repetition's figures,
medians, smallest and largest.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import chain, cycle, repeat
from multiprocessing import get_all_start_methods, get_context, set_start_method
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any, Literal

import final_speed
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from nanonas.data.images import DataSpec, Images
from nanonas.data.split import split
from nanonas.machine import cores
from nanonas.networks.network import Network
from nanonas.networks.reference import REFERENCES
from nanonas.training.augment import Augment
from nanonas.training.device import prepare, resolve_precision
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

Name = Literal["resnet20", "plain_242k", "plain_61k", "separable_57k"]
NETWORKS: tuple[Name, ...] = ("resnet20", "plain_242k", "plain_61k", "separable_57k")
RESULT = Path(__file__).parent / "results" / "throughput.json"
RECIPE = Recipe(augment=Augment(crop=4, flip=True))
PATIENCE = (
    600.0  # seconds that a warmed-up process waits for the others before it takes them for dead
)
MATRIX = 1024  # rows and columns; 2048 ran no faster in either precision (one Zen 4 core)

# Fresh processes, none of which inherits another's memory or threads. Where there is a fork server,
# it imports torch once for all of them; the first optimizer of a process would import
# torch._dynamo, which takes as long again.
PROCESSES = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
PRELOADED = ["torch._dynamo", "nanonas.training.trial"]


@dataclass(frozen=True)
class Options:
    """Training throughput of nanonas and of the loop everybody writes, side by side on this
    machine's CPU.
    """

    seconds: float = 8.0
    """Length of each measurement's window."""
    repetitions: int = 3
    """How often each contender is measured on each network."""
    networks: tuple[Name, ...] = NETWORKS
    """Which networks to train."""
    final: tuple[str, ...] = final_speed.NETWORKS
    """Whose final training is measured: networks as in `recipe.py`; none for none."""
    data: str | None = None
    """A data source as for `nanonas search`; random images of 32×32 in 10 classes if not given."""
    images: int = 50_000
    """How many random images."""
    warm_up: int = 10
    """Steps of each process before the clock starts: kernels are chosen, memory is there, queues
    have filled."""
    out: Path = RESULT
    """Where the figures go, as JSON."""


# --- the clock ------------------------------------------------------------------------------------


class Clock:
    """Told of each step as it ends; starts after `warm_up` steps, when all processes of a
    measurement are there.

    The step that is under way when the window closes is run, so that the other processes keep their
    competition for the machine, but not counted.
    """

    def __init__(self, seconds: float, warm_up: int, barrier: Barrier) -> None:
        self.seconds, self.warm_up, self.barrier = seconds, warm_up, barrier
        self.steps = 0
        self.start = 0.0
        self.work = 0.0
        self.elapsed = 0.0  # seconds from the start to the end of the last step that counts

    def __call__(self, work: float) -> bool:
        """A step did so much, in images or floating-point operations.

        Returns whether to take another.
        """
        self.steps += 1
        if self.steps <= self.warm_up:
            if self.steps == self.warm_up:
                self.barrier.wait(PATIENCE)
                self.start = time.perf_counter()
            return True
        elapsed = time.perf_counter() - self.start
        if elapsed > self.seconds and self.work:  # one step counts at any rate, however slow
            return False
        self.work, self.elapsed = self.work + work, elapsed
        return True

    @property
    def rate(self) -> float:
        """Work a second."""
        return self.work / self.elapsed


# --- the contenders -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nanonas:
    """One of a search's workers: what `Trial` does before and while it trains a candidate."""

    precision: str

    def __call__(self, network: str, data: DataSpec, clock: Clock) -> None:
        prepare(1)
        train, _ = pictures(data, "cpu")
        module = build_module(_network(network, data.load()), seed=0)
        training = Training(
            module, train, replace(RECIPE, precision=self.precision), epochs=100, seed=0
        )
        size, larger = divmod(len(train), training.steps)  # as `torch.tensor_split` cuts an epoch
        sizes = [size + 1] * larger + [size] * (training.steps - larger)
        ended = chain([0], cycle(sizes))  # images of the step that ended before each pulse

        def pulse() -> bool:
            images = next(ended)
            return clock(images) if images else True

        while training.run_epoch(pulse) is not None:
            pass


@dataclass(frozen=True)
class Loop:
    """The loop everybody writes, with so many processes that load images."""

    loaders: int
    precision: str = "float32"

    def __call__(self, network: str, data: DataSpec, clock: Clock) -> None:
        images = data.load()
        rows = split(images, data.seed, data.valid_share, data.train_images).train
        dataset = ImageByImage(
            images.x_train[rows], images.y_train[rows].tolist(), images.mean, images.std
        )
        torch.manual_seed(0)
        # Not `build_module`: some weights, 1×1 or of depth 1, would keep the strides of
        # channels_last on the way back.
        module = NetworkModule(_network(network, images))
        loop_everybody_writes(module, dataset, self.loaders, clock)


@dataclass(frozen=True)
class Peak:
    """Matrix products, one after the other, in one thread: the most that a core gives."""

    precision: str

    def __call__(self, network: str, data: DataSpec, clock: Clock) -> None:
        prepare(1)
        dtype = getattr(torch, self.precision)
        a, b = (
            torch.randn(MATRIX, MATRIX, generator=torch.Generator().manual_seed(n)).to(dtype)
            for n in (0, 1)
        )
        out = torch.empty_like(a)
        more = True
        while more:
            torch.mm(a, b, out=out)
            more = clock(2 * MATRIX**3)


def _network(name: str, images: Images) -> Network:
    return REFERENCES[name](images.input_shape, images.classes)


def loop_everybody_writes(
    module: nn.Module, dataset: ImageByImage, loaders: int, clock: Clock
) -> None:
    """Trains `module` until the clock says stop."""
    loader = DataLoader(dataset, batch_size=RECIPE.batch_size, shuffle=True, num_workers=loaders)
    criterion = nn.CrossEntropyLoss(label_smoothing=RECIPE.label_smoothing)
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=RECIPE.lr,
        momentum=RECIPE.momentum,
        weight_decay=RECIPE.weight_decay,
        nesterov=True,
    )
    module.train()
    running_loss = 0.0
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(module(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            if not clock(len(labels)):
                return


class ImageByImage(Dataset[tuple[Tensor, int]]):
    """What torchvision's `CIFAR10` with its usual transforms does for each image, without its
    checks of arguments.

    Those are ``RandomCrop(size, padding=4), RandomHorizontalFlip(), ToTensor(), Normalize(mean,
    std)`` on PIL images, torchvision's default; each line below is what torchvision 0.2x runs for
    it.
    """

    def __init__(
        self, x: NDArray[np.uint8], y: Sequence[int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.x, self.y = x, y  # (N, H, W, C), (N,)
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = self.x[index]
        image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
        width, height = image.size
        image = ImageOps.expand(image, border=4, fill=0)
        top = int(torch.randint(0, 9, size=(1,)).item())
        left = int(torch.randint(0, 9, size=(1,)).item())
        image = image.crop((left, top, left + width, top + height))
        if torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image, copy=True)).view(height, width, -1)
        tensor = tensor.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return tensor.clone().sub_(self.mean).div_(self.std), self.y[index]


# --- one measurement ------------------------------------------------------------------------------

_barrier: Barrier  # of the measurement that this process is there for


def _join(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier
    # A process passes on the way it was started. A `DataLoader`'s workers are to start as in
    # anybody's script: on Linux before Python 3.14 by a fork, which shares the images instead of
    # pickling them.
    set_start_method(get_all_start_methods()[0], force=True)


def _rate(
    contender: Nanonas | Loop | Peak, network: str, data: DataSpec, seconds: float, warm_up: int
) -> float:
    clock = Clock(seconds, warm_up, _barrier)
    try:
        contender(network, data, clock)
    except BaseException:
        _barrier.abort()  # the others need not wait
        raise
    return clock.rate


def measure(
    contender: Nanonas | Loop | Peak, network: str, data: DataSpec, options: Options
) -> float:
    """Images, or floating-point operations, a second on the whole machine.

    The loop is one process whose threads use all cores, the others one process a core.
    """
    processes = 1 if isinstance(contender, Loop) else cores()
    barrier = PROCESSES.Barrier(processes)
    with ProcessPoolExecutor(
        processes, mp_context=PROCESSES, initializer=_join, initargs=(barrier,)
    ) as pool:
        # As long as some wait at the barrier the others are free for the rest: each process gets
        # one.
        arguments = (contender, network, data, options.seconds, options.warm_up)
        rates = [pool.submit(_rate, *arguments) for _ in range(processes)]
        return sum(rate.result() for rate in rates)


# --- all of them ----------------------------------------------------------------------------------


def run(options: Options, data: DataSpec, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures everything; returns what is written as JSON but hardware and settings."""
    auto = resolve_precision("auto", "cpu")
    contenders: dict[str, Nanonas | Loop] = {"nanonas float32": Nanonas("float32")}
    if auto != "float32":
        contenders["nanonas auto"] = Nanonas(auto)
    contenders |= {"loop, 0 workers": Loop(0), "loop, 2 workers": Loop(2)}
    peaks: dict[str, list[float]] = {
        precision: [] for precision in dict.fromkeys(("float32", auto))
    }
    rates: dict[str, dict[str, list[float]]] = {
        name: {c: [] for c in contenders} for name in options.networks
    }
    for repetition in range(options.repetitions if options.networks else 0):
        for precision, values in peaks.items():
            values.append(measure(Peak(precision), "", data, options) / 1e9)
            say(
                f"{repetition + 1} of {options.repetitions} · matmul {precision} · "
                f"{values[-1]:,.0f} GFLOP/s"
            )
        for name in options.networks:
            for label in _rotated(
                list(contenders), repetition
            ):  # no one always comes after the same other
                rate = measure(contenders[label], name, data, options)
                rates[name][label].append(rate)
                say(
                    f"{repetition + 1} of {options.repetitions} · {name} · {label} · {rate:,.0f} "
                    "images/s"
                )
    precisions = {label: contender.precision for label, contender in contenders.items()}
    images = data.load()
    return {
        "auto_precision": auto,
        "precision": precisions,
        "peak_gflops": {
            precision: _summary(values) for precision, values in peaks.items() if values
        },
        "networks": {
            name: _compared(_network(name, images), rates[name], precisions, peaks)
            for name in options.networks
        },
    }


def _compared(
    network: Network,
    rates: Mapping[str, Sequence[float]],
    precisions: Mapping[str, str],
    peaks: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """One network's figures: images/s, shares of peak in [0, 1], and how many times as fast as the
    better loop.
    """
    best = max(
        (label for label in rates if label.startswith("loop")),
        key=lambda label: median(rates[label]),
    )

    def share(label: str) -> float:
        return (
            median(rates[label]) * 3 * 2 * network.macs / (1e9 * median(peaks[precisions[label]]))
        )

    def ratio(label: str) -> dict[str, Any]:
        pairs = [ours / theirs for ours, theirs in zip(rates[label], rates[best], strict=True)]
        return {"of_medians": median(rates[label]) / median(rates[best]), **_summary(pairs)}

    return {
        "params": network.params,
        "macs": network.macs,
        "images_per_second": {label: _summary(values) for label, values in rates.items()},
        "share_of_peak": {label: round(share(label), 4) for label in rates},
        "best_loop": best,
        "times_as_fast": {label: ratio(label) for label in rates if label.startswith("nanonas")},
    }


def _rotated(values: Sequence[str], by: int) -> Iterator[str]:
    return (values[(n + by) % len(values)] for n in range(len(values)))


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "repetitions": list(values),
    }


# --- around it ------------------------------------------------------------------------------------


def surroundings() -> dict[str, Any]:
    """Hardware, versions and date: what a figure is worth nothing without."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": {
            "processor": _processor(),
            "cores": cores(),
            "torch_default_threads": torch.get_num_threads(),
            "load_average_before": os.getloadavg()[0]
            if hasattr(os, "getloadavg")
            else None,  # of the last minute
        },
        "versions": {
            "python": platform.python_version(),
            "system": platform.platform(),
            **{name: version(name) for name in ("nanonas", "torch", "numpy", "pillow")},
        },
    }


def _processor() -> str:
    """ "AMD EPYC, family 25, model 17": virtual machines hide the name's second half, which the
    numbers still tell.
    """
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    except OSError:
        pass  # not Linux
    name = facts.get("model name") or platform.processor() or platform.machine()
    return ", ".join(
        [
            name,
            *(f"{key.split()[-1]} {facts[key]}" for key in ("cpu family", "model") if key in facts),
        ]
    )


def table(result: Mapping[str, Any]) -> Any:
    """The result as a rich table: one row a network and contender."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    hardware, versions, auto = result["hardware"], result["versions"], result["auto_precision"]
    peaks = ", ".join(
        f"{peak['median']:,.0f} GFLOP/s in {name}" for name, peak in result["peak_gflops"].items()
    )
    drawn = Table(
        title=f"{hardware['cores']} cores of {hardware['processor']} · torch {versions['torch']}",
        caption=f"Median (smallest–largest) of {result['settings']['repetitions']}. "
        f"Peak of matrix products: {peaks}. Precision auto is {auto} here.",
        box=SIMPLE_HEAD,
    )
    for column in ("network", "contender"):
        drawn.add_column(column)
    for column in ("images/s", "of peak", "× better loop"):
        drawn.add_column(column, justify="right")
    for name, row in result["networks"].items():
        titles = chain(
            [name, f"{row['params'] / 1e3:,.0f}K, {row['macs'] / 1e6:.1f}M MACs"], repeat("")
        )
        for title, (label, rate) in zip(titles, row["images_per_second"].items(), strict=False):
            times = "1" if label == row["best_loop"] else ""
            if ratio := row["times_as_fast"].get(label):
                times = f"{ratio['of_medians']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"
            spread = f"{rate['median']:,.0f} ({rate['min']:,.0f}–{rate['max']:,.0f})"
            drawn.add_row(title, label, spread, f"{row['share_of_peak'][label]:.1%}", times)
        drawn.add_section()
    return drawn


def random_images(path: Path, number: int) -> None:
    """Writes an .npz of `number` random colour images of 32×32 in 10 classes, and 10 to test by."""
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for size in (number, 10))
    np.savez(path, x_train=train, y_train=np.arange(number) % 10, x_test=test, y_test=np.arange(10))


def main(options: Options, arguments: Sequence[str] = ()) -> None:
    """Measures, prints and writes. `arguments` are those of the command, for the record."""
    from loguru import logger
    from rich.console import Console

    logger.disable("nanonas")
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # in a file nothing needs to be cut off
    with tempfile.TemporaryDirectory() as folder:
        source = options.data
        if source is None:
            source = str(Path(folder) / "random.npz")
            random_images(Path(source), options.images)
            os.environ["NANONAS_CACHE"] = (
                folder  # nobody needs them again; the processes inherit it
            )
        PROCESSES.set_forkserver_preload(PRELOADED)
        data = DataSpec(source)
        data.load()  # into the cache, once
        about = {
            "command": shlex.join(["python", "benchmarks/throughput.py", *arguments]),
            **surroundings(),
        }

        def say(line: str) -> None:
            console.print(line, style="dim")

        settings = {**asdict(options), "out": options.out.name, "batch_size": RECIPE.batch_size}
        result = {
            **about,
            "settings": settings,
            **run(options, data, say),
            "final": final_speed.run(
                options.final, data, options.seconds, options.repetitions, say
            ),
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.networks:
        console.print(table(result))
    if options.final:
        console.print(final_speed.table(result["final"]))
    console.print(f"written to {options.out}")


if __name__ == "__main__":
    import tyro

    chosen = tyro.cli(Options)
    if chosen.seconds <= 0 or min(chosen.repetitions, chosen.warm_up) < 1:
        raise SystemExit("--seconds must be above 0; --repetitions and --warm-up at least 1")
    main(chosen, sys.argv[1:])
