"""What is added in one place: a verb is a file, an objective an entry of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest

from nanonas import cli, commands
from nanonas.config.parts import OBJECTIVES, ObjectiveEntry
from nanonas.core import Objective
from nanonas.engine.storage.store import RunStore
from nanonas.runs.genome import read_genome

VERB = '''
"""nanonas greet"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Greet:
    """Greets whom it is told to."""

    name: str = "world"
    """Who is greeted."""
    times: int = 1
    """How often."""


def greet(arguments: Sequence[str]) -> None:
    given = parse(Greet, "greet", arguments)
    at_least(1, times=given.times)
    if not given.name:
        raise ConfigError("--name is '', but must be a name; leave it out for the world")
    print("\\n".join([f"hello, {given.name}"] * given.times))


VERB = Verb(Greet, greet)
'''


@pytest.fixture
def greet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more file among the commands."""
    (tmp_path / "greet.py").write_text(VERB, encoding="utf-8")
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    yield
    sys.modules.pop("nanonas.commands.greet", None)


@pytest.mark.usefixtures("greet")
def test_a_verb_is_in_the_help_behind_those_that_come_along(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 0
    verbs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  nanonas ")]
    assert verbs[-1] == "  nanonas greet     Greets whom it is told to."
    assert verbs[0].startswith("  nanonas search ")


@pytest.mark.usefixtures("greet")
def test_a_verb_has_its_page_runs_and_ends_with_2_for_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["greet", "--name", "you", "--times", "2"]) == 0
    assert capsys.readouterr().out == "hello, you\nhello, you\n"
    with pytest.raises(SystemExit) as ended:
        cli.main(["greet", "--help"])
    assert ended.value.code == 0
    assert "Who is greeted." in capsys.readouterr().out
    for wrong, sentence in {
        "--times 0": "--times must be 1 or more, but is 0",
        "--name=": "--name is '', but must be a name; leave it out for the world",
    }.items():
        assert cli.main(["greet", *wrong.split()]) == 2
        assert capsys.readouterr().err == f"nanonas: {sentence}\n"
    assert cli.main(["greet", "--tims", "2"]) == 2
    assert cli.main(["gret"]) == 2
    assert "'gret' is no verb of nanonas; did you mean 'greet'?" in capsys.readouterr().err


def test_only_the_verb_that_is_asked_for_is_imported(
    greet: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("nanonas.commands.")]:
        if name != "nanonas.commands.arguments":
            monkeypatch.delitem(sys.modules, name)
    assert cli.main(["greet"]) == 0
    imported = {name for name in sys.modules if name.startswith("nanonas.commands.")}
    assert imported == {"nanonas.commands.arguments", "nanonas.commands.greet"}


def test_an_objective_is_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = (
        "search --data digits --train-images 40 --space nano --channels 2 --length 3 --epochs 1 "
        "--population 2 --evaluations 4 --workers 1 --device cpu --final-epochs 0 --strategy nsga2 "
        f"--objectives accuracy depth --out {tmp_path} --name run"
    )
    assert cli.main(search.split()) == 2
    assert "search.objectives has 'depth', which is unknown" in capsys.readouterr().err
    depth = ObjectiveEntry(Objective("depth", maximize=False), count=attrgetter("depth"))
    monkeypatch.setitem(OBJECTIVES, "depth", depth)
    assert cli.main(search.split()) == 0
    assert "the best trade-offs of accuracy and depth" in capsys.readouterr().out
    files = [read_genome(path) for path in (tmp_path / "run" / "front").glob("*.json")]
    assert files
    assert all(file.known["depth"] == file.network().depth for file in files)
    with RunStore.read(tmp_path / "run" / "study.db") as store:
        points = [(e.accuracy or 0, -e.metrics["depth"]) for e in store.latest().values()]
    front = {p for p in points if not any(q != p and min(map(_ahead, q, p)) for q in points)}
    assert {(file.known["accuracy"], -file.known["depth"]) for file in files} <= front


def _ahead(ours: float, theirs: float) -> bool:
    return ours >= theirs
