"""The dependency order, executable: a module imports only from floors below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import nanonas
from nanonas.config.parts import PREDICTORS, SPACES, STRATEGIES
from nanonas.engine.storage import events

ROOT = Path(nanonas.__file__).parent

# From the ground up. A folder stands for all its modules, which may also use each other, without
# circles.
FLOORS = [
    ["errors", "core"],
    ["files", "machine", "maths", "processes", "text", "typed"],
    ["data", "networks"],
    ["predictors", "spaces"],
    ["engine", "strategies", "training"],
    ["analysis", "config"],
    ["bench", "runs"],
    ["deploy", "report", "session"],
    ["serving", "terminal"],  # the terminal's progress and narration are listeners of a session
    ["api", "commands", "sklearn"],
    [""],  # the package itself: its public names
    ["cli"],
    ["__main__"],
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# who imports torch; the predictor inside its functions
TORCH = {"training", "deploy", "predictors.lstm"}
MODULES = sorted(ROOT.rglob("*.py"))


def module_name(path: Path) -> str:
    """ "training.modules" for nanonas/training/modules.py; "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path) -> set[str]:
    """Every module that a file imports at run time, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If)
        and isinstance(test.test, ast.Name)
        and test.test.id == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down(path: Path) -> None:
    own = module_name(path)
    room = own.split(".")[0]
    assert room in FLOOR, f"{own} has no floor: give it one in this test and in docs/design.md"
    for target in imports(path):
        if target == "nanonas" or target.startswith("nanonas."):
            other = target.removeprefix("nanonas").removeprefix(".")
            below = other.split(".")[0]
            if below == room and "." in own:
                continue  # within a folder: see the test of circles
            assert FLOOR[below] < FLOOR[room], (
                f"{own} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[below]})"
            )
        if target.split(".")[0] == "torch":
            assert {room, own} & TORCH, f"{own} imports torch; only {TORCH} may"


def test_no_circles() -> None:
    graph = {
        module_name(path): {
            t.removeprefix("nanonas.") for t in imports(path) if t.startswith("nanonas.")
        }
        for path in MODULES
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle of imports: {' -> '.join([*way, name])}"
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_house_is_low_and_no_room_is_a_hall() -> None:
    assert len(FLOORS) <= 13
    lines: Counter[str] = Counter()
    for path in MODULES:
        room = module_name(path).split(".")[0]
        lines[room] += len(path.read_text(encoding="utf-8").splitlines())
    largest, count = lines.most_common(1)[0]
    assert count <= 0.15 * lines.total(), f"{largest} has {count:,} of {lines.total():,} lines"


def test_the_package_starts_without_torch() -> None:
    """Nor with anything else that takes long to import, or that need not be installed."""
    heavy = ["torch", "scipy", "moocore", "sklearn", "matplotlib", "optuna"]
    code = (
        "import nanonas, nanonas.cli, sys; "
        f"print(*(name for name in {heavy} if name in sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        == "\n"
    )


# --- names stand in tables ------------------------------------------------------------------------

PARTS = {*STRATEGIES, *SPACES, *PREDICTORS}
EVENTS = {
    value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)
}
# where the names are: the tables, and the parts themselves, which may say their own
TABLES = ("config.parts", "engine.storage.events", "predictors.", "spaces.", "strategies.")
# what a migration says of stored names is about the versions that wrote them, and stays so
MIGRATIONS = ("engine.storage.rows",)


def decided_by(path: Path) -> set[str]:
    """The strings by which a file decides: compared, looked up, or keys of a table; and the kinds
    of events that it stores.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            decisive = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            decisive = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Subscript):
            decisive = [node.slice]
        elif isinstance(node, ast.MatchValue):
            decisive = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            decisive = node.args[:1] if node.func.attr in ("details", "event") else []
        else:
            continue
        words = [word for part in decisive for word in ast.walk(part)]
        values = [word.value for word in words if isinstance(word, ast.Constant)]
        found |= {value for value in values if isinstance(value, str)}
    return found


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_is_decided_by_the_name_of_a_part_or_of_an_event(path: Path) -> None:
    """What others have to know of a part stands in its entry in `config.parts`."""
    if not module_name(path).startswith((*TABLES, *MIGRATIONS)):
        assert decided_by(path) & (PARTS | EVENTS) == set()
