"""`nanonas report` and `nanonas show`, on a run that nobody trained and on the one that comes
along.
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toys.report import entries, toy_run

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.commands.arguments import configured
from nanonas.commands.search import Search
from nanonas.config.files import configure, to_yaml
from nanonas.config.schema import Config
from nanonas.report import page, writing
from nanonas.runs import reading
from nanonas.runs.folder import RunFolder, find, search_seconds

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "notebooks" / "example_run"
EARLIER = ROOT / "tests" / "fixtures" / "example_run"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return toy_run(tmp_path_factory.mktemp("runs") / "toy", entries(40))


def test_report_writes_the_page_and_the_figures(
    toy: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(toy.path.parent)]) == 0  # a folder of runs: its newest
    said = capsys.readouterr().out
    assert (toy.path / "report.html").stat().st_size > 100_000
    assert f"{toy.path / 'report.html'}\n" in said
    assert len(list((toy.path / "figures").glob("*.png"))) >= 6


def test_elsewhere_and_without_figures(toy: RunFolder, tmp_path: Path) -> None:
    assert (
        cli.main(["report", str(toy.path), "--out", str(tmp_path / "new" / "folder"), "--no-png"])
        == 0
    )
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["report.html"]


def test_without_matplotlib_there_is_a_page_and_a_hint(
    toy: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.util.find_spec
    missing = lambda name, *more: None if name == "matplotlib" else real(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    assert cli.main(["report", str(toy.path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").exists()
    assert (
        "the figures as PNG need matplotlib: pip install 'nanonas[plots]'"
        in capsys.readouterr().out
    )


def test_it_starts_without_torch(toy: RunFolder, tmp_path: Path) -> None:
    code = (
        "import sys; from nanonas.cli import main; "
        f"code = main(['report', {str(toy.path)!r}, '--out', {str(tmp_path)!r}, '--no-png']); "
        "print(code, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert ran.stdout.splitlines()[-1] == "0 False", ran.stderr


@pytest.mark.parametrize("what", ["nowhere", "empty", "file"])
def test_what_is_no_run_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no run", encoding="utf-8")
    assert cli.main(["report", str(tmp_path / what)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nanonas: ")
    assert said.count("\n") == 1


def test_a_file_in_the_way_is_one_sentence(
    toy: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert cli.main(["report", str(toy.path), "--out", str(tmp_path / "file")]) == 2
    assert "cannot be made" in capsys.readouterr().err


def test_damaged_results_are_left_out(toy: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(toy.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    for name in ("final/result.json", "compare/table.json", "compare/equal-time.json"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text('{"half": ', encoding="utf-8")
    record = reading.read_record(run)
    assert (record.final, record.comparison, record.equal_time) == (None, (), None)


def test_a_search_ends_well_whatever_happens_to_its_report(
    toy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writing.write_at_end(toy) == toy.path / "report.html"
    monkeypatch.setattr(writing, "render", lambda *arguments: 1 / 0)
    assert writing.write_at_end(toy) is None
    monkeypatch.setattr(writing, "AT_END", 10)
    assert writing.write_at_end(toy) is None


def test_a_record_is_what_the_folder_holds(toy: RunFolder) -> None:
    record = reading.read_record(toy)
    assert record.name == "toy"
    assert [entry.candidate for entry in record.entries] == [
        entry.candidate for entry in entries(40)
    ]
    assert [entry.generation for entry in record.entries] == [n // 10 for n in range(40)]
    assert record.seconds == pytest.approx(search_seconds(toy))
    assert record.images["valid"] == 100


@pytest.mark.parametrize(
    "config",
    [
        configure(name="mine"),
        configure(data="my photos/of cats", inherit=True, flip=True, lag=3, max_params=10_000),
        configure(strategy="nsga2", objectives=("accuracy", "macs"), halving=3, time="1h30m"),
        configure(flip=False, seed=7, evaluations=30, final_epochs=0),
    ],
)
def test_the_command_repeats_the_run(config: Config, toy: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(toy.path, tmp_path / "a run")
    run = RunFolder(tmp_path / "a run")
    run.config.write_text(to_yaml(config), encoding="utf-8")
    words = shlex.split(reading._command(run, config, ()))
    assert words[:2] == ["nanonas", "search"]
    assert len(words) <= 6
    again = configured(Search, "search", words[2:])
    assert again.search == config.search
    name = None if config.run.name is None else f"{config.run.name}-again"
    assert again.run == replace(config.run, name=name)
    run.config.unlink()
    assert reading._command(run, config, ()) == ""


def test_show_draws_the_search_and_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(EXAMPLE)]) == 0
    said = capsys.readouterr().out
    assert "best so far" in said
    assert "█" in said
    assert "├── " in said
    assert "global pool" in said


def test_the_example_is_small() -> None:
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 500_000


def test_a_page_has_all_there_is_to_show() -> None:
    record = reading.read_record(find(EARLIER))
    text = page.render(Findings(record))
    keys = json.loads(text.split('id="plots">')[1].split("</script>")[0])
    assert {"trust", "inheritance", "credit", "tree"} <= set(keys)
    assert "trained alike" in text


def test_the_script_people_know(toy: RunFolder, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "scripts" / "visualize.py"),
        str(toy.path.parent),
        "--out",
        str(tmp_path),
    ]
    assert subprocess.run(command, capture_output=True, timeout=100).returncode == 0
    assert (tmp_path / "report.html").exists()
