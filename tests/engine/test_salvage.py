"""What is saved of a damaged store is true: the oracle is the store before the damage."""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from toys.storage import PAGE, Truth, as_format, by_hand, damage, filled, is_subsequence, truth

from nanonas.engine.storage import integrity
from nanonas.engine.storage.carving import carved
from nanonas.engine.storage.integrity import examined
from nanonas.engine.storage.rows import run_row
from nanonas.engine.storage.salvage import rows_of, salvaged
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError

CANDIDATES = 60


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "study.db"
    filled(path, CANDIDATES)
    return path


@pytest.fixture(scope="module")
def known(kept: Path) -> Truth:
    return truth(kept)


@pytest.fixture
def path(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(kept, tmp_path / "study.db"))


def saved(path: Path, place: Path) -> Truth:
    """What is saved of a store, read back from a new one."""
    found = salvaged(path)
    config = found.run or run_row({}, 0.0, "")
    RunStore.restore(place, (*config[:3], None), rows_of(found))
    again = truth(place)
    with RunStore.resume(place) as store:
        assert store.candidates() == again.candidates
    return again


def require_true(part: Truth, whole: Truth) -> None:
    assert part.candidates == whole.candidates[: len(part.candidates)]
    assert is_subsequence([*part.evaluations], [*whole.evaluations])
    assert is_subsequence([*part.events], [*whole.events])


def test_every_row_of_a_whole_file_is_found_without_sqlite(kept: Path) -> None:
    with closing(sqlite3.connect(kept)) as db:
        for table, number in (("candidate", "number"), ("evaluation", "seq"), ("event", "seq")):
            expected = db.execute(f"SELECT {number}, * FROM {table}").fetchall()
            rows = Counter((row.rowid, row.values[1:]) for row in carved(kept.read_bytes()))
            assert all(rows[rowid, tuple(values)] == 1 for rowid, _, *values in expected)


def test_a_whole_store_is_saved_whole(path: Path, known: Truth, tmp_path: Path) -> None:
    assert saved(path, tmp_path / "new.db") == known
    assert examined(path) == []


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_store_of_an_earlier_format_is_saved_whole(
    path: Path, tmp_path: Path, version: int
) -> None:
    as_format(path, version)
    before = truth(path)
    assert saved(path, tmp_path / "new.db") == before
    assert salvaged(path).unsure == len(before.candidates + before.evaluations + before.events) + 1
    assert examined(path) == []


def test_what_only_the_log_holds_is_saved(kept: Path, known: Truth, tmp_path: Path) -> None:
    """As where a process was killed: nothing but its beginning is in the file itself."""
    with closing(sqlite3.connect(kept)) as db, RunStore.begin(tmp_path / "live.db", {}) as store:
        db.row_factory = None
        for table in ("candidate", "evaluation", "event"):
            for row in db.execute(f"SELECT * FROM {table}").fetchall():
                store._insert(table, row)
        for name in ("", "-wal"):
            shutil.copy(f"{tmp_path / 'live.db'}{name}", f"{tmp_path / 'study.db'}{name}")
    assert (tmp_path / "study.db").stat().st_size < 3 * PAGE
    part = saved(tmp_path / "study.db", tmp_path / "new.db")
    assert (part.candidates, part.evaluations) == (known.candidates, known.evaluations)
    (tmp_path / "study.db").unlink()  # and the log alone is enough
    assert saved(tmp_path / "study.db", tmp_path / "other.db") == part


def without_header(content: bytes) -> bytes:
    return bytes(100) + content[100:]


def without_first_page(content: bytes) -> bytes:
    return bytes(PAGE) + content[PAGE:]


@pytest.mark.parametrize("lose", [without_header, without_first_page])
def test_a_lost_header_costs_nothing(
    path: Path, known: Truth, tmp_path: Path, lose: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(lose(path.read_bytes()))
    assert examined(path)
    with pytest.raises(
        RunError, match=r"is damaged \(.*\): `nanonas rescue .* saves 60 candidates"
    ):
        RunStore.resume(path)
    assert saved(path, tmp_path / "new.db") == known


def accident(kept: Path, known: Truth, folder: Path, seed: int) -> bool:
    """Damages a store in one or several ways. Returns whether anything was lost; what is saved must
    be true, and a loss must be noticed.
    """
    rng, path = random.Random(seed), folder / "study.db"
    content = kept.read_bytes()
    for _ in range(rng.choice([1, 1, 2, 5])):
        content = damage(content, rng)
    path.write_bytes(content)
    part = saved(path, folder / f"new{seed}.db")
    require_true(part, known)
    lost = part != known
    assert not lost or content == b"" or examined(path), "nobody notices"
    assert path.read_bytes() == content
    return lost


def test_after_an_accident_what_is_saved_is_true(kept: Path, known: Truth, tmp_path: Path) -> None:
    lost = [accident(kept, known, tmp_path, seed) for seed in range(25)]
    assert any(lost)
    assert not all(lost)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_after_a_thousand_accidents_what_is_saved_is_true(
    kept: Path, known: Truth, tmp_path: Path
) -> None:
    for seed in range(1000, 2000):
        accident(kept, known, tmp_path, seed)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("candidate", "asked_after = asked_after + 1"),
        ("evaluation", "metrics = replace(metrics, '0.', '0.9')"),
        ("evaluation", "seconds = seconds + 1"),
        ("evaluation", "seq = seq + 50"),
        ("event", "kind = 'resumed'"),
        ("event", "seq = seq + 50"),
        ("run", "config = replace(config, '7', '8')"),
    ],
)
def test_a_row_that_was_changed_is_noticed_where_sqlite_sees_nothing(
    path: Path, known: Truth, tmp_path: Path, table: str, change: str
) -> None:
    with by_hand(path, checksums=True) as db:
        db.execute(f"UPDATE {table} SET {change} WHERE rowid = (SELECT MAX(rowid) FROM {table})")
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (wrong,) = examined(path)
    assert wrong.startswith(f"the row {table}")
    assert wrong.endswith("is not what was written")
    with pytest.raises(RunError, match="is not what was written"):
        RunStore.resume(path)
    refused = pytest.raises(RunError, match=r"is not what was written.*`nanonas rescue .* saves ")
    with RunStore.read(path) as store, refused:
        store.require_unchanged()
    require_true(saved(path, tmp_path / "new.db"), known)
    assert salvaged(path).changed == 1


def test_a_name_that_is_no_text_is_damage(path: Path, known: Truth, tmp_path: Path) -> None:
    """SQLite's own message cannot be decoded then."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE candidate", b"CREATE TABL\xe1 candidate"))
    assert examined(path)
    with pytest.raises(RunError, match=r"is damaged \(.*`nanonas rescue .* saves 60 candidates"):
        RunStore.resume(path)
    assert saved(path, tmp_path / "new.db") == known


class Endless:
    """A connection to a file that takes forever to look at."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()

    def execute(self, query: str) -> None:
        assert self.interrupted.wait(10)
        raise sqlite3.OperationalError("interrupted")

    def interrupt(self) -> None:
        self.interrupted.set()


def test_looking_at_pages_ends_when_its_time_is_over() -> None:
    assert integrity._pages(Endless(), 0.01, full=False) == []  # type: ignore[arg-type]


def test_what_is_no_store_is_empty(tmp_path: Path) -> None:
    rng = random.Random(3)
    for content in (b"", b"hello" * 1000, rng.randbytes(20_000), b"\x0d" * 20_000):
        (tmp_path / "study.db").write_bytes(content)
        assert salvaged(tmp_path / "study.db").empty


def test_a_row_that_claims_to_be_huge_takes_no_memory() -> None:
    """A leaf whose cells say that they go on for gigabytes, over pages that lead in a circle."""
    cell = b"\xff" * 8 + b"\x7f" + b"\x01" + bytes(4000)
    page = bytes([0x0D, 0, 0, 0, 1, 0, 0, 0, 0, 16]).ljust(16, b"\0") + cell
    endless = bytes([0, 0, 0, 2]) + bytes(PAGE - 4)
    long = bytes([0x0D, 0, 0, 0, 1, 0, 0, 0, 0, 16]).ljust(16, b"\0") + b"\x87\xff\xff\x7f\x01"
    content = bytes(PAGE) + endless + page.ljust(PAGE, b"\0")[:PAGE] + long.ljust(PAGE, b"\2")
    assert list(carved(content)) == []
