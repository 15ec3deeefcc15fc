"""What strangers have sent once, or would: each is refused in a sentence, and leaves no trace."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import struct
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from toys.hostile.formats import NAMES, RULE, RUN
from toys.hostile.mutations import Trace, npy
from toys.storage import filled

from nanonas.config.files import read_yaml
from nanonas.data.arrays import read_arrays
from nanonas.data.sources.npz import Npz
from nanonas.data.sources.pixels import Encoded, opened_image
from nanonas.engine.storage.carving import carved
from nanonas.engine.storage.integrity import examined
from nanonas.engine.storage.opening import fetched
from nanonas.engine.storage.salvage import salvaged
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, DataError, GenomeError, RunError
from nanonas.files import contents, parsed_json, read_json
from nanonas.runs import models
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import read_genome
from nanonas.runs.reading import read_final

# --- files and texts ------------------------------------------------------------------------------


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "genome.json"
    os.mkfifo(pipe)
    with pytest.raises(GenomeError, match="it is no file, but a pipe"):
        read_genome(pipe)
    with pytest.raises(ValueError, match="a pipe"):
        opened_image(Encoded("a.png", pipe))
    assert read_json(pipe) is None
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"b.png cannot be read: .*it is no file"):
        RULE.pixels(tmp_path / "b.png")


def test_a_text_has_a_length_and_a_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"1234")
    assert contents(path, most=4) == b"1234"
    with pytest.raises(ValueError, match="more than 3 bytes"):
        contents(path, most=3)
    assert parsed_json("[" * 64 + "]" * 64) == json.loads("[" * 64 + "]" * 64)
    for text in ("[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65, "[" * 10**6):
        with pytest.raises(ValueError, match="more than 64 lists and objects"):
            parsed_json(text)


def genome_with(path: Path, **values: Any) -> Path:
    known = json.loads((RUN / "best_genome.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps({**known, **values}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"input_shape": [1, 10**9, 10**9]}, "each 4,096 at most"),
        ({"class_names": ["a"] * 200_000}, "100,001 names at most, but are 200,000"),
        (
            {"space": "nano", "options": {"channels": 10**12, "length": 2}, "genome": [0, 1]},
            "channels is 1000000000000, but must be less than or equal to 1024",
        ),
        (
            {
                "space": "nano",
                "options": {"channels": 1024, "length": 2},
                "genome": [0, 1],
                "input_shape": [1, 4096, 4096],
            },
            r"would take [0-9,.]+ GiB for one image, but 2 GiB are the most",
        ),
        ({"preprocessing": {**RULE.to_json(), "input_shape": [1, 8, 10**9]}}, "asks for images"),
        ({"x" * 100_000: 1}, "has an unknown field 'xxxx"),
    ],
    ids=["side", "classes", "channels", "memory", "rule", "name"],
)
def test_a_genome_asks_for_no_more_than_there_is(
    values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(GenomeError, match=said) as caught:
        read_genome(genome_with(tmp_path / "genome.json", **values))
    assert len(str(caught.value)) < 1000


def test_a_genome_names_no_weights_outside_its_run(tmp_path: Path) -> None:
    for name in ("../secret.safetensors", "/etc/secret.safetensors", "weights/../../a", "a\0b"):
        genome_with(tmp_path / "best_genome.json", known={"candidate": 3, "weights": name})
        with pytest.raises(RunError, match="leads elsewhere"):
            models.best(RunFolder(tmp_path))
    genome_with(tmp_path / "best_genome.json", known={"candidate": 3})
    assert models.best(RunFolder(tmp_path)).weights == tmp_path / "weights" / "3.safetensors"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
            for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "search: {seed: !!int ''}",
        "search: {seed: !!bool maybe}",
        "search: {seed: !!timestamp x}",
        "search: {seed: 2001-99-99}",
        "[" * 1500,
        "search: !!python/object/apply:os.mkdir [hostile]",
        "#" * 200_000,
    ],
    ids=["aliases", "int", "bool", "timestamp", "date", "deep", "object", "long"],
)
def test_yaml_is_plain_values(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(tmp_path / "config.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_name_may_stand_for_a_single_value_of_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("search: {lr: &rate 0.2, bias_lr: *rate}", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml").search.training.bias_lr == 0.2


@pytest.mark.parametrize("values", [5, [1], {"test_accuracy": 7}, {"test_accuracy": "0.5"}])
def test_a_result_that_no_training_writes_is_left_out(values: object, tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "result.json").write_text(json.dumps(values), encoding="utf-8")
    assert read_final(RunFolder(tmp_path), NAMES)["final"] is None


# --- stores ---------------------------------------------------------------------------------------

PROGRAMS = {
    "view": "CREATE VIEW mine AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT x FROM c",
    "trigger": "CREATE TRIGGER mine AFTER INSERT ON event BEGIN DELETE FROM run; END",
    "column": "ALTER TABLE event ADD COLUMN mine TEXT AS (hex(zeroblob(100000000)))",
    "index": "CREATE INDEX mine ON event (hex(zeroblob(9)))",
    "table": "CREATE TABLE mine (x)",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_store_has_no_programs(program: str, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    filled(path, 3)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(PROGRAMS[program])
    for opened in (RunStore.read, RunStore.resume):
        with pytest.raises(RunError, match="its tables are not those of a run's store"):
            opened(path)
    assert examined(path) == ["its tables are not those of a run's store"]


def test_more_rows_than_a_file_has_room_for_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    filled(path, 3)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    with (
        closing(sqlite3.connect(path)) as db,
        pytest.raises(sqlite3.DatabaseError, match="more rows than it has room for"),
    ):
        fetched(db.execute(endless), path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE candidate SET number = 9 WHERE number = 2",
        "UPDATE candidate SET key = x'00ff'",
        "UPDATE candidate SET asked_after = 'x'",
        'UPDATE candidate SET proposal = \'{"genome": [1], "parents": ["a"], "budget": null}\'',
        "UPDATE candidate SET proposal = '[]'",
        "UPDATE evaluation SET number = 77 WHERE seq = 2",
        "UPDATE evaluation SET metrics = '[]'",
        'UPDATE evaluation SET metrics = \'{"accuracy": "high"}\'',
        "UPDATE evaluation SET curve = '[[1]]'",
        "UPDATE evaluation SET seconds = 'x'",
        "UPDATE event SET details = '[1]'",
        "UPDATE event SET kind = 'finalists'",
        "UPDATE event SET kind = 'experience judged'",
        "UPDATE event SET kind = 'begun with', details = "
        '\'{"digest": "0", "tasks": [{"input_shape": [], "classes": 2}]}\'',
        "UPDATE event SET time = 'x'",
        "DELETE FROM run",
        "UPDATE run SET config = '[]'",
        "UPDATE run SET config = '{\"search\": []}'",
        "UPDATE run SET created = 'x'",
    ],
)
def test_a_row_that_nanonas_did_not_write_is_said(change: str, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    filled(path, 3)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(change)
    assert examined(path) or change.startswith("DELETE")  # of bytes, too, there is a checksum
    with (
        pytest.raises(RunError, match=r"did not write|is damaged"),
        RunStore.read(path) as store,
    ):
        store.told(), store.events(), store.config, store.created
    salvaged(path)


def test_cells_that_lie_in_each_other_are_no_rows_without_end() -> None:
    record = b"\x02\x61" + bytes(42)  # one blob of 42 bytes
    cell = bytes([len(record), 1]) + record
    page = bytearray(4096)
    page[-len(cell) :] = cell
    page[0:1], page[3:5] = b"\x0d", struct.pack(">H", 2000)
    for place in range(8, 4008, 2):
        page[place : place + 2] = struct.pack(">H", 4096 - len(cell))
    rows = list(carved(bytes(4096) + bytes(page)))
    assert 1 <= len(rows) <= 4096 // len(record)


# --- archives -------------------------------------------------------------------------------------


def packed(path: Path, kind: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_a_list_of_a_million_arrays_is_not_read(tmp_path: Path) -> None:
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", *[0] * 16)
    entries = entry * 60_000
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 60_000, 60_000, len(entries), 0, 0)
    path = tmp_path / "a.npz"
    path.write_bytes(entries + end)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="its list of arrays has 2,760,000 bytes"):
            read_arrays(path)
        with pytest.raises(DataError, match="its list of arrays has 2,760,000 bytes"):
            Npz(path).decode(None, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_data_set_that_unpacks_to_more_than_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path / "a.npz", x_train=npy("|u1", "(4000, 32, 32)", bytes(4_096_000)))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("nanonas.data.sources.npz.free_memory", lambda: 10**6)
    with pytest.raises(DataError, match="bytes, but 1,000,000 are the most"):
        Npz(path).decode(None, tmp_path)


def test_an_array_that_says_more_than_it_holds_is_not_allocated(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.npz", x_train=npy("|u1", "(1000000, 1000000)", bytes(9)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"an array of \(1000000, 1000000\) values"):
            Npz(path).decode(None, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_pickles_in_archives_leave_no_trace(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = pickle.dumps(Trace(trace))
    for name in ("x_train", "y_train"):
        members = {name: npy("|O", "(1,)", content)}
        path = packed(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, **members)
        with pytest.raises(DataError, match="never unpickled"):
            Npz(path).decode(None, tmp_path)
        with pytest.raises(DataError, match="an array holds object"):
            read_arrays(path)
    assert not trace.exists()


def test_arrays_are_packed_as_numpy_packs_them_and_have_one_name_each(tmp_path: Path) -> None:
    array = npy("|u1", "(3,)", b"abc")
    with pytest.raises(DataError, match="in a way that numpy never uses"):
        read_arrays(packed(tmp_path / "a.npz", zipfile.ZIP_LZMA, a=array))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", array)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", array)
    with pytest.raises(DataError, match="two arrays of one name"):
        read_arrays(tmp_path / "b.npz")
    assert read_arrays(packed(tmp_path / "c.npz", a=array))["a"].tolist() == [97, 98, 99]


def test_a_sentence_does_not_quote_a_whole_archive(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.npz", zipfile.ZIP_STORED, a=npy("|u1", "(900,)", bytes(900)))
    content = bytearray(path.read_bytes())
    content[26:28] = struct.pack("<H", 900)  # the length of the name beside the array
    path.write_bytes(content)
    with pytest.raises(DataError, match="File name in directory") as caught:
        read_arrays(path)
    assert len(str(caught.value)) < 700
