"""Candidates on the nodes of a Ray cluster; a lost node costs what ran there, and no candidate.

Each place for a candidate is an actor, a process of its own on some node. A task for each candidate
would do without this file's book-keeping, but Ray then begins and ends processes as it likes, each
of which imports PyTorch for seconds; nor could anybody ask a task whether it hangs. An actor has
its measure and its view of the images for life, answers from a second thread, takes the memory of
one worker, and ends alone.

Nothing in Ray is state: what arrives is the coordinator's to store, and what is lost Ray never
tries again. Images go into the object store once, and are read there without a copy by all
processes of a node. The weights that a candidate begins with go to where it runs, by content, and
its own come back as bytes: there need be no shared disk.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanonas.core import Candidate, Evaluation, Measure
from nanonas.data.images import Images
from nanonas.engine.evaluators.attempt import Unkept, unkept
from nanonas.engine.evaluators.joining import Cluster, Need
from nanonas.engine.evaluators.slot import Answer, Broken, Overfull, Ready, Slot
from nanonas.engine.evaluators.workers import ATTEMPTS, Notice, Task, Timeout, pickled
from nanonas.engine.storage.events import MACHINE, WORKER_LOST
from nanonas.errors import RunError, Unwritten, reason_for
from nanonas.files import replacing, weights_in
from nanonas.machine import described, version_of
from nanonas.processes import last_line

_TICK = 0.5  # seconds within which nodes that join or leave are seen
_KEPT = 64  # weights that stay in the object store for further children
_LONGEST_PAUSE = 60.0  # seconds between two starts, where none comes to anything
_NODE_LOST, _NODE_TAKEN = "its node was lost", "its node was taken away"


class ClusterPool:
    """Evaluates on a cluster, as many candidates at once as its nodes have room for. A context
    manager: `close` ends all of its processes there.

    As nodes join and leave, `slots` follows. Of a cluster that is lost `result` raises `RunError`:
    the run can be resumed.

    Args:
        cluster: joined.
        measure: is sent once to each process; a dataclass with a field `weights`, where weights are
            kept. Must be importable there by its module's name. Results must not depend on the
            node.
        need: what each candidate gets of a node.
        images: are sent once to each node, whatever other pools of `cluster` there are, and are
            held by its processes (`data.images.hold`).
        weights: the folder here of NUMBER.safetensors, those of earlier candidates and those that
            the measure keeps; None: it keeps none.
        most: candidates at once; None: as many as there is room for.
        hang_seconds, timeout: as of `WorkerPool`.
        memory_mb: as of `WorkerPool`, but looked at between batches.
        notice: as of `WorkerPool`; is also told `MACHINE`, where a node is of another kind than
            this machine.

    Raises:
        InvalidInput: the measure cannot be pickled.
        RunError: the cluster does not answer.
    """

    def __init__(
        self,
        cluster: Cluster,
        measure: Measure,
        *,
        need: Need | None = None,
        images: Images | None = None,
        weights: Path | None = None,
        most: int | None = None,
        hang_seconds: float = 120.0,
        timeout: Timeout | None = None,
        memory_mb: float | None = None,
        notice: Notice | None = None,
    ) -> None:
        self.cluster, self.need = cluster, need or Need()
        self.hang_seconds, self._timeout = hang_seconds, timeout
        self._ray, self._weights, self._most, self._notice = cluster.ray, weights, most, notice
        self._begins_with = (
            version_of("nanonas"),
            self._ray.put(pickled(measure)),
            weights is not None,
            None if images is None else cluster.sent(images),
            memory_mb,
        )
        self._actor = self._ray.remote(
            num_cpus=self.need.cpus,
            num_gpus=self.need.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,  # one measures, one says whether it hangs
        )(Slot)
        self._sent: OrderedDict[bytes, Any] = OrderedDict()  # weights by their digest
        self._machines = {_kind(described())}
        self._queue: deque[Task] = deque()
        self._done: deque[Evaluation] = deque()
        self._slots: list[_Slot] = []
        self._failures, self._not_before = 0, 0.0  # starts in a row that came to nothing
        self._closed = False
        self._follow()

    @property
    def slots(self) -> int:
        """How many candidates can run at once, now; 1 where no node has room: it waits for one."""
        return max(1, len(self._slots))

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Starts a candidate in a free slot, or queues it; `deadline` as of `time.monotonic()`."""
        if self._closed:
            raise RunError("this pool of a cluster is closed: make a new one")
        most = None if self._timeout is None else self._timeout(candidate)
        self._queue.append(Task(candidate, deadline, most))
        self._dispatch()

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """The next evaluation that is ready, whose weights are in their folder; None after
        `timeout` seconds, or when nothing is on its way. Raises `RunError` where the cluster is
        lost.
        """
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._done and (self._queue or any(slot.task for slot in self._slots)):
            patience = until - time.monotonic()
            self._listen(max(0.0, min(_TICK, self.hang_seconds / 4, patience)))
            self._follow()
            self._dispatch()
            if patience <= 0:
                break
        return self._done.popleft() if self._done else None

    def close(self) -> None:
        """Ends all processes at once. What runs is lost, what is queued forgotten.

        May be called twice.
        """
        self._closed = True
        self._queue.clear()
        slots, self._slots = self._slots, []
        if self.cluster.answers():  # else they end with it
            for slot in slots:
                self._end(slot)
        self._sent.clear()

    def __enter__(self) -> ClusterPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- slots ------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Begins slots where nodes have room, and forgets those that wait for room that is gone."""
        room = self.cluster.capacity(self.need)
        if self._most is not None:
            room = min(room, self._most)
        surplus = max(0, len(self._slots) - room)
        for slot in [slot for slot in self._slots if not slot.ready][:surplus]:
            self._remove(slot)
        if time.monotonic() >= self._not_before:
            while len(self._slots) < room:
                self._begin()

    def _begin(self) -> None:
        actor = self._actor.remote(*self._begins_with)
        self._slots.append(_Slot(actor, actor.begin.remote()))

    def _dispatch(self) -> None:
        for slot in self._slots:
            if not self._queue:
                return
            if slot.free:
                self._assign(slot, self._queue.popleft())

    def _assign(self, slot: _Slot, task: Task) -> None:
        slot.task, slot.asked = task, time.monotonic()
        numbers, contents = self._earlier(task.candidate)
        seconds = None if task.deadline is None else task.deadline - time.monotonic()
        slot.work = slot.actor.measure.remote(task.candidate, seconds, numbers, *contents)

    def _earlier(self, candidate: Candidate) -> tuple[list[int], list[Any]]:
        """The earlier candidates that one begins with, and their weights in the object store, each
        content once. Those that are not there the measure misses, as it does here.
        """
        found: dict[int, Any] = {}
        for number in candidate.proposal.begins_with if self._weights is not None else ():
            assert self._weights is not None
            try:
                content = weights_in(self._weights, number).read_bytes()
            except OSError:
                continue
            digest = hashlib.sha256(content).digest()
            if digest not in self._sent:
                self._sent[digest] = self._ray.put(content)
            self._sent.move_to_end(digest)
            found[number] = self._sent[digest]
        while len(self._sent) > _KEPT:
            self._sent.popitem(last=False)
        return list(found), list(found.values())

    # --- what they say ----------------------------------------------------------------------------

    def _listen(self, seconds: float) -> None:
        """Hears what slots say within `seconds`, then looks for those that are silent for too long.

        An unanswered question is counted while this listens: when this process was stopped and
        goes on, the slots are not to blame.
        """
        start = time.monotonic()
        saying = {ref: slot for slot in self._slots for ref in slot.saying()}
        if not saying:
            time.sleep(seconds)
            return
        heard, _ = self._ray.wait(list(saying), num_returns=1, timeout=seconds)
        passed = min(time.monotonic() - start, seconds)
        if heard:  # and all others that are ready by now
            heard, _ = self._ray.wait(list(saying), num_returns=len(saying), timeout=0)
        lost = False
        for ref in heard:
            if saying[ref] in self._slots:  # not lost by what it said before
                lost |= self._hear(saying[ref], ref)
        if lost:  # others were on the same node, perhaps, and nobody has heard of it yet
            for slot in self._slots:
                self._ask(slot)
        for slot in list(self._slots):
            self._watch(slot, passed)

    def _hear(self, slot: _Slot, ref: Any) -> bool:
        """Acts on what a slot says. Returns whether that was lost, with its process."""
        try:
            said = self._ray.get(ref, timeout=self.hang_seconds)
        except self._ray.exceptions.RayTaskError as error:
            self._fail(slot, reason_for(error.cause or error), str(error))
        except self._ray.exceptions.RayError as error:
            self._lose(slot, error)
            return True
        else:
            if isinstance(said, Ready):
                self._welcome(slot, said)
            elif isinstance(said, Broken):
                self._remove(slot)
                self._not_started(said.reason, said.traceback)
            elif isinstance(said, Answer):
                self._finish(slot, said)
            elif isinstance(said, Overfull):
                self._remove(slot)
                self._try_again(slot, said.reason)
            else:
                self._judge(slot, *said)
        return False

    def _welcome(self, slot: _Slot, said: Ready) -> None:
        slot.start, self._failures = None, 0
        kind = "GPUs" if self.need.gpus else _kind(said.machine)
        if kind not in self._machines:
            self._machines.add(kind)
            if self._notice is not None:  # so that nobody expects equal numbers of this one
                kinds = " and ".join(sorted(self._machines))
                count = int(len(self._slots) * self.need.cpus)
                self._notice(MACHINE, {**said.machine, "hardware": f"{count} cores of {kinds}"})

    def _finish(self, slot: _Slot, answer: Answer) -> None:
        evaluation = answer.evaluation
        if isinstance(evaluation, Unkept):  # on the node's disk; another one may have room
            self._remove(slot)
            self._try_again(slot, str(evaluation.reason), last=evaluation)
            return
        slot.task = slot.work = slot.watch = None
        if answer.weights is not None and self._weights is not None:
            try:
                with replacing(weights_in(self._weights, evaluation.number)) as part:
                    part.write_bytes(answer.weights)
            except Unwritten as error:
                evaluation = unkept(evaluation.number, evaluation.seconds, error)
        self._done.append(evaluation)
        if "CUDA error" in (evaluation.traceback or ""):
            self._remove(slot)  # such errors stay with the process; the next one has another

    # --- what goes wrong --------------------------------------------------------------------------

    def _watch(self, slot: _Slot, passed: float) -> None:
        """Ends what has taken too long, and asks a slot at work whether it hangs, from time to
        time.
        """
        if slot.task is None:
            return
        slot.task.spent += passed
        if reason := slot.task.overdue():
            self._fail(slot, reason)
        elif slot.watch is not None:
            slot.unanswered += passed
            if slot.unanswered > self.hang_seconds:
                self._fail(slot, f"no answer for {self.hang_seconds:g} s: it hung, and was killed")
        elif time.monotonic() - slot.asked >= self.hang_seconds / 4:
            self._ask(slot)

    def _ask(self, slot: _Slot) -> None:
        """Whether it hangs, or is there at all. It gets no candidate before it has answered."""
        slot.asked, slot.unanswered = time.monotonic(), 0.0
        slot.watch = slot.actor.silence.remote(self.hang_seconds)

    def _judge(self, slot: _Slot, silence: float, where: str) -> None:
        slot.watch = None
        if silence > self.hang_seconds:
            reason = f"no batch for {self.hang_seconds:g} s: it hung, and was killed"
            self._fail(slot, reason, where)

    def _lose(self, slot: _Slot, error: Exception) -> None:
        """A process or its node is gone. Its candidate is tried once more; where it was not ready
        yet, a node that is gone says nothing of whether processes can start.
        """
        self._remove(slot)
        reason = cause(error)
        if slot.task is not None:
            self._try_again(slot, reason, str(error))
        elif not slot.ready and reason not in (_NODE_LOST, _NODE_TAKEN):
            self._not_started(last_line(str(error)) if _raised(error) else reason, str(error))

    def _try_again(
        self, slot: _Slot, reason: str, trace: str = "", last: Unkept | None = None
    ) -> None:
        """The candidate of a slot that is gone waits for another one; or, where it has lost two, it
        has failed, or has come to `last`.
        """
        task = slot.task
        assert task is not None  # it was at work
        task.attempts, task.spent = task.attempts + 1, 0.0
        if task.attempts >= ATTEMPTS:
            self._done.append(last or task.failed(f"its worker died twice: {reason}", trace))
            return
        if self._notice is not None:
            self._notice(WORKER_LOST, {"number": task.candidate.number, "reason": reason})
        self._queue.appendleft(task)

    def _not_started(self, reason: str, trace: str) -> None:
        """A slot came to nothing. Where none comes to something, candidates fail with the reason;
        where others do, the next one is begun the later the oftener that happens.
        """
        self._failures += 1
        pause = min(_LONGEST_PAUSE, 2.0**self._failures)
        if any(slot.ready for slot in self._slots):
            self._not_before = time.monotonic() + pause
        elif self._queue:
            self._queue[0].attempts += 1
            if self._queue[0].attempts >= ATTEMPTS:
                failed = self._queue.popleft().failed(f"no worker could start: {reason}", trace)
                self._done.append(failed)

    def _fail(self, slot: _Slot, reason: str, trace: str = "") -> None:
        """A slot's candidate has failed, and its process is ended."""
        self._remove(slot)
        if slot.task is not None:
            self._done.append(slot.task.failed(reason, trace))

    def _remove(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        self._end(slot)

    def _end(self, slot: _Slot) -> None:
        self._ray.kill(slot.actor, no_restart=True)


@dataclass(eq=False)
class _Slot:
    """An actor, and what it was asked."""

    actor: Any
    start: Any  # whether it is ready; None: it is
    task: Task | None = None
    work: Any = None  # what comes of the task
    watch: Any = None  # whether it hangs, or is there at all
    asked: float = 0.0  # when that was asked, as of `time.monotonic()`
    unanswered: float = 0.0  # seconds listened for the answer in vain

    @property
    def ready(self) -> bool:
        """Whether it has its measure."""
        return self.start is None

    @property
    def free(self) -> bool:
        """Whether it can be given a candidate."""
        return self.ready and self.task is None and self.watch is None

    def saying(self) -> Iterator[Any]:
        """What it has not answered yet."""
        return (ref for ref in (self.start, self.work, self.watch) if ref is not None)


def cause(error: Exception) -> str:
    """Why a process was lost, in few words of what Ray says in many."""
    said = str(error)
    if getattr(error, "preempted", False):
        return _NODE_TAKEN
    if type(error).__name__ == "OutOfMemoryError" or "memory monitor" in said:
        return "killed by the memory monitor of the cluster"
    if type(error).__name__ == "NodeDiedError" or "its node has died" in said:
        return _NODE_LOST
    return "its process or its node was killed, as the system does when memory runs out"


def _raised(error: Exception) -> bool:
    """Whether an actor's own beginning has raised something."""
    return bool(getattr(error, "actor_init_failed", False))


def _kind(machine: dict[str, str]) -> str:
    """The processor, as `machine.described` has it."""
    return machine["hardware"].partition(" cores of ")[2]
