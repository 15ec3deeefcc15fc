"""Worker processes: the same store as in one process, and one candidate lost at most."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from toys.engine import (
    SPACE,
    STRATEGIES,
    DeadOnArrival,
    Misbehaving,
    SteadyBest,
    Unloadable,
    UntilDeadline,
    by_number,
    environment,
    jittery,
    score,
    study,
)

from nanonas.core import Candidate, Evaluation, Measure, Proposal, State
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.study import Why
from nanonas.errors import InvalidInput, RunError
from nanonas.processes import memory_of

TOTAL = 20


def oracle(path: Path, strategy: str = "steady") -> list[object]:
    """The uninterrupted run of one process."""
    made = study(path, STRATEGIES[strategy](), SerialEvaluator(score))
    made.run(TOTAL)
    made.store.close()
    return by_number(path)


def candidate(number: int) -> Candidate:
    return Candidate(number, Proposal((1, 1, 1, 2)), f"key{number}")


def evaluate(
    measure: Measure, numbers: int = 4, slots: int = 2, **options: object
) -> dict[int, Evaluation]:
    """Evaluations of candidates 0 … numbers - 1."""
    with WorkerPool([measure] * slots, **options) as pool:  # type: ignore[arg-type]
        for number in range(numbers):
            pool.submit(candidate(number))
        results = [pool.result(timeout=20) for _ in range(numbers)]
        assert pool.result(timeout=0) is None
    return {result.number: result for result in results if result is not None}


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not: where no process reaps orphans, it is all that
    remains of one.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # gone meanwhile, or no Linux: asked again soon
        return not Path("/proc/self/stat").exists()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_workers_come_to_the_store_of_one_process(strategy: str, tmp_path: Path) -> None:
    with WorkerPool([jittery, jittery]) as pool:
        made = study(tmp_path / "two.db", STRATEGIES[strategy](), pool)
        made.run(TOTAL)
        made.store.close()
    assert by_number(tmp_path / "two.db") == oracle(tmp_path / "one.db", strategy)


def test_a_worker_that_is_killed_once_costs_nothing(tmp_path: Path) -> None:
    heard: list[tuple[str, Mapping[str, object]]] = []
    measure = Misbehaving(1, "kill", tmp_path, times=1)
    results = evaluate(measure, notice=lambda kind, details: heard.append((kind, details)))
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert {e.state for e in results.values()} == {State.COMPLETE}
    reason = "killed by SIGKILL, as the system does when memory runs out"
    assert heard == [("worker lost", {"number": 1, "reason": reason})]


@pytest.mark.parametrize(
    ("how", "begun", "reason"),
    [
        (
            "kill",
            2,
            "its worker died twice: killed by SIGKILL, as the system does when memory runs out",
        ),
        ("exit", 2, "its worker died twice: exited with code 3"),
        ("hang", 1, "no batch for 1 s: it hung, and was killed"),
        ("raise", 1, "ValueError: bad architecture"),
        ("memory", 1, "out of memory (MemoryError)"),
    ],
)
def test_what_a_measurement_does_costs_its_candidate_only(
    how: str, begun: int, reason: str, tmp_path: Path
) -> None:
    log = tmp_path / "workers.log"
    log.write_text("what was there before\n")
    results = evaluate(Misbehaving(1, how, tmp_path), hang_seconds=1.0, log=log)
    failed = results.pop(1)
    assert (failed.state, failed.reason) == (State.FAILED, reason)
    assert failed.seconds > 0
    assert sorted(results) == [0, 2, 3]
    assert {e.state for e in results.values()} == {State.COMPLETE}
    assert len(list(tmp_path.glob("begun-*"))) == begun
    assert log.read_text().startswith("what was there before")
    if how == "exit":
        assert failed.traceback == "these were my last words"
    if how in ("hang", "raise"):  # where it happened
        assert failed.traceback
        assert "in misbehave" in failed.traceback


def test_a_measurement_that_goes_on_for_ever_is_ended_where_a_limit_is_given() -> None:
    def most(candidate: Candidate) -> float | None:
        return 0.3 if candidate.number == 3 else None

    results = evaluate(UntilDeadline(3), timeout=most)
    failed = results.pop(3)
    reason = "still at work after 0.3 s: it was killed (--candidate-timeout)"
    assert (failed.state, failed.reason) == (State.FAILED, reason)
    assert failed.seconds > 0.3
    assert "in __call__" in (failed.traceback or "")  # where it was
    assert {e.state for e in results.values()} == {State.COMPLETE}


@pytest.mark.skipif(memory_of(os.getpid()) is None, reason="memory is watched on Linux alone")
@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_holds_too_much_memory_is_killed(times: int, tmp_path: Path) -> None:
    heard: list[str] = []
    results = evaluate(
        Misbehaving(1, "hoard", tmp_path, times),
        memory_mb=200.0,
        notice=lambda kind, details: heard.append(str(details["reason"])),
    )
    said = r"it held [0-9]+ MiB of memory, but may hold 200 \(--worker-memory-mb\)"
    assert len(heard) == 1
    assert re.fullmatch(said, heard[0])
    if times == 2:
        failed = results.pop(1)
        assert failed.state is State.FAILED
        assert re.fullmatch(f"its worker died twice: {said}", failed.reason or "")
    assert {e.state for e in results.values()} == {State.COMPLETE}


def test_output_does_not_reach_the_callers_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate(Misbehaving(1, "exit", tmp_path), numbers=2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        (
            Unloadable(),
            (
                "no worker could start: ModuleNotFoundError: No module named "
                "'a_module_that_is_not_there'"
            ),
        ),
        (DeadOnArrival(), "no worker could start: exited with code 5"),
    ],
)
def test_workers_that_cannot_start_say_why(measure: Measure, reason: str) -> None:
    results = evaluate(measure, numbers=2, slots=1)
    assert [e.reason for e in results.values()] == [reason] * 2
    assert {e.state for e in results.values()} == {State.FAILED}


def test_a_measure_that_cannot_be_sent() -> None:
    with pytest.raises(
        InvalidInput,
        match=r"cannot be sent to worker processes .*: define it at the top of a module",
    ):
        WorkerPool([lambda candidate, pulse: None])  # type: ignore[list-item,return-value]
    with pytest.raises(InvalidInput, match="needs one measure or more"):
        WorkerPool([])


def test_what_a_worker_finds_around_it() -> None:
    results = evaluate(environment, threads=3)
    assert {e.metrics["threads"] for e in results.values()} == {3.0}
    assert {e.metrics["ignores_interrupt"] for e in results.values()} == {1.0}
    assert len({e.metrics["pid"] for e in results.values()}) <= 2


def test_closing_kills_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    pool = WorkerPool([Misbehaving(0, "hang", tmp_path), score])
    pids = [slot.worker.child.process.pid for slot in pool._slots if slot.worker is not None]
    pool.submit(candidate(0))
    assert pool.result(timeout=0.5) is None
    start = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - start < 5
    assert not any(map(alive, pids))
    assert pool.result() is None
    with pytest.raises(RunError, match="is closed: make a new one"):
        pool.submit(candidate(1))


def test_the_deadline_reaches_the_workers(tmp_path: Path) -> None:
    with WorkerPool([UntilDeadline(3)] * 2) as pool:
        made = study(tmp_path / "d.db", SteadyBest(SPACE), pool)
        made.run(2)  # both workers have started, however long that took
        end = made.run(deadline=time.monotonic() + 2)
        states = [e.state for _, e in sorted(made.store.latest().items())]
        made.store.close()
    assert end.why is Why.DEADLINE
    assert states[-1] is State.CUT
    assert states == [State.COMPLETE] * (len(states) - states.count(State.CUT)) + [
        State.CUT
    ] * states.count(State.CUT)
    assert states.count(State.CUT) <= 2


RUN = """
    from pathlib import Path
    from toys.engine import SPACE, SteadyBest, jittery, study
    from nanonas.engine.evaluators.workers import WorkerPool

    print("the caller", flush=True)
    with WorkerPool([jittery] * 2) as pool:
        print(*(slot.worker.child.process.pid for slot in pool._slots), flush=True)
        made = study(Path({path!r}), SteadyBest(SPACE), pool)
        made.run({total}, observe=lambda progress: print(progress.evaluated, flush=True))
        made.store.close()
"""


def environment_with_toys() -> dict[str, str]:
    tests = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests, tests.parent)))}


@pytest.mark.parametrize("how", ["script", "stdin"])
def test_the_caller_is_not_run_again(how: str, tmp_path: Path) -> None:
    code = textwrap.dedent(RUN.format(path=str(tmp_path / "a.db"), total=TOTAL))
    script = tmp_path / "without_main_guard.py"
    script.write_text(code)
    command = [sys.executable, str(script)] if how == "script" else [sys.executable, "-"]
    done = subprocess.run(
        command,
        input=code if how == "stdin" else None,
        env=environment_with_toys(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("the caller") == 1
    assert by_number(tmp_path / "a.db") == oracle(tmp_path / "one.db")


@pytest.mark.parametrize("after", [0, 3, 11])
def test_a_killed_process_takes_its_workers_along_and_the_run_goes_on(
    after: int, tmp_path: Path
) -> None:
    code = textwrap.dedent(RUN.format(path=str(tmp_path / "a.db"), total=100_000))
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment_with_toys(), stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        for _ in range(after):
            parent.stdout.readline()
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, workers)))
    with WorkerPool([jittery] * 2) as pool:
        resumed = study(tmp_path / "a.db", SteadyBest(SPACE), pool)
        assert len(resumed.store.latest()) >= after  # what was acknowledged is there
        resumed.run(TOTAL)
        resumed.store.close()
    assert by_number(tmp_path / "a.db", TOTAL) == oracle(
        tmp_path / "one.db"
    )  # the killed one may have gone further


def test_a_worker_that_hangs_ends_with_its_parent(tmp_path: Path) -> None:
    code = f"""
    from pathlib import Path
    from toys.engine import Misbehaving, SPACE, SteadyBest, study
    from nanonas.engine.evaluators.workers import WorkerPool

    pool = WorkerPool([Misbehaving(0, "hang", Path({str(tmp_path)!r}))])
    print(pool._slots[0].worker.child.process.pid, flush=True)
    study(Path({str(tmp_path / "a.db")!r}), SteadyBest(SPACE), pool).run(1)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, env=environment_with_toys(), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        wait_until(lambda: any(tmp_path.glob("begun-*")))
        assert alive(worker)
        parent.kill()
    wait_until(lambda: not alive(worker))


def test_a_measure_of_the_script_itself_is_explained() -> None:
    code = """
    from toys.engine import score
    from nanonas.core import Candidate, Proposal
    from nanonas.engine.evaluators.workers import WorkerPool

    def measure(candidate, pulse):
        return score(candidate, pulse)

    with WorkerPool([measure]) as pool:
        pool.submit(Candidate(0, Proposal((1, 1, 1, 1)), "key"))
        print(pool.result().reason)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    said = subprocess.run(
        command, env=environment_with_toys(), capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("no worker could start: AttributeError: ")
    assert said.endswith("; define it in a module, not in the script itself\n")
