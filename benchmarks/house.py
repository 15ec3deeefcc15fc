"""Measures how the code is laid out, and how far a value travels through it.

    python benchmarks/house.py table                 # this package
    python benchmarks/house.py table PATH/optuna …   # others, a column each
    python benchmarks/house.py ways [--stops]        # the nanonas that is imported; half a minute

`table` parses files and runs nothing. Functions are those that stand in no other, and as long as
from `def` to their last line; files count for the median from 10 lines on, so that empty
`__init__.py` do not; public is what has no underscore, up to its module; syntax nodes are those of
`ast`. An import is an arrow from module to module, also inside a function, but not for types alone
(`if TYPE_CHECKING`); a name that a folder's `__init__.py` passes on counts where it is defined. A
module's level is 1 above the highest that it imports; arrows within a circle do not count there.

`ways` runs commands and follows the calls between nanonas' own functions:

- config → trainer: from the command line of `nanonas search`, with its images in the cache, to the
  first network's first epoch: all that is set up in between, the next two ways included.
- genome → store: in that search, from asking the strategy for a candidate until it is committed;
  four candidates together, two random ones and two that are bred from them.
- image → batch: all that runs below the functions `IMAGES`, from a folder of images, not yet in the
  cache, to the first batch.
- evaluation → page: `nanonas report` of the example run, from the command line to the written page.

Candidates train in this process: the pipe to a worker is left out. A *stop* is a pair of functions
of two modules, one of which calls the other, itself or through foreign code (pydantic, jinja). It
counts once, however often it is called: so stops grow not with the candidates, but with everyone
who asks. Lambdas and comprehensions are part of their function; properties (cached ones, too) and
special methods but `__call__` are none, for to read a value at hand is no way. Beside it: the
*functions* that are called from another module (stops above that are a question asked again
elsewhere), the *rooms*, or modules, that these lie in, and all *calls* from one module into
another.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import os
import pkgutil
import random
import re
import shutil
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from statistics import median, quantiles
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Graph: TypeAlias = dict[str, set[str]]

# The ends of the ways, by bare names: functions that move to other modules keep them.
MAIN, TRAINS, WRITES, ASKS, COMMITS = "main", "run_epoch", "write_text", "ask", "asked"
IMAGES = ("find_reader", "load", "split", "pictures", "_gather")
POOL = "WorkerPool"  # the class that `InProcess` stands in for
DUMPS, READS, PARSES = "dump_python", "validate_python", "seconds"  # pydantic's two; a duration's


# --- the table ------------------------------------------------------------------------------------


class Package:
    """The source of a package, by module: "nanonas.engine.study"."""

    def __init__(self, root: Path) -> None:
        paths = {module_name(root, path): path for path in sorted(root.rglob("*.py"))}
        self.texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}
        self.folders = {name for name, path in paths.items() if path.name == "__init__.py"}
        self.home = cache(self._home)

    def imports(self, *, for_types: bool = False) -> Graph:
        """The package's modules that each of them imports; `for_types`: also for types alone."""
        return {module: set(self._imported(module, for_types)) - {module} for module in self.trees}

    def _imported(self, module: str, for_types: bool) -> Iterator[str]:
        tree = self.trees[module]
        skipped = set() if for_types else set(types_only(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and node not in skipped:
                yield from (alias.name for alias in node.names if alias.name in self.trees)
            elif isinstance(node, ast.ImportFrom) and node not in skipped:
                source = self._source(module, node)
                yield from filter(None, (self.home(source, alias.name) for alias in node.names))

    def _source(self, module: str, node: ast.ImportFrom) -> str:
        """The absolute name of what an import, perhaps a relative one, reads from."""
        above = node.level - (module in self.folders)
        parents = module.split(".")[: -above or None] if node.level else []
        return ".".join([*parents, *([node.module] if node.module else [])])

    def _home(self, source: str, name: str) -> str | None:
        """The module where `from source import name` ends; None: a foreign one."""
        if f"{source}.{name}" in self.trees:
            return f"{source}.{name}"
        if source not in self.trees:
            return None
        if source not in self.folders or name in names_in(self.trees[source]):
            return source
        for node in ast.walk(self.trees[source]):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return self.home(self._source(source, node), alias.name)
        below = (module for module in self.trees if module.startswith(f"{source}."))
        return next((module for module in below if name in names_in(self.trees[module])), source)


def module_name(root: Path, path: Path) -> str:
    """The module that is in a file of the package at `root`."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def types_only(tree: ast.Module) -> Iterator[ast.AST]:
    """The syntax nodes that only type checkers read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                yield from ast.walk(statement)


def names_in(tree: ast.Module) -> Iterator[str]:
    """What a module defines at its top, imports left out."""
    for statement in tree.body:
        if isinstance(statement, Function | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            yield from (node.id for node in stored if isinstance(node.ctx, ast.Store))


def defined(node: ast.AST, *, public: bool = False) -> Iterator[Function | ast.ClassDef]:
    """Functions, methods and classes below a node, those inside functions left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            if public and child.name.startswith("_"):
                continue
            yield child
        if not isinstance(child, Function):
            yield from defined(child, public=public)


def length(function: Function) -> int:
    """In lines."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def count(node: ast.AST, kind: type[ast.AST] = ast.AST) -> int:
    """How many syntax nodes of a kind there are from `node` on."""
    return sum(isinstance(one, kind) for one in ast.walk(node))


def annotated(function: Function) -> bool:
    """Whether the result, and all arguments but self and cls, have a type."""
    of = function.args
    given = [*of.posonlyargs, *of.args, *of.kwonlyargs, *filter(None, (of.vararg, of.kwarg))]
    typed = (one.annotation or one.arg in ("self", "cls") for one in given)
    return function.returns is not None and all(typed)


def reached(graph: Graph, start: str) -> set[str]:
    """All that a node leads to."""
    found, waiting = set[str](), [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def circles(graph: Graph) -> str:
    """The groups of modules that all import each other, in the end."""
    below = {module: reached(graph, module) for module in graph}
    groups = {frozenset(b for b in below[a] if a in below[b]) for a in graph} - {frozenset()}
    return "; ".join(sorted(" ↔ ".join(sorted(group)) for group in groups)) or "none"


def levels(graph: Graph) -> int:
    """How many modules the longest chain of imports has."""
    below = {module: reached(graph, module) for module in graph}

    @cache
    def level(module: str) -> int:
        down = (other for other in graph[module] if module not in below[other])
        return 1 + max(map(level, down), default=0)

    return max(map(level, graph))


def folders(sizes: dict[str, int], names: set[str]) -> str:
    """The share of the lines of each folder directly below the package."""
    lines: Counter[str] = Counter()
    for module, size in sizes.items():
        _, *below = module.split(".")
        nested = len(below) > 1 or (below and module in names)
        lines[below[0] if nested else "single files"] += size
    total = lines.total()
    return ", ".join(f"{name} {100 * size / total:.0f} %" for name, size in lines.most_common())


def percent(answers: Iterable[object], digits: int = 0) -> str:
    """How many of them are true."""
    truths = list(map(bool, answers))
    return f"{100 * sum(truths) / max(1, len(truths)):.{digits}f} %"


def figures(root: Path) -> dict[str, str]:
    """What there is to say of a package, by what it is called."""
    package = Package(root)
    sizes = {name: len(text.splitlines()) for name, text in package.texts.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    lines = [line for text in package.texts.values() for line in text.splitlines() if line.strip()]
    everything = [one for tree in package.trees.values() for one in defined(tree)]
    functions = [one for one in everything if isinstance(one, Function)]
    lengths = [length(one) for one in functions]
    names = [one for tree in package.trees.values() for one in defined(tree, public=True)]
    total = sum(sizes.values())
    beside = (path for place in (root.parent, root.parents[1]) for path in place.glob("tests"))
    tests = next(beside, root / "tests")  # beside the package, or beside the folder that it is in
    tested = sum(len(path.read_text("utf-8").splitlines()) for path in tests.rglob("*.py"))
    middle = median(size for size in sizes.values() if size >= 10)
    dense = median(count(one) / length(one) for one in functions)
    choices = sum(count(one, ast.IfExp) for one in functions)
    long = percent((size > 40 for size in lengths), digits=1)
    graph = package.imports()
    return {
        "files": f"{len(sizes)}",
        "lines: package / tests / ratio": f"{total:,} / {tested:,} / {tested / total:.2f}",
        "median file / largest file, lines": f"{middle:.0f} / {sizes[largest]:,} ({largest})",
        "functions: median / 90th percentile / over 40 lines": (
            f"{median(lengths):.0f} / {quantiles(lengths, n=10)[-1]:.0f} / {long}"
        ),
        "public names with docstrings": percent(ast.get_docstring(one) for one in names),
        "fully annotated functions": percent(map(annotated, functions)),
        "syntax nodes on a function's line (median)": f"{dense:.1f}",
        "lines over 100 characters": percent((len(line) > 100 for line in lines), digits=1),
        "conditional expressions in 100 functions": f"{100 * choices / len(functions):.0f}",
        "levels of imports": f"{levels(graph)}",
        "circles of imports": circles(graph),
        "the same, with imports for types": circles(package.imports(for_types=True)),
        "lines by folder": folders(sizes, package.folders),
    }


def table(roots: Sequence[Path]) -> None:
    """Prints the figures of packages, a column each."""
    columns = [figures(root.resolve()) for root in roots]
    print("| |", " | ".join(root.resolve().name for root in roots), "|")
    print("| --- |", " | ".join("---:" for _ in roots), "|")
    for row in columns[0]:
        print(f"| {row} |", " | ".join(column[row] for column in columns), "|")


# --- the ways -------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A function of the package."""

    module: str
    name: str  # with its class
    stop: bool  # whether a call of it counts; what it calls does in any case


@dataclass
class Way:
    """What is called between two points of a run."""

    name: str
    begins: tuple[str, ...]  # calls
    end: tuple[str, str] | None = None  # "call" or "return", of what; None: return of `begins`
    stops: Counter[tuple[Place, Place]] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)  # calls by bare name, foreign ones too
    met: set[str] = field(default_factory=set)  # of its points
    depth: int = 0  # above 0: on the way

    def hear(self, event: str, name: str, place: Place | None, caller: Place | None) -> None:
        """Takes in a call or a return; without `place`, of a function that is not the package's."""
        at_begin, at_end = place and name in self.begins, place and self.end == (event, name)
        if event == "call":
            if at_begin:
                self.met.add(name)
                self.depth = 1 if self.end else self.depth + 1
            if self.depth:
                self.counted[name] += 1
                if place and place.stop and caller and caller.module != place.module:
                    self.stops[caller, place] += 1
        elif at_begin and not self.end:
            self.depth -= 1
        if at_end and self.depth:
            self.met.add(name)
            self.depth = 0

    def row(self) -> str:
        """Its figures. Raises `SystemExit` where one of its points was not met."""
        if missed := ", ".join({*self.begins, *(self.end or ())[1:]} - self.met):
            raise SystemExit(f"{self.name}: no call of {missed}; correct the names in {__file__}")
        called = {place for _, place in self.stops}
        figures = (len(self.stops), len(called), len({place.module for place in called}))
        return f"| {self.name} | {' | '.join(map(str, figures))} | {self.stops.total():,} |"


class InProcess:
    """Evaluates in this process what a pool would send to its workers."""

    slots = 1

    def __init__(self, measures: Sequence[Callable[..., Any]], **settings: object) -> None:
        self._measure = measures[0]
        self._waiting: deque[Any] = deque()

    def submit(self, candidate: Any, deadline: float | None = None) -> None:
        """Queues a candidate."""
        self._waiting.append(candidate)

    def result(self, timeout: float | None = None) -> Any:
        """Measures the next candidate."""
        return self._measure(self._waiting.popleft(), lambda: True)

    def close(self) -> None:
        """Forgets what is queued."""
        self._waiting.clear()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def loaded() -> list[ModuleType]:
    """All modules of nanonas, imported, with `InProcess` for the pool of workers."""
    package = importlib.import_module("nanonas")
    modules = [package]
    for found in pkgutil.walk_packages(package.__path__, "nanonas."):
        if not found.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # of what is optional
                modules.append(importlib.import_module(found.name))
    for module in modules:
        if POOL in vars(module):
            vars(module)[POOL] = InProcess
    return modules


def follow(modules: list[ModuleType], arguments: Sequence[object], *ways: Way) -> None:
    """Runs a command of nanonas, and lets ways hear its calls."""
    root = Path(modules[0].__path__[0])
    classes = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    members = [member for one in classes for member in vars(one).values()]
    properties = {one.fget.__code__ for one in members if isinstance(one, property) and one.fget}
    properties |= {one.func.__code__ for one in members if isinstance(one, cached_property)}

    @cache
    def at(file: str, code: CodeType) -> Place | None:
        path = Path(file)
        if path.suffix != ".py" or root not in path.parents:
            return None
        qualified = getattr(code, "co_qualname", code.co_name)  # Python 3.10 has no co_qualname
        name = re.sub(r"(\.<locals>\.)?<(?!locals).*", "", qualified) or "<module>"
        special = code.co_name.startswith(("<", "__")) and code.co_name != "__call__"
        return Place(module_name(root, path), name, not special and code not in properties)

    def hear(frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "return"):
            place, caller = at(frame.f_code.co_filename, frame.f_code), None
            above = frame.f_back if place else None
            while above and not (caller := at(above.f_code.co_filename, above.f_code)):
                above = above.f_back
            for way in ways:
                way.hear(event, frame.f_code.co_name, place, caller)

    main = importlib.import_module("nanonas.cli").main
    with contextlib.redirect_stdout(io.StringIO()):
        sys.setprofile(hear)
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            sys.setprofile(None)
    if code:
        raise SystemExit(f"nanonas {arguments[0]} ended with {code}")


def images(folder: Path) -> Path:
    """A folder of 60 grey images of 8x8 pixels, in two classes."""
    draw = random.Random(0)
    for name, brightest in (("dark", 120), ("bright", 255)):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            pixels = bytes(draw.randrange(brightest) for _ in range(64))
            (folder / name / f"{number}.pgm").write_bytes(b"P5 8 8 255\n" + pixels)
    return folder


def ways(*, stops: bool) -> None:
    """Runs, counts, and prints the figures of the four ways; `stops`: each of these, too."""
    config = Way("config → trainer", (MAIN,), ("call", TRAINS))
    genome = Way("genome → store", (ASKS,), ("return", COMMITS))
    image = Way("image → batch", IMAGES)
    page = Way("evaluation → page", (MAIN,), ("return", WRITES))
    modules = loaded()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["NANONAS_CACHE"] = str(folder / "cache")
        example = Path(modules[0].__path__[0]).parent / "notebooks" / "example_run"
        shutil.copytree(example, folder / "example")
        follow(modules, ["report", folder / "example", "--no-png"], page)
        search: list[object] = ["search", "--data", images(folder / "images"), "--epochs", 1]
        search += ["--population", 2, "--workers", 1, "--device", "cpu", "--out", folder / "runs"]
        search += ["--time", "10m", "--final-share", 0, "--evaluations"]
        follow(modules, [*search, 1], image)
        follow(modules, [*search, 4], config, genome)
    print("| way | stops | functions | rooms | calls |\n| --- | ---: | ---: | ---: | ---: |")
    for way in (config, genome, image, page):
        print(way.row())
    print(
        f"\nOn its way the configuration becomes plain values {config.counted[DUMPS]} times and is "
        f"read from them {config.counted[READS]} times; a duration is parsed "
        f"{config.counted[PARSES]} times."
    )
    for way in (config, genome, image, page) if stops else ():
        print(f"\n{way.name}\n")
        for (caller, callee), calls in way.stops.items():
            ends = f"{caller.module}.{caller.name} → {callee.module}.{callee.name}"
            print(f"- {ends} ({calls:,})")


def main() -> None:
    """Runs one of the two commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    own = Path(__file__).resolve().parents[1] / "nanonas"
    tabled = commands.add_parser("table", help="figures of packages, a column each")
    tabled.add_argument("root", type=Path, nargs="*", default=[own], help="a package's folder")
    followed = commands.add_parser("ways", help="how far values travel through nanonas")
    followed.add_argument("--stops", action="store_true", help="list the stops of each way")
    given = parser.parse_args()
    if given.command == "table":
        table(given.root)
    else:
        ways(stops=given.stops)


if __name__ == "__main__":
    main()
