"""What measures one graph, in a process of its own: a graph from elsewhere may run for ever, ask
for any amount of memory or crash the runtime, and must take nothing along.

The parent sends what it wants as JSON, then the graph; it gets JSON back, never anything pickled:
whoever has taken over this process through a hole of the runtime should get no further.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator, default_rng  # here, before memory is bound

from nanonas.core import Floats
from nanonas.maths.intervals import median_interval
from nanonas.processes import begun
from nanonas.serving.agent.graph import Refused, look_through

NARROW = 0.05  # of the median: what its 95 % interval may reach to either side
INPUTS = 2**26  # bytes of all inputs together, at most
_WARM_UP, _LEAST, _MOST = 5, 30, 30_720  # passes before, and of those that are measured
# Seconds of passes, at least: those of one moment are alike, and tell nothing of the next.
_SHORTEST = 0.2
_RESERVED = 2**28  # bytes of addresses that each thread may reserve besides, for the allocator
_LONGEST = 2**16  # bytes of a request, without the graph
_MIB = 2**20

# by onnxruntime's names: what random values of an input are made of
_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass(frozen=True)
class Wanted:
    """What is asked of a measurement."""

    batch: int  # images in a pass
    seconds: float  # to repeat passes for, at most
    threads: int
    memory: int  # bytes that the graph may take at most


def serve(handle: str, parent: str) -> None:
    """The life of the process: one graph.

    Args:
        handle: of its end of the pipe, a number.
        parent: the process that started it, a number.
    """
    connection = begun(handle, parent)
    wanted = Wanted(**json.loads(connection.recv_bytes(_LONGEST)))
    graph = connection.recv_bytes()
    _say(connection, _answer(graph, wanted))


def _say(connection: Connection, answer: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(answer).encode())


def _answer(graph: bytes, wanted: Wanted) -> dict[str, Any]:
    try:
        look_through(graph)
        return _measured(graph, wanted)
    except Refused as refusal:
        return {"refused": str(refusal)}
    except MemoryError:
        return {"refused": _too_large(wanted)}


def _too_large(wanted: Wanted) -> str:
    return (
        f"the graph needs more memory than the {wanted.memory // _MIB:,} MiB that are allowed here "
        "(nanonas agent --memory-mb)"
    )


def _measured(graph: bytes, wanted: Wanted) -> dict[str, Any]:
    """The figures of one graph. Raises `Refused`."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # by name, for bytes that look like onnxruntime's own format are read as such else
    options.add_session_config_entry("session.load_model_format", "ONNX")
    _bound(wanted)
    memory = _Memory()
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        given = _inputs(session.get_inputs(), wanted.batch)
        times = passes(lambda: session.run(None, given), wanted.seconds)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  onnxruntime's own classes share no other
        words = " ".join(str(error).split())
        if "alloc" in words:
            raise MemoryError from None
        raise Refused(f"onnxruntime cannot run the graph: {words:.300}") from None
    peak, why_none = memory.peak()
    median, low, high = median_interval([float(value) for value in times])
    return {
        "median_ms": median,
        "p95_ms": float(np.quantile(times, 0.95)),
        "interval_ms": [low, high],
        "runs": len(times),
        "narrow": narrow(median, low, high, len(times)),
        "peak_bytes": peak,
        "peak_bytes_reason": why_none,
        "batch": wanted.batch,
        "threads": wanted.threads,
        "onnxruntime": onnxruntime.__version__,
    }


# --- passes ---------------------------------------------------------------------------------------


def passes(
    run: Callable[[], object],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Floats:
    """How long passes take, in milliseconds, (n,): as many as it takes until the interval of their
    median is narrow, for some seconds at most. One is measured in any case.
    """
    begin, times, check = clock(), list[float](), _LEAST
    end = begin + seconds
    for _ in range(_WARM_UP):
        run()
        if clock() > end:
            break
    while len(times) < _MOST and (not times or clock() < end):
        start = clock()
        run()
        times.append(1000 * (clock() - start))
        if len(times) == check:
            if start > begin + _SHORTEST and narrow(*median_interval(times), len(times)):
                break
            check *= 2
    return np.array(times)


def narrow(median: float, low: float, high: float, runs: int) -> bool:
    """Whether the median of so many passes is known well enough, by its 95 % interval."""
    return runs >= _LEAST and max(high - median, median - low) <= NARROW * median


def _inputs(wanted: list[Any], batch: int) -> dict[str, Any]:
    """Random values for each input of a graph, of the batch that is asked for.

    Raises `Refused` for shapes that are open, of another batch, or too large, before anything is
    allocated.
    """
    shapes = {one.name: _shape(one.name, one.shape, batch) for one in wanted}
    for one in wanted:
        if one.type not in _TYPES:
            raise Refused(f"the input {one.name!r} is a {one.type}, but must be one of numbers")
    sizes = [math.prod(shapes[one.name]) * np.dtype(_TYPES[one.type]).itemsize for one in wanted]
    if sum(sizes) > INPUTS:
        raise Refused(
            f"the inputs have {sum(sizes) / _MIB:,.0f} MiB, but {INPUTS // _MIB} MiB are the most"
        )
    rng = default_rng(0)
    return {one.name: _values(rng, shapes[one.name], _TYPES[one.type]) for one in wanted}


def _shape(name: str, shape: list[Any], batch: int) -> tuple[int, ...]:
    if not shape:
        raise Refused(f"the input {name!r} has no axis for the images of a batch")
    first, *others = shape
    if isinstance(first, int) and first != batch:
        raise Refused(
            f"the input {name!r} takes batches of {first}, but {batch} is asked for; export the "
            "graph with a batch of any size, or ask for that"
        )
    if not all(isinstance(side, int) and side >= 0 for side in others):
        raise Refused(
            f"the input {name!r} is of {shape!r:.200}, but only the batch may be of any size"
        )
    return (batch, *others)


def _values(rng: Generator, shape: tuple[int, ...], kind: type) -> Any:
    if kind in (np.uint8, np.int8):
        return rng.integers(0, 128, shape).astype(kind)
    if np.issubdtype(kind, np.integer):  # rather places than numbers: 0 is always one
        return np.zeros(shape, kind)
    return rng.standard_normal(shape, np.float32).astype(kind)


# --- memory ---------------------------------------------------------------------------------------


def _bound(wanted: Wanted) -> None:
    """Has the system refuse memory beyond what is allowed, and files; as far as it can."""
    import resource

    used = _status("VmSize") or 0
    reserved = _RESERVED * (2 + wanted.threads)
    bounds = {
        resource.RLIMIT_AS: used + wanted.memory + reserved,
        resource.RLIMIT_DATA: (_status("VmData") or used) + wanted.memory,
        resource.RLIMIT_FSIZE: 2**16,  # what a crash prints
        resource.RLIMIT_CORE: 0,
    }
    for kind, bound in bounds.items():
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            bound = min(bound, most)
        try:
            resource.setrlimit(kind, (bound, bound))
        except (OSError, ValueError):  # macOS knows these limits, and keeps none
            continue


class _Memory:
    """What the process takes on top of what it had when this was made."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):  # the most so far begins anew: imports took more
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before, self._most = _status("VmRSS"), _status("VmHWM")

    def peak(self) -> tuple[int | None, str | None]:
        """Bytes, and why they are not known, where they are not."""
        most = _status("VmHWM")
        if most is None or self._before is None:
            return None, f"{sys.platform} does not tell a process the most that it has taken"
        if most == self._most:
            return None, "it is less than the process had taken before"
        return most - self._before, None


def _status(name: str) -> int | None:
    """A line of the kernel's account of this process, in bytes; None where there is none.

    Not `resource.getrusage`: a process inherits its ru_maxrss from the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
