"""`nanonas control`: what is asked of a run from outside, from the command line to the store."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console
from toys.session import begun

from nanonas import cli
from nanonas.config.schema import SpaceOptions
from nanonas.engine.storage.events import REQUEST_REFUSED, REQUEST_TAKEN
from nanonas.engine.storage.store import RunStore
from nanonas.errors import GenomeError
from nanonas.runs.asking import genome_in
from nanonas.runs.folder import RunFolder, search_seconds
from nanonas.runs.reading import read_record
from nanonas.terminal.progress import SearchProgress

TINY = (
    "--data digits --train-images 100 --space nano --channels 3 --length 4 --population 3 --lag 2 "
    "--device cpu"
)
QUICK = f"{TINY} --strategy aging --epochs 1 --workers 1 --final-epochs 0"


def search(out: Path, name: str, more: str) -> Path:
    assert cli.main(["search", *f"{QUICK} --out {out} --name {name} {more}".split()]) == 0
    return out / name


def control(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    code = cli.main(["control", str(run), *words])
    said = capsys.readouterr()
    assert code == (2 if said.err else 0)
    return said.err or said.out


def by_number(run: Path) -> list[object]:
    with RunStore.read(run / "study.db") as store:
        accuracies = {number: e.accuracy for number, e in store.latest().items()}
        return [(c, accuracies[c.number]) for c in store.candidates()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three candidates. What is asked of it must be withdrawn, or answered by one test alone."""
    return search(tmp_path_factory.mktemp("outputs"), "run", "--evaluations 3")


def test_requests_wait_for_a_search_that_resumes_and_another_run_repeats_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = f"no search is running; it waits until `nanonas resume {run}`"
    assert control(run, capsys, "ban", "zero").strip() == f"ban zero: {waits}"
    assert control(run, capsys, "ban", "conv9x9").strip() == f"ban conv9x9: {waits}"
    assert control(run, capsys, "plant", "0,0,0,1").strip() == f"plant [0, 0, 0, 1]: {waits}"
    assert len(list((run / "requests").iterdir())) == 3
    assert cli.main(["resume", str(run), "--evaluations", "8"]) == 0
    said = capsys.readouterr().out
    assert "zero is banned from candidate #3 on" in said
    assert "refused: the space 'nano' has no operation 'conv9x9'; it has conv3x3, conv1x1, " in said
    assert list((run / "requests").iterdir()) == []
    with RunStore.read(run / "study.db") as store:
        found = store.candidates()
        kinds = [
            event.kind for event in store.events() if event.kind in (REQUEST_TAKEN, REQUEST_REFUSED)
        ]
    assert kinds == [REQUEST_TAKEN, REQUEST_REFUSED, REQUEST_TAKEN]
    assert [c.number for c in found if c.proposal.planted] == [3]
    assert found[3].proposal.genome == (0, 0, 0, 1)
    assert all(7 not in c.proposal.genome for c in found[3:])
    assert read_record(RunFolder(run)).command.endswith(f"--requests-of {run}")
    again = search(run.parent, "again", f"--evaluations 8 --workers 2 --requests-of {run}")
    assert by_number(again) == by_number(run)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause", "now"], "control pause takes no further word, but was given 'now'"),
        (["ban"], "control ban takes one more word; see `nanonas control --help`"),
        (["plant", "nothing.json"], "there is no genome file 'nothing.json'"),
        (
            ["plant", "0,x"],
            (
                "a genome must be a list of whole numbers, such as [0, 1, 2, 3], or a genome's "
                "file, "
                "but is"
            ),
        ),
        (["stop"], "stop"),
    ],
)
def test_what_cannot_be_asked(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in control(run, capsys, *words)
    assert not (run / "requests").exists() or not list((run / "requests").iterdir())


def test_requests_of_another_space_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"search {QUICK} --length 5 --out {run.parent} --name other --requests-of {run}".split()
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert (
        f"--requests-of {run} is a run over the space nano {{'channels': 3, 'length': 4}}, whose "
        "genomes are" in said
    )
    assert not (run.parent / "other").exists()


def test_while_it_is_paused_the_line_says_so_and_the_time_left_stands_still() -> None:
    class Paused:
        paused, paused_seconds = True, 50.0

    progress = SearchProgress(Console(file=io.StringIO()))
    progress.begun(begun(deadline=time.monotonic() + 10, study=Paused()))
    assert 59 < (progress.seconds_left() or 0) <= 60
    assert progress._line() == "paused · 1m 00s left"


def test_genomes_that_people_write_down(run: Path) -> None:
    config = SpaceOptions("nano", channels=3, length=4)
    contents = (run / "best_genome.json").read_text()
    assert genome_in("0, 1,2", config) == genome_in("[0,1,2]", config) == (0, 1, 2)
    assert genome_in(contents, config) == tuple(json.loads(contents)["genome"])
    other = (
        "the genome is of the space nano with {'channels': 3, 'length': 4}, but this run searches "
    )
    with pytest.raises(GenomeError, match=f"{other}layers; plant one of its own"):
        genome_in(contents, SpaceOptions("layers"))
    with pytest.raises(
        GenomeError, match=f"{other}nano with {{'channels': 48, 'length': 6}}; plant"
    ):
        genome_in(contents, SpaceOptions("nano"))
    for wrong in ("", "[]", "{}", "1.5", "true", "[[1]]", "[" * 5000, '{"genome": [1]}'):
        with pytest.raises(GenomeError, match="a genome must be a list of whole numbers"):
            genome_in(wrong, config)


def test_pauses_are_no_time_of_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    moments = [
        *(
            (0, "started", {}),
            (10, REQUEST_TAKEN, {"what": "pause"}),
            (70, REQUEST_TAKEN, {"what": "ban"}),
            (90, REQUEST_TAKEN, {"what": "resume"}),
        ),
        *(
            (95, REQUEST_TAKEN, {"what": "ban"}),
            (100, REQUEST_TAKEN, {"what": "pause"}),
            (150, "interrupted", {}),
        ),
        *((1000, "started", {}), (1020, "ended", {})),
    ]
    now = [0.0]
    with RunStore.begin(folder.store, {"search": {}}) as store:
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        for now[0], kind, details in moments:
            asked = {"id": "a", "first": 0} if kind == REQUEST_TAKEN else {}
            store.event(kind, {**asked, **details})
        monkeypatch.undo()
    assert search_seconds(folder) == 10 + 10 + 20
