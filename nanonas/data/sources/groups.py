"""Which images belong together, such as the frames of a film or the photographs of a patient: none
of them may judge a network that was trained on another.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nanonas.data.sources.base import Decoded, Part
from nanonas.errors import ConfigError, DataError
from nanonas.files import in_full

_COLUMNS = ("path", "group")
_PATIENCE = 60.0  # seconds for all names; of a million, an ordinary expression takes one
_SEARCH = "import json, re, sys; words, *names = json.load(sys.stdin.buffer); "
_SEARCH += "list(map(re.compile(words).search, names))"


def groups_file(groups: str) -> Path | None:
    """The file that `--groups` names; None: it is a regular expression, or the name of an array."""
    if groups.startswith(("^", "(")):  # a path that does can begin with "./"
        return None
    path = in_full(Path(groups))
    try:
        return path if path.suffix.lower() == ".csv" or path.is_file() else None
    except OSError:  # too long for a path
        return None


def with_groups(decoded: Decoded, groups: str | None) -> Decoded:
    """The content of a source whose images have names, with the group of each.

    Args:
        decoded: with names.
        groups: a regular expression with one group in parentheses, which is searched for in each
            image's path within the source; or a CSV file with the columns path and group. None:
            nothing is done.

    Raises:
        ConfigError: it is no such expression, or one that takes too long.
        DataError: the file cannot be used, or an image has no group.
    """
    if groups is None:
        return decoded
    path = groups_file(groups)
    parts = [part for part in (decoded.train, decoded.valid, decoded.test) if part is not None]
    names = [name for part in parts for name in part.rows.names]
    group_of = _by_expression(groups, names) if path is None else _by_file(path)

    def grouped(part: Part) -> Part:
        return replace(part, groups=tuple(map(group_of, part.rows.names)))

    valid, test = (part and grouped(part) for part in (decoded.valid, decoded.test))
    return replace(decoded, train=grouped(decoded.train), valid=valid, test=test)


def refuse_groups(groups: str | None, source: str) -> None:
    """Raises `DataError` where there are groups, for a source whose images have no names."""
    if groups is not None:
        raise DataError(
            f"groups is {groups!r} (--groups), but the images of {source!r} have no names to group "
            "them by; take a folder of images, or an .npz with an array of groups"
        )


def _by_expression(words: str, names: Sequence[str]) -> Callable[[str], str]:
    """A function from an image's name, one of `names`, to its group. Raises `ConfigError`; the
    function, `DataError` for a name that has none.
    """
    try:
        expression = re.compile(words)
    except re.error as error:
        raise ConfigError(
            f"groups is {words!r}, which is neither a file nor a regular expression: {error} "
            "(--groups)"
        ) from None
    if expression.groups != 1:
        raise ConfigError(
            f"groups is {words!r}, but a regular expression needs one part in parentheses, which "
            f"is the group's name, and this has {expression.groups}; write one such as "
            "'(cam[0-9]+)_' (--groups)"
        )
    _require_quick(words, names)

    def group_of(name: str) -> str:
        match = expression.search(name)
        if match is None or match.group(1) is None:
            raise DataError(
                f"groups is {words!r}, which does not match the image {name!r}; write an "
                "expression that matches the path of each (--groups)"
            )
        return match.group(1)

    return group_of


def _require_quick(words: str, names: Sequence[str]) -> None:
    """Raises `ConfigError` for an expression that takes more than `_PATIENCE` seconds: one such as
    "(a+)+b" can take longer than a life for a single name, and only a process can be ended.
    """
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([words, *names]).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"groups is {words!r:.200}, which takes more than {_PATIENCE:g} s to search "
            f"{len(names):,} names; write one without a repetition within a repetition, such as "
            "'(cam[0-9]+)_' (--groups)"
        ) from None


def _by_file(path: Path) -> Callable[[str], str]:
    """As `_by_expression`, by what a CSV file says. Raises `DataError`."""
    groups = _read(path)

    def group_of(name: str) -> str:
        if name not in groups:
            raise DataError(
                f"{str(path)!r} has no group for the image {name!r}; add a line for it: its path "
                "within the folder of images, and its group"
            )
        return groups[name]

    return group_of


def _read(path: Path) -> Mapping[str, str]:
    """The groups in a CSV file, by the images' paths. Raises `DataError`."""
    groups: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            if not set(_COLUMNS) <= set(lines.fieldnames or ()):
                raise DataError(
                    f"the first line of {str(path)!r} must name the columns path and group, but is "
                    f"{', '.join(lines.fieldnames or ())!r:.80}"
                )
            for line in lines:
                image, group = (line[column] for column in _COLUMNS)
                if not image or not group:
                    raise DataError(
                        f"line {lines.line_num} of {str(path)!r} must hold a path and a group, but "
                        f"holds {image or ''!r} and {group or ''!r}"
                    )
                image = image.replace("\\", "/").removeprefix("./")
                if groups.setdefault(image, group) != group:
                    raise DataError(
                        f"{str(path)!r} puts the image {image!r} into two groups, "
                        f"{groups[image]!r} and {group!r}; keep one"
                    )
    except FileNotFoundError:
        raise DataError(f"there is no file of groups {str(path)!r} (--groups)") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"the groups in {str(path)!r} cannot be read: {error}; save it as CSV in UTF-8"
        ) from None
    return groups
