"""Worker processes that cost a run one candidate at most, whatever happens to them.

One worker has one thread by default: for networks this small two processes are faster than one with
two threads.

What is sent over the pipe, in this order:

    worker: HELLO    pool: the pickled measure    worker: READY, or BROKEN and why
    pool: a candidate and its deadline    worker: BEAT, about once a second    worker: DONE and the
        evaluation    …
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from nanonas.core import Candidate, Evaluation, Measure, State
from nanonas.engine.evaluators.worker import BROKEN, DONE, HELLO, READY
from nanonas.engine.storage.events import WORKER_LOST
from nanonas.errors import InvalidInput, RunError
from nanonas.processes import Child, cause_of_death, last_line, memory_of, started

# workers that a candidate may lose: the first may have been in the wrong place at the wrong time
ATTEMPTS = 2
_EACH = 0.5  # seconds, in which workers' memory is looked at

Timeout = Callable[[Candidate], float | None]
"""For how many seconds a candidate may be measured; None: there is no end to it."""

Notice = Callable[[str, Mapping[str, Any]], None]
"""Called with what happens to workers: a kind and its details, as `RunStore.event` takes them."""


class WorkerPool:
    """Evaluates in one process per slot. A context manager: `close` kills all of them.

    Args:
        measures: one per slot, each pickled once; give each its device. Must be importable by their
            module's name, which ``__main__`` has not. Results must not depend on the slot.
        threads: that each worker may use.
        hang_seconds: a candidate whose measure has not called its pulse for so long is killed: it
            has FAILED.
        timeout: a candidate whose measure takes longer is killed: it has FAILED. None: none is.
        memory_mb: MiB of its own that a worker may hold; one that holds more is killed, and its
            candidate tried once more in a new one, for what a worker holds may be left from earlier
            candidates. None: as many as there are. Watched about once a second, on Linux alone.
        start_seconds: that a worker may take to start and to unpickle its measure.
        log: a file that the workers' output is added to; None: it is not kept.
        notice: is told `WORKER_LOST` with the candidate's number and the reason, when it is tried
            again.

    Raises:
        InvalidInput: no measures, or one that cannot be pickled.
    """

    def __init__(
        self,
        measures: Sequence[Measure],
        *,
        threads: int = 1,
        hang_seconds: float = 120.0,
        timeout: Timeout | None = None,
        memory_mb: float | None = None,
        start_seconds: float = 300.0,
        log: Path | None = None,
        notice: Notice | None = None,
    ) -> None:
        if not measures:
            raise InvalidInput("a pool needs one measure or more, one for each worker")
        self.hang_seconds = hang_seconds
        self._timeout = timeout
        self._memory_mb = memory_mb
        self._weighed = 0.0  # when, as of `time.monotonic()`
        self._start_seconds = start_seconds
        self._notice = notice
        self._threads = threads
        self._log = log
        self._queue: deque[Task] = deque()
        self._done: deque[Evaluation] = deque()
        self._closed = False
        self._slots = [_Slot(pickled(measure)) for measure in measures]
        try:
            for slot in self._slots:  # all at once: they start side by side
                slot.worker = self._started()
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """How many candidates can run at once."""
        return len(self._slots)

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Starts a candidate in a free slot, or queues it; `deadline` as of `time.monotonic()`."""
        if self._closed:
            raise RunError("this pool of workers is closed: make a new one")
        most = None if self._timeout is None else self._timeout(candidate)
        self._queue.append(Task(candidate, deadline, most))
        self._dispatch()

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """The next evaluation that is ready; None after `timeout` seconds, or when nothing is on
        its way.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._done and any(slot.task for slot in self._slots):
            patience = until - time.monotonic()
            self._listen(max(0.0, min(1.0, self.hang_seconds / 4, patience)))
            self._weigh()
            self._dispatch()
            if patience <= 0:
                break
        return self._done.popleft() if self._done else None

    def close(self) -> None:
        """Kills all workers at once. What runs is lost, what is queued forgotten.

        May be called twice.
        """
        self._closed = True
        self._queue.clear()
        workers = [slot.worker for slot in self._slots if slot.worker is not None]
        for worker in workers:
            worker.child.process.kill()
        for worker in workers:
            worker.bury()
        for slot in self._slots:
            slot.worker = slot.task = None

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _dispatch(self) -> None:
        """Gives queued candidates to free slots, those with a worker that is ready first."""
        free = [slot for slot in self._slots if slot.task is None]
        for slot in sorted(free, key=lambda slot: slot.worker is None or not slot.worker.ready):
            if not self._queue:
                return
            self._assign(slot, self._queue.popleft())

    def _assign(self, slot: _Slot, task: Task) -> None:
        slot.task = task
        if slot.worker is None:
            slot.worker = self._started()
        elif slot.worker.ready:
            self._send(slot, (task.candidate, task.deadline))

    def _started(self) -> _Worker:
        return _Worker(started("nanonas.engine.evaluators.worker:serve", self._threads), self._log)

    def _send(self, slot: _Slot, message: object) -> None:
        assert slot.worker is not None
        slot.worker.silence = 0.0
        try:
            slot.worker.child.connection.send(message)
        except OSError:
            self._lose(slot)

    def _listen(self, seconds: float) -> None:
        """Hears what workers say within `seconds`, then looks for those that are silent, or at
        work, for too long.

        Both are counted while the pool listens: when this process was stopped and goes on, or was
        busy elsewhere, its workers are not to blame.
        """
        start = time.monotonic()
        talking = {slot.worker.child.connection: slot for slot in self._slots if slot.worker}
        heard = [talking[connection] for connection in wait(list(talking), seconds)]  # type: ignore[index]
        passed = min(time.monotonic() - start, seconds)
        for slot in heard:
            self._hear(slot)
        for slot in self._slots:
            if slot.worker is not None and slot.worker.ready and slot.task is not None:
                slot.task.spent += passed
                if reason := slot.task.overdue():
                    slot.worker.kill_hung()
                    self._fail(slot, reason)
            if slot.worker is None or slot in heard:
                continue
            slot.worker.silence += passed if slot.task is not None or not slot.worker.ready else 0.0
            limit = self.hang_seconds if slot.worker.ready else self._start_seconds
            if slot.worker.child.process.poll() is not None:
                self._lose(slot)  # its own children can keep the pipe open
            elif slot.worker.silence > limit:
                slot.worker.kill_hung()
                doing = "no batch" if slot.worker.ready else "its worker was not ready"
                self._fail(slot, f"{doing} for {limit:g} s: it hung, and was killed")

    def _hear(self, slot: _Slot) -> None:
        """Takes in all that a worker has said."""
        try:
            while slot.worker is not None and slot.worker.child.connection.poll():
                self._understand(slot, slot.worker, *slot.worker.child.connection.recv())
        except (EOFError, OSError):
            self._lose(slot)

    def _understand(self, slot: _Slot, worker: _Worker, kind: str, content: Any = None) -> None:
        worker.silence = 0.0
        if kind == HELLO:
            self._send(slot, slot.measure)
        elif kind == READY:
            worker.ready = True
            if slot.task is not None:
                self._send(slot, (slot.task.candidate, slot.task.deadline))
        elif kind == BROKEN:
            reason, trace = content
            self._fail(slot, f"no worker could start: {reason}", trace)
        elif kind == DONE:
            slot.task = None
            self._done.append(content)

    def _weigh(self) -> None:
        """Kills workers that hold more memory than they may."""
        if self._memory_mb is None or time.monotonic() < self._weighed + _EACH:
            return
        self._weighed = time.monotonic()
        for slot in self._slots:
            if slot.worker is not None and slot.task is not None:
                process = slot.worker.child.process
                held = memory_of(process.pid) or 0.0
                if held > self._memory_mb:
                    process.kill()
                    self._lose(slot, overfull(held, self._memory_mb))

    def _lose(self, slot: _Slot, why: str | None = None) -> None:
        """A worker has died. Its candidate is tried once more on a new one."""
        assert slot.worker is not None
        code = slot.worker.bury()
        task, ready, trace = slot.task, slot.worker.ready, slot.worker.child.last_words
        death = why or cause_of_death(code)
        reason = death if ready else last_line(trace) or death
        slot.worker = None
        if task is None:
            return  # replaced when there is something to do
        task.attempts, task.spent = task.attempts + 1, 0.0
        if task.attempts >= ATTEMPTS:
            lost = "its worker died twice" if ready else "no worker could start"
            self._fail(slot, f"{lost}: {reason}", trace)
            return
        if self._notice is not None:
            self._notice(WORKER_LOST, {"number": task.candidate.number, "reason": reason})
        slot.worker = self._started()

    def _fail(self, slot: _Slot, reason: str, trace: str | None = None) -> None:
        """The slot's candidate has failed, and its worker is replaced when the next one comes."""
        task, worker = slot.task, slot.worker
        if worker is not None:
            worker.bury()
            trace = trace or worker.child.last_words or None
        slot.worker = slot.task = None
        if task is not None:
            self._done.append(task.failed(reason, trace))


@dataclass
class Task:
    """A candidate that was submitted."""

    candidate: Candidate
    deadline: float | None
    most: float | None = None  # seconds that its measure may take
    spent: float = 0.0  # seconds that it has taken, on the worker that has it now
    attempts: int = 0  # workers it has lost
    submitted: float = field(default_factory=time.monotonic)

    def overdue(self) -> str | None:
        """Why it is ended, where it has taken too long."""
        if self.most is None or self.spent <= self.most:
            return None
        return f"still at work after {self.most:.3g} s: it was killed (--candidate-timeout)"

    def failed(self, reason: str, trace: str | None = None) -> Evaluation:
        """Its evaluation, where there is no better one."""
        seconds, number = time.monotonic() - self.submitted, self.candidate.number
        return Evaluation(number, State.FAILED, {}, (), seconds, reason, trace or None)


@dataclass(eq=False)
class _Worker:
    """A process that measures."""

    child: Child
    log: Path | None  # what it printed is added to this when it is buried
    ready: bool = False  # has its measure
    silence: float = 0.0  # seconds listened to it in vain

    def kill_hung(self) -> None:
        """Lets it print where it hangs, if it can, and kills it."""
        if self.ready:
            self.child.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
        self.child.process.kill()

    def bury(self) -> int:
        """As `Child.bury`; what it printed goes to the log."""
        code = self.child.bury()
        if self.log is not None and self.child.printed:
            with contextlib.suppress(OSError), self.log.open("ab") as log:
                log.write(self.child.printed)
            self.child.printed = b""
        return code


@dataclass(eq=False)
class _Slot:
    """A place for one candidate at a time."""

    measure: bytes  # pickled
    worker: _Worker | None = None
    task: Task | None = None


def overfull(held: float, most: float) -> str:
    """Why a worker was killed that held more MiB of memory than it may."""
    return f"it held {held:.0f} MiB of memory, but may hold {most:g} (--worker-memory-mb)"


def pickled(measure: Measure) -> bytes:
    """A measure as it is sent. Raises `InvalidInput` where it cannot be."""
    try:
        return pickle.dumps(measure)
    except Exception as error:
        raise InvalidInput(
            f"{measure!r} cannot be sent to worker processes ({error}): define it at the top of a "
            "module"
        ) from error
