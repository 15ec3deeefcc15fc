"""No reader of the package can run what it reads: the functions that could are called nowhere, or
only on what a process of ours has sent.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import nanonas

ROOT = Path(nanonas.__file__).parent
# By file, what may be called there. Workers are sent their measure by the search that started them,
# and members of a team the state of their training by its leader.
ALLOWED = {
    "engine/evaluators/worker.py": {"pickle.loads"},
    "engine/evaluators/slot.py": {"pickle.loads"},  # likewise, on a cluster's node
    "training/team.py": {"torch.load"},
    "config/files.py": {"yaml.load"},  # by a loader of its own, which is a `SafeLoader`
    "deploy/alone/check.py": {"torch.export.load"},  # of the bundle that was just made
}
NEVER = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.loads",
    "shelve.open",
    "joblib.load",
    "torch.load",
    "torch.jit.load",
    "torch.export.load",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "shutil.unpack_archive",
}
# of whatever object: what takes the names of files from an archive
METHODS = {"extractall", "extract"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """What a file calls by a name, as it is written there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield ast.unparse(node.func), node


def test_nothing_is_called_that_runs_what_it_reads() -> None:
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for name, call in calls(path):
            allowed = ALLOWED.get(place, set())
            assert name not in NEVER - allowed, f"{place} calls {name}"
            assert name.rpartition(".")[2] not in METHODS, f"{place} calls {name}"
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if name == "np.load":
                assert given.get("allow_pickle", "False") == "False", place
            if name == "torch.load":
                assert given["weights_only"] == "True", place
