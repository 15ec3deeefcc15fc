"""What a run keeps for life: the "search" half of its configuration."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nanonas.engine.storage.rows import to_json
from nanonas.errors import RunError


def changed_search(
    begun: Mapping[str, Any],
    given: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    ignored: Collection[str] = (),
) -> list[str]:
    """What a configuration searches otherwise than a run was begun with, each as
    "search.KEY = BEFORE, not NOW".

    Args:
        begun: the configuration of the run's store.
        given: the other one.
        defaults: a configuration whose "search" half counts for the keys that the run was begun
            without.
        ignored: keys of the "search" half that are not compared.
    """
    search = {**(defaults or {}).get("search", {}), **begun.get("search", {})}
    # through JSON, as the configuration of the run was stored
    before, now = (
        _flat(json.loads(to_json(_without(half, ignored))), "search")
        for half in (search, given.get("search", {}))
    )
    missing = "nothing"
    return [
        f"{key} = {before.get(key, missing)!r}, not {now.get(key, missing)!r}"
        for key in sorted({*before, *now})
        if before.get(key, missing) != now.get(key, missing)
    ]


def require_equal_search(
    path: Path,
    begun: Mapping[str, Any],
    given: Mapping[str, Any],
    defaults: Mapping[str, Any] | None,
    ignored: Collection[str],
) -> None:
    """Raises `RunError` where `changed_search` finds something, in the store at `path`."""
    if changed := changed_search(begun, given, defaults, ignored):
        raise RunError(
            f"{path} was begun with {'; '.join(changed)}: a run keeps its search, "
            "so resume it without this change, or begin a new run in another folder; where nobody "
            "made it, config.yaml is damaged, and can be removed"
        )


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _flat(value: object, name: str) -> dict[str, object]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for part, inner in value.items()
        for key, leaf in _flat(inner, f"{name}.{part}").items()
    }
