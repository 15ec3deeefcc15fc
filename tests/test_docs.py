"""What the documentation shows works: its Python runs, its commands parse, its links lead
somewhere.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from rich.console import Console

import nanonas
from nanonas import cli
from nanonas.commands.arguments import configured, parse
from nanonas.config.files import configure
from nanonas.networks import OPS
from nanonas.session.start import begin
from nanonas.terminal.live import live
from nanonas.training.modules import MODULES

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*/*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TINY = {
    "data": "digits",
    "population_size": 2,
    "generations": 1,
    "epochs": 1,
    "train_images": 40,
    "quiet": True,
}


def blocks(page: Path, language: str) -> list[str]:
    return [
        code for kind, code in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language
    ]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands() -> list[Any]:
    found = []
    for page in PAGES:
        lines = [
            line for code in blocks(page, "sh") for line in code.replace("\\\n", " ").splitlines()
        ]
        for code in blocks(page, "yaml"):  # of a cluster
            lines += re.findall(r"^ *entrypoint: (.*)$", code, re.MULTILINE)
        for line in lines:
            words = shlex.split(line, comments=True)
            # behind "--", where another program begins it
            words = words[words.index("--") + 1 :] if "--" in words else words
            if words[:1] == ["nanonas"]:
                found.append(pytest.param(words[1:], id=f"{name(page)}: {' '.join(words)}"[:90]))
    return found


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smallest of runs in it, trained winner included, and beside it what was
    said of it.
    """
    folder = tmp_path_factory.mktemp("docs")
    config = configure(
        data="digits",
        space="nano",
        channels=2,
        length=2,
        strategy="evolution",
        population=2,
        epochs=1,
        train_images=40,
        precision="float32",
        evaluations=3,
        final_epochs=1,
        workers=1,
        device="cpu",
        out=folder / "outputs",
        name="small",
        explain=True,
    )
    with contextlib.redirect_stdout(io.StringIO()) as said:
        begin(config, live(Console(width=500), explain=True))
    (folder / "said.txt").write_text(said.getvalue(), encoding="utf-8")
    return folder / "outputs"


def test_explain_tells_a_real_search(run: Path) -> None:
    said = (run.parent / "said.txt").read_text(encoding="utf-8")
    titles = [line for line in said.splitlines() if line.startswith(("Generation", "Looking back"))]
    assert titles == ["Generation 1", "Generation 2", "Looking back"]
    assert "  2 networks were drawn at random, for nothing is known yet." in said
    assert "  1 child was bred: 1 by a change to one parent." in said
    assert "new best" not in said  # the narrator says so
    assert "\N{NO-BREAK SPACE}%" in said


@pytest.mark.filterwarnings("default")  # other people's, at most
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_runs(
    page: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's blocks, one after the other in a folder that has a run in it; searches are tiny
    whatever they say.
    """
    codes = blocks(page, "python")
    if any("frames" in code for code in codes):
        pytest.importorskip("pandas", reason="frames need pandas: pip install 'nanonas[notebook]'")
    shutil.copytree(run, tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    real = nanonas.nano_nas

    def tiny(*given: Any, **named: Any) -> Any:
        bound = inspect.signature(real).bind(*given, **named).arguments
        settings = {**bound.pop("settings", {}), "channels": 2, "length": 2, "workers": 1}
        data = {"data": named["data"]} if Path(str(named.get("data"))).exists() else {}
        return real(
            **{**bound, **TINY, **data, "space": "nano", "out": tmp_path / "tiny", **settings}
        )

    monkeypatch.setattr(nanonas, "nano_nas", tiny)
    search = nanonas.search
    short = {"time": "1s", "workers": 1, "quiet": True}
    monkeypatch.setattr(nanonas, "search", lambda data, **given: search(data, **given | short))
    space: dict[str, Any] = {"__name__": "page"}
    monkeypatch.setitem(
        __import__("sys").modules, "page", type(nanonas)("page")
    )  # dataclasses look their module up
    with patch.dict(OPS), patch.dict(MODULES):  # a page may add an operation
        for place, code in enumerate(codes):
            exec(compile(code, f"{name(page)}, block {place + 1}", "exec"), space)


@pytest.mark.parametrize("words", commands())
def test_a_command_parses(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if "--config" in words and not Path(words[words.index("--config") + 1]).exists():
        words = [
            word for place, word in enumerate(words) if place not in places_of("--config", words)
        ]  # some run's own
    if words[0].startswith("-"):
        return
    verb = words[0]
    assert verb in cli.verbs()
    flags = importlib.import_module(f"nanonas.commands.{verb}").VERB.flags
    if verb in ("search", "plan"):
        configured(flags, verb, words[1:])
    else:
        parse(flags, verb, words[1:])


def places_of(flag: str, words: list[str]) -> tuple[int, int]:
    return words.index(flag), words.index(flag) + 1


def scripts(language: str) -> list[Any]:
    """The blocks of all pages in a language."""
    return [
        pytest.param(code, id=f"{name(page)}: block {place + 1}")
        for page in PAGES
        for place, code in enumerate(blocks(page, language))
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("script", scripts("sh"))
def test_a_script_is_one(script: str) -> None:
    """Of a cluster's queue, for instance, which is run nowhere here."""
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("manifest", scripts("yaml"))
def test_yaml_can_be_read(manifest: str) -> None:
    assert yaml.safe_load(manifest)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"], ids=name
)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        if not target.startswith(("http://", "https://", "#", "mailto:")):
            file, _, anchor = target.partition("#")
            assert (page.parent / file).exists(), (
                f"{name(page)} links to {target}, which is not there"
            )
            assert not anchor or anchor in anchors(page.parent / file), (
                f"{name(page)}: no such heading as {target}"
            )


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
        for heading in headings
    }


def test_every_page_is_in_the_sites_navigation() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert page.relative_to(ROOT / "docs").as_posix() in site


def test_nothing_of_the_site_is_loaded_from_elsewhere() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in site
    assert "- offline" not in site  # its name notwithstanding
    assert not any("```mermaid" in page.read_text(encoding="utf-8") for page in PAGES)
