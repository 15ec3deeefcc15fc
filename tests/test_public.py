"""What is public: the names, their descriptions, and the commands."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import nanonas
from nanonas import cli, errors

README = Path(__file__).parent.parent / "README.md"


def test_the_public_names_are_sorted_complete_and_there() -> None:
    assert nanonas.__all__ == sorted(nanonas.__all__)
    assert dir(nanonas) == nanonas.__all__
    assert all(getattr(nanonas, name) is not None for name in nanonas.__all__)
    assert nanonas.__version__.count(".") == 2


@pytest.mark.parametrize("name", nanonas.__all__)
def test_a_public_name_says_what_it_is(name: str) -> None:
    value = getattr(nanonas, name)
    assert value.__doc__
    assert not value.__doc__.startswith(f"{name}(")  # what a dataclass says when nobody else does
    assert value.__module__.startswith("nanonas.")
    if inspect.isclass(value):
        members = {
            key: member
            for key, member in vars(value).items()
            if key[0] != "_" and inspect.isfunction(member)
        }
        assert [key for key, member in members.items() if not member.__doc__] == []


@pytest.mark.parametrize(
    "stub",
    sorted(Path(nanonas.__file__).parent.rglob("__init__.pyi")),
    ids=lambda stub: stub.parent.name,
)
def test_a_folder_offers_its_public_names(stub: Path) -> None:
    folder = stub.parent.relative_to(Path(nanonas.__file__).parent.parent)
    package = importlib.import_module(".".join(folder.parts))
    modules = {path.stem for path in stub.parent.iterdir()}
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name not in modules, f"{name} is also a module of {package.__name__}"


def test_every_error_is_one_of_ours_and_drawn_in_the_tree() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    assert all(issubclass(one, errors.NanonasError) for one in classes)
    assert all(f"{one.__name__} " in (errors.__doc__ or "") for one in classes)


@pytest.mark.parametrize("verb", cli.verbs())
def test_every_verb_has_its_page_and_is_in_the_readme(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert f"nanonas {verb}" in capsys.readouterr().out
    if README.exists():
        assert f"nanonas {verb}" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert all(f"nanonas {verb} " in said for verb in cli.verbs())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"nanonas {nanonas.__version__}\n"


def test_help_says_each_verb_in_a_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  nanonas ")]
    assert all(line.endswith(".") and len(line) <= 120 for line in said)


def test_help_needs_nothing_heavy() -> None:
    script = (
        "import sys\nfrom nanonas.cli import main\n"
        "try:\n    main(['search', '--help'])\n"
        "except SystemExit as ended:\n    sys.exit(ended.code or int('torch' in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
