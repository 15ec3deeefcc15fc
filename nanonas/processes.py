"""Child processes: how they are started, how they end with this one, and what became of them.

Each is a plain ``python -c`` that imports what it needs: it never runs the caller's ``__main__``,
so scripts without a main guard, notebooks, the prompt and standard input can all start some.
(`multiprocessing`'s spawn does run it; its fork does not survive threads and CUDA.)
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import IO

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_TAIL = 2000  # characters of a dead child's output that are kept


@dataclass(eq=False)
class Child:
    """A process, this end of the pipe to it, and the temporary file that it prints to."""

    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    last_words: str = ""  # the end of its output, once it is buried
    printed: bytes = b""  # all of it

    def bury(self) -> int:
        """Makes sure that it is dead, leaves no zombie, and returns its exit code, negative for a
        signal.
        """
        try:
            code = self.process.wait(timeout=2)  # a broken pipe comes a moment before the exit code
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.connection.close()
        if not self.output.closed:
            self.output.seek(0)
            self.printed = self.output.read()
            self.output.close()
            self.last_words = self.printed[-_TAIL:].decode(errors="replace").strip()
        return code


def started(function: str, threads: int, handles: Sequence[int] = ()) -> Child:
    """A new process that calls a function of this package, and nothing else.

    It finds what the caller can import, reads nothing, and prints into a file.

    Args:
        function: "MODULE:NAME"; called with strings, which are numbers: of the child's end of the
            pipe, of this process, and of `handles`.
        threads: that numerical libraries may use there.
        handles: open files that it gets.
    """
    module, name = function.split(":")
    paths = [os.path.abspath(path) for path in sys.path]  # "" is the caller's working directory
    ours, theirs = Pipe()
    output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the child keeps it, and closes it
    try:
        numbers = [str(number) for number in (theirs.fileno(), os.getpid(), *handles)]
        code = (
            f"import sys; sys.path[:] = sys.argv[{1 + len(numbers)}:]; "
            f"from {module} import {name}; {name}(*sys.argv[1:{1 + len(numbers)}])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *numbers, *paths],
            pass_fds=[theirs.fileno(), *handles],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **dict.fromkeys(_THREADS, str(threads))},
        )
    except BaseException:
        ours.close()
        output.close()
        raise
    finally:
        theirs.close()
    return Child(process, ours, output)


def begun(handle: str, parent: str) -> Connection:
    """What a child does first: it leaves Ctrl-C to its parent and ends when that has ended, also
    while it hangs; a crash prints where it happened.

    Args:
        handle: of its end of the pipe, a number.
        parent: the process that started it, a number.

    Returns:
        its end of the pipe, which its own children do not get.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1)
    os.set_inheritable(int(handle), False)
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    return Connection(int(handle))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def memory_of(process: int) -> float | None:
    """MiB that a process holds in memory and shares with no other, without mapped files; None where
    the system is not Linux, or the process has ended.
    """
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as status:
            held = [line.split()[1] for line in status if line.startswith("RssAnon")]
    except (OSError, UnicodeDecodeError):
        return None
    return int(held[0]) / 1024 if held else None  # from KiB


def cause_of_death(code: int) -> str:
    """An exit code in words; it is negative for a signal."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def last_line(text: str) -> str:
    """Of what a process printed; the last one of a trace says what was raised."""
    return text.splitlines()[-1] if text else ""
