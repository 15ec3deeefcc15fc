"""C source of networks: written, and the programs that it becomes asked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nanonas.deploy.c.writing import Written, write_c
from nanonas.networks.network import Network
from toys.integers import module_of, pixels_of, preprocessing_of, tensors_of

STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
CHECKED = ["-O1", "-g0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ARM, QEMU = "arm-none-eabi-gcc", "qemu-system-arm"
BOARD = Path(__file__).parents[2] / "examples" / "board"

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
needs_board = pytest.mark.skipif(
    None in (shutil.which(ARM), shutil.which(QEMU)), reason=f"there is no {ARM}, or no {QEMU}"
)


def written(network: Network, folder: Path, seed: int = 0) -> Written:
    tensors = tensors_of(module_of(network, seed))
    pixels = pixels_of(network, 8)
    return write_c(network, tensors, preprocessing_of(network), pixels, folder)


def answers(program: Path, pixels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """The logits that the program prints for images from standard input."""
    done = subprocess.run([program], input=pixels.tobytes(), capture_output=True, check=True)
    _, *lines = done.stdout.decode().splitlines()
    return np.array([[int(word) for word in line.split()[:classes]] for line in lines])
