"""Runs one file of a bundle where nanonas cannot be imported, as whoever gets the bundle will.

    python -I check.py KIND FOLDER IMAGES.npy OUT.npz THREADS SECONDS

KIND is a key of `KINDS`. IMAGES.npy holds uint8, (N, H, W, C). OUT.npz gets the logits, (N,
classes), and the milliseconds of passes of one image with one thread.

    python -I check.py run PROGRAM.py ARGUMENT …

runs a program.
"""

from __future__ import annotations

import importlib
import importlib.util
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# uint8, (B, H, W, C), to logits, (B, classes)
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

BATCH = 256  # images at a time
_WARM_UP, _LEAST = 10, 30  # passes before those that are measured, and how many these are at least


class Blocked:
    """An importer before all others, which has no nanonas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "nanonas":
            raise ModuleNotFoundError("nanonas is not to be used here", name=name)


def block() -> None:
    """Makes sure that nanonas is not used, however it is installed."""
    sys.meta_path.insert(0, Blocked())
    try:
        importlib.import_module("nanonas")
    except ModuleNotFoundError:
        return
    sys.exit("nanonas can be imported")


def source(folder: Path, threads: int) -> Run:
    """model.py and model.safetensors."""
    import torch

    torch.set_num_threads(threads)
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    model = code.load(str(folder / "model.safetensors"))

    def run(images: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return model(code.prepare(torch.from_numpy(images))).numpy()

    return run


def exported(folder: Path, threads: int) -> Run:
    """model.pt2."""
    import torch

    torch.set_num_threads(threads)
    model = torch.export.load(folder / "model.pt2").module()

    def run(images: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return run


def onnx(name: str) -> Callable[[Path, int], Run]:
    """A function for a file of ONNX."""

    def loaded(folder: Path, threads: int) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            folder / name, options, providers=["CPUExecutionProvider"]
        )

        def run(images: NDArray[np.uint8]) -> Any:
            return session.run(["logits"], {"image": images})[0]

        return run

    return loaded


KINDS: dict[str, Callable[[Path, int], Run]] = {
    "pytorch": source,
    "pt2": exported,
    "onnx": onnx("model.onnx"),
    "int8": onnx("model.int8.onnx"),
}


def logits_of(run: Run, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits of all images, (N, classes)."""
    batches = range(0, len(images), BATCH)
    # a copy, because torch does not take what is mapped from a file
    return np.concatenate([run(np.array(images[start : start + BATCH])) for start in batches])


def milliseconds_of(run: Run, image: NDArray[np.uint8], seconds: float) -> NDArray[np.float64]:
    """How long passes of one image take, (n,), for some seconds."""
    batch, times = np.array(image)[None], list[float]()
    end = time.perf_counter() + seconds
    while len(times) < _WARM_UP + _LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        run(batch)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times[_WARM_UP:])


def main(kind: str, place: str, images: str, out: str, threads: str, seconds: str) -> None:
    block()
    folder, pixels = Path(place), np.load(images, mmap_mode="r")
    logits = logits_of(KINDS[kind](folder, int(threads)), pixels)
    alone = KINDS[kind](folder, 1)
    np.savez(out, logits=logits, milliseconds=milliseconds_of(alone, pixels[0], float(seconds)))


if __name__ == "__main__":
    if sys.argv[1] == "run":
        block()
        sys.argv = sys.argv[2:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        main(*sys.argv[1:])
