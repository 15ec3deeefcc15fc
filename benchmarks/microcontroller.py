"""A network that a search finds for a microcontroller, against the one that is the yardstick there:
ResNet-8, the image classifier of MLPerf Tiny (Banbury et al. 2021).

The search may use as much RAM and flash as ResNet-8 takes, counted alike, and no more than --ram-kb
and --flash-kb. Both have the same time in all: ResNet-8 trains for all of it, by the recipe and in
the way that the winner of the search trains. The network that was found is also trained alone for
as long: what is it worth, whatever the search has cost? All are then brought into 8-bit integers,
whose accuracy on the test images is what counts, and written as C11, which an emulated Cortex-M3
runs on some of the images where arm-none-eabi-gcc and qemu-system-arm are there.

    python benchmarks/microcontroller.py --data cifar10              # three quarters of an hour
    python benchmarks/microcontroller.py --data digits --time 30s    # a quick try

With --cmsis-nn FOLDER, a checkout of Arm's CMSIS-NN, it also counts the instructions that an image
takes on an emulated Cortex-M4, with it and without.

What is done is kept in the folder of the runs, and not done again. Cores must be idle: equal
seconds are compared.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kept import Results
from loguru import logger
from trained import at_its_end, trained_for

from nanonas.config.files import configure
from nanonas.deploy.c.writing import write_c
from nanonas.deploy.subject import Subject, subject_at
from nanonas.networks import arena
from nanonas.networks.limits import KILOBYTE
from nanonas.networks.network import Network
from nanonas.networks.reference import resnet8
from nanonas.runs.folder import RunFolder, total_seconds
from nanonas.runs.source import Source, fitting, open_source
from nanonas.session.setup import Setup
from nanonas.training.final import FinalResult, read_result
from nanonas.training.modules import build_module
from nanonas.training.weights import load_weights

RESULT = Path(__file__).parent / "results" / "microcontroller.json"
BOARD = Path(__file__).parent.parent / "examples" / "board"
ARM, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
SOURCES = ("ConvolutionFunctions/*s8*.c", "NNSupportFunctions/*s8*.c", "NNSupportFunctions/*q7*.c")


@dataclass(frozen=True)
class Contender:
    """A trained network, and what its training came to."""

    name: str
    subject: Subject
    result: FinalResult
    seconds: float  # of search and training


def limits(given: argparse.Namespace, yardstick: Network) -> dict[str, float]:
    """What a network may take, in KB: no more than the yardstick does."""
    return {
        "max_ram_kb": min(given.ram_kb, arena.ram(yardstick) / KILOBYTE),
        "max_flash_kb": min(given.flash_kb, arena.flash(yardstick) / KILOBYTE),
    }


def searched(given: argparse.Namespace, seed: int, folder: RunFolder) -> Contender:
    """The whole search, at its end."""
    images = Setup(configure(data=given.data)).images
    yardstick = resnet8(images.input_shape, images.classes)
    at_its_end(
        configure(
            data=given.data,
            time=given.time,
            seed=seed,
            out=folder.path.parent,
            name=folder.path.name,
            **limits(given, yardstick),
        )
    )
    result = read_result(folder.final)
    assert result is not None
    seconds = total_seconds(folder, result.seconds)
    return Contender("nanonas", subject_at(folder.path), result, seconds)


def trained_alone(
    name: str, network: Network, source: Source, seconds: float, seed: int, folder: Path
) -> Contender:
    """A network, trained for all of the time."""
    images = source.images
    assert images is not None
    result = trained_for(seconds, network, source, seed, folder, name)
    weights = folder / "model.safetensors"
    module = build_module(network, seed=0)
    load_weights(module, weights)
    module.preprocessing = images.preprocessing
    subject = Subject(module.eval(), images.preprocessing, source, weights, result)
    return Contender(name, subject, result, result.seconds)


def measured(one: Contender, pictures: int, cmsis_nn: Path | None) -> dict[str, Any]:
    """What a network takes and comes to as integers, and whether the board agrees."""
    subject, images = one.subject, one.subject.source.images
    calibration = subject.calibration()
    assert images is not None
    assert calibration is not None
    tensors = {name: tensor.numpy() for name, tensor in subject.module.state_dict().items()}
    network = subject.module.network
    with tempfile.TemporaryDirectory() as work:
        written = write_c(network, tensors, subject.rule, calibration, Path(work))
        logits = written.model.logits(images.x_test)
        right = logits.argmax(axis=1) == images.y_test
        board = on_board(Path(work), images.x_test[:pictures], network.classes)
        counts = None if cmsis_nn is None else counted(Path(work), cmsis_nn.resolve())
    return {
        "network": one.name,
        "params": network.params,
        "macs": network.macs,
        "ram": written.ram,
        "flash": written.flash,
        "float_accuracy": one.result.test_accuracy,
        "int8_accuracy": float(right.mean()),
        "epochs": one.result.epochs,
        "seconds": round(one.seconds, 1),
        "board": None if board is None else {"images": pictures, "equal": same(board, logits)},
        "instructions": counts,
    }


def in_words(row: Mapping[str, Any]) -> str:
    """What came of a network, in a line."""
    return (
        "{network}: {int8_accuracy:.2%} in 8-bit integers, {float_accuracy:.2%} in floating point; "
        "{ram:,} bytes of RAM, {flash:,} of flash; {params:,} parameters, {macs:,} MACs, "
        "{epochs:.0f} epochs; on the board: {board}; instructions: {instructions}"
    ).format(**row)


def same(board: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]) -> bool:
    """Whether the board computed the very integers of the reference."""
    return bool(np.array_equal(board, logits[: len(board)]))


def on_board(folder: Path, pixels: np.ndarray[Any, Any], classes: int) -> Any:
    """The integers that the C source computes on an emulated Cortex-M3, (N, classes); None where
    there is no compiler for it, or no emulator.
    """
    if None in (shutil.which(ARM), shutil.which(QEMU)):
        return None
    build(folder, "m3", "-DMODEL_STDIN", "-Os", "main.c")
    rows = [line.split() for line in emulated(folder, "mps2-an385", (), pixels.tobytes())[1:]]
    return np.array([row[:classes] for row in rows], np.int64)


def counted(folder: Path, cmsis_nn: Path) -> dict[str, int] | None:
    """The instructions that an image takes on an emulated Cortex-M4, by the C code alone and with
    CMSIS-NN; None where there is no compiler for it, or no emulator.
    """
    if None in (shutil.which(ARM), shutil.which(QEMU)):
        return None
    sources = sorted(str(path) for kind in SOURCES for path in cmsis_nn.glob(f"Source/{kind}"))
    with_it = ["-DMODEL_CMSIS_NN", "-DCMSIS_NN_USE_SINGLE_ROUNDING", f"-I{cmsis_nn}/Include"]
    found = dict[str, int]()
    for name, more in {"alone": [], "with CMSIS-NN": [*with_it, *sources]}.items():
        build(folder, "m4", "-O2", *more, str(BOARD / "counted.c"))
        said = emulated(folder, "mps2-an386", ("-icount", "shift=0"))
        found[name] = int(said[-1].split()[0])
    return found


def build(folder: Path, core: str, *more: str) -> None:
    """Compiles model.c and more to model.elf, for a Cortex-M on Arm's MPS2 board."""
    command = [ARM, "-std=gnu11", "-w", f"-mcpu=cortex-{core}", "-mthumb", "--specs=rdimon.specs"]
    command += ["-ffunction-sections", "-Wl,--gc-sections", f"-I{folder}"]
    command += ["-T", str(BOARD / "mps2.ld"), str(BOARD / "vectors.c")]
    subprocess.run([*command, "model.c", *more, "-o", "model.elf"], cwd=folder, check=True)


def emulated(folder: Path, machine: str, more: Sequence[str], given: bytes = b"") -> list[str]:
    """The lines that model.elf writes."""
    board = [QEMU, "-M", machine, "-display", "none", "-monitor", "none", "-serial", "none"]
    board += ["-semihosting-config", "enable=on,target=native", "-kernel", "model.elf", *more]
    done = subprocess.run(
        board, cwd=folder, input=given, capture_output=True, check=True, timeout=600
    )
    return done.stdout.decode().splitlines()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--label", help="in the result; by default the source's name")
    parser.add_argument("--time", default="15m", help="of each of the two")
    parser.add_argument("--ram-kb", type=float, default=64)
    parser.add_argument("--flash-kb", type=float, default=128)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=100, help="that the board classifies")
    parser.add_argument("--cmsis-nn", type=Path, help="the folder of a checkout of CMSIS-NN")
    parser.add_argument("--runs", type=Path, default=Path("outputs/microcontroller"))
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    logger.remove()
    label = f"{given.label or Path(given.data).stem}, {given.time}"
    settings = {key: getattr(given, key) for key in ("time", "ram_kb", "flash_kb")}
    results = Results(given.out)
    entry = results.entry(label, settings, "seeds")
    for seed in range(len(entry["seeds"]), given.seeds):
        folder = RunFolder(given.runs / f"{Path(given.data).stem}-{given.time}-seed{seed}")
        ours = searched(given, seed, folder)
        source = fitting(open_source(folder.path))
        images, place = source.images, folder.path / "compare"
        assert images is not None
        alone = {
            "ResNet-8": ("resnet8", resnet8(images.input_shape, images.classes)),
            "nanonas, trained as long": ("found", source.genome.network()),
        }
        contenders = [ours]
        for name, (short, network) in alone.items():
            contenders.append(
                trained_alone(name, network, source, ours.seconds, seed, place / short)
            )
        rows = [measured(one, given.pictures, given.cmsis_nn) for one in contenders]
        for row in rows:
            print(in_words(row), flush=True)
        entry["seeds"].append({"seed": seed, "networks": rows})
        results.keep()


if __name__ == "__main__":
    main(sys.argv[1:])
