"""Reads cases of formats in a process of its own: with little memory, with a watch that ends it
where it hangs, and with an eye on what it opens.

    python -m toys.hostile.child WORK CASES FORMAT…

It prints a line of JSON for each format. Where it dies, WORK/last.bin has the case.
"""

from __future__ import annotations

import base64
import faulthandler
import gc
import json
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from nanonas.errors import NanonasError
from toys.hostile.formats import Format, every

MEMORY = 3 * 2**29  # bytes beyond what the imports take, for any case
PATIENCE = 20.0  # seconds for a case: none takes one
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# what no reader does, as Python's audit hooks name it
_NEVER = {
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.symlink",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}


class Watch:
    """What a reader does beside reading, as Python tells it: it cannot be taken off again."""

    def __init__(self, work: Path) -> None:
        self.within = (str(work), "/dev/")
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event in _NEVER:
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & _WRITES
            if writes and isinstance(path, (str, bytes)):
                self._require_within(event, os.fsdecode(path))
        elif event in ("os.mkdir", "os.remove", "os.rename", "shutil.rmtree"):
            self._require_within(event, os.fsdecode(arguments[0]))

    def _require_within(self, event: str, path: str) -> None:
        if not os.path.abspath(path).startswith(self.within):
            self.seen.append(f"{event} {path}")


class Found(Exception):
    """A case that came to something else than a value or one of our sentences."""


def read_case(form: Format, case: bytes, watch: Watch, work: Path) -> bool:
    """Whether a case is a correct file; raises `Found` where the reader fails."""
    (work / "last.bin").write_bytes(case)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    watch.seen.clear()
    watch.armed = True
    try:
        form.read(case)
        right = True
    except NanonasError as error:
        right = False
        if len(str(error)) > 2500 or not str(error):
            raise Found(f"a sentence of {len(str(error)):,} letters: {error!s:.300}") from None
    except Exception as error:  # noqa: BLE001  whatever it is, it is a failure
        place = traceback.format_exc().splitlines()
        lines = "\n".join(place[-14:])
        raise Found(f"{type(error).__name__}: {error!s:.300}\n{lines}") from None
    finally:
        watch.armed = False
        faulthandler.cancel_dump_traceback_later()
    if watch.seen:
        raise Found(f"it did {watch.seen[:3]}")
    return right


def fuzz(name: str, form: Format, cases: int, watch: Watch, work: Path) -> dict[str, Any]:
    """What came of so many cases. They are the same each time."""
    counts = {"read": 0, "refused": 0}

    @settings(
        max_examples=cases,
        derandomize=True,  # whatever --hypothesis-seed says
        database=None,
        deadline=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(form.cases)
    def run(case: bytes) -> None:
        right = read_case(form, case, watch, work)
        counts["read" if right else "refused"] += 1

    begin, failure, blob = time.process_time(), "", ""
    try:
        run()
    except BaseException as error:  # a group of several, or a panic of Rust
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        several = getattr(error, "exceptions", [error])
        failure = "\n\n".join("".join(traceback.format_exception(one))[:4000] for one in several)
        blob = base64.b64encode((work / "last.bin").read_bytes()).decode()
    return {
        "format": name,
        **counts,
        "seconds": round(time.process_time() - begin, 1),  # of the processor
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "failure": failure,
        "case": blob,
    }


def limit_memory() -> None:
    """From here on, this process gets `MEMORY` bytes more, and no core file."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(place: str, cases: str, *names: str) -> None:
    """See this module."""
    from loguru import logger

    logger.remove()
    warnings.simplefilter("ignore")
    work = Path(place).resolve()
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # power cuts are not tested
    os.environ["NANONAS_CACHE"] = str(work / "cache")
    os.chdir(work)
    forms: dict[str, Format] = {}
    for name in names:
        (work / name).mkdir()
        forms[name] = every()[name](work / name)
        for seed in forms[name].seeds:  # what is imported late is imported now
            forms[name].read(seed)
    watch = Watch(work)
    limit_memory()
    for name, form in forms.items():
        print(json.dumps(fuzz(name, form, int(cases), watch, work)), flush=True)
        gc.collect()
    os._exit(0)  # libraries that ran out of memory once may not end well


if __name__ == "__main__":
    main(*sys.argv[1:])
