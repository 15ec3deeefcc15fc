"""What the C source of a network computes, compiled for this machine."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanonas.errors import RunError

_COMPILERS = ("cc", "gcc", "clang")


def compiler() -> str | None:
    """A C compiler of this machine; None where there is none."""
    return next((path for name in _COMPILERS if (path := shutil.which(name))), None)


def compiled_logits(
    folder: Path, images: NDArray[np.uint8], classes: int, with_compiler: str
) -> NDArray[np.int8]:
    """The integers that stand for the logits, (B, classes), as the program of a folder prints them.

    Args:
        folder: with the files of `write_c`.
        images: pixels, (B, H, W, C).
        with_compiler: the path of a C compiler.

    Raises:
        RunError: the source cannot be compiled, or the program does not end well.
    """
    with tempfile.TemporaryDirectory() as work:
        program = Path(work) / "model"
        sources = [str(folder / name) for name in ("model.c", "main.c")]
        _run([with_compiler, "-std=c11", "-O2", "-DMODEL_STDIN", *sources, "-o", str(program)])
        said = _run([str(program)], images.tobytes())
    rows = [line.split() for line in said.splitlines()[1:]]  # the first tells the sizes
    return np.array([row[:classes] for row in rows], np.int64).astype(np.int8)


def _run(command: list[str], given: bytes = b"") -> str:
    done = subprocess.run(command, input=given, check=False, capture_output=True)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[0] if lines else f"exit code {done.returncode}"
        raise RunError(f"{Path(command[0]).name}: {why}")
    return done.stdout.decode("utf-8", "replace")
