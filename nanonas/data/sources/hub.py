"""Data sets of the Hugging Face hub, by name: their parquet files are downloaded, and no script of
theirs is run.
"""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nanonas.data.kept import cache_folder
from nanonas.data.sources.base import PARTS, Decoded
from nanonas.data.sources.tables import Columns, Tables, part_of_split
from nanonas.errors import DataError, reason_for
from nanonas.files import read_json, write_text

PREFIX = "hf://"
_CONVERTED = "refs/convert/parquet"  # the branch with what the hub itself made of a data set
_ADDRESS = re.compile(
    r"hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<config>[\w.-]+))?"
)
_WHOLE = ("", "data", "default")  # folders that stand for a data set without configurations
_NUMBER = re.compile(r"\d+\.parquet")
_SPLIT = re.compile(r"(?P<split>\w[\w.]*?)(-\d+(-of-\d+)?)?\.parquet")

Splits = dict[str, list[str]]  # the files of each split


@dataclass(frozen=True)
class Hub:
    """``hf://USER/NAME[@REVISION][:CONFIG]``.

    The files are its own in parquet, or, where it has none, those that the hub has converted. They
    are downloaded once, by huggingface_hub into its cache; later the same are read, whatever has
    become of the data set since. Another revision is another source.
    """

    name: str  # USER/NAME
    revision: str | None = None
    config: str | None = None
    columns: Columns = field(default_factory=Columns)

    @classmethod
    def of(cls, source: str, columns: Columns) -> Hub:
        """That of an address. Raises `DataError` for one that is none."""
        match = _ADDRESS.fullmatch(source)
        if match is None:
            raise DataError(
                f"{source!r} is no data set of the hub; write hf://USER/NAME, and where needed "
                "hf://USER/NAME@REVISION:CONFIG"
            )
        return cls(match["name"], match["revision"], match["config"], columns)

    @property
    def title(self) -> str:
        """What it is called in a line."""
        name = self.name.split("/")[1]
        return name if self.config is None else f"{name}-{self.config}"

    @property
    def address(self) -> str:
        """As the user writes it, without columns."""
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{PREFIX}{self.name}{revision}" + ("" if self.config is None else f":{self.config}")

    def files(self) -> list[Path]:
        """The parquet files, downloaded if they are not there. Raises `DataError`."""
        root, splits = self._copy()
        by_part, _ = self._by_part(splits)
        return [root / name for names in by_part.values() for name in names]

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Streams the files, which are never whole in memory. Raises as `Reader.decode` does."""
        root, splits = self._copy()
        by_part, passed = self._by_part(splits)
        paths = {part: [root / name for name in names] for part, names in by_part.items()}
        return Tables(root, paths, self.columns, passed).decode(image_size, skip_broken, groups)

    def _by_part(self, splits: Splits) -> tuple[Splits, tuple[str, ...]]:
        """The files of each part, and the splits that are none, in words. Raises `DataError`."""
        by_part = {part: split for split in splits if (part := part_of_split(split)) is not None}
        if "train" not in by_part:
            raise DataError(
                f"{self.address} has no split train, but {', '.join(splits)}; download it, and "
                "name one of its files as the data"
            )
        passed = tuple(f"the split {split}" for split in splits if split not in by_part.values())
        return {part: splits[by_part[part]] for part in PARTS if part in by_part}, passed

    # --- the copy here ----------------------------------------------------------------------------

    def _copy(self) -> tuple[Path, Splits]:
        """Where the files lie here, and their names by split; downloaded once.

        Raises `DataError`.
        """
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        note = cache_folder() / "hub" / f"{self.title}-{digest}.json"
        known = _known(read_json(note))
        if known is not None:
            return known
        root, splits = self._download()
        note.parent.mkdir(parents=True, exist_ok=True)
        sizes = {name: (root / name).stat().st_size for names in splits.values() for name in names}
        about = {"source": self.address, "root": str(root), "splits": splits, "bytes": sizes}
        write_text(note, json.dumps(about, indent=1) + "\n")
        return root, splits

    def _download(self) -> tuple[Path, Splits]:
        try:
            import huggingface_hub
        except ImportError:
            raise DataError(
                f"reading {self.address} needs huggingface_hub: pip install 'nanonas[hf]'"
            ) from None
        try:
            commit, splits = self._on_the_hub(huggingface_hub.HfApi())
            root = huggingface_hub.snapshot_download(
                self.name,
                repo_type="dataset",
                revision=commit,
                allow_patterns=[glob.escape(name) for names in splits.values() for name in names],
            )
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  of the network, of HTTP, of the hub
            raise DataError(
                f"{self.address} was not downloaded: {reason_for(error)}; try again, or download "
                "it by hand and name its folder"
            ) from None
        lacking = [name for names in splits.values() for name in names if not _is(root, name)]
        if lacking:
            raise DataError(f"{self.address} was downloaded without {lacking[0]}; try again")
        return Path(root), splits

    def _on_the_hub(self, api: Any) -> tuple[str, Splits]:
        """The commit to take, and its files by split; those of `config`, if there are several."""
        commit, own = self._listed(api, self.revision)
        lacks = not own or (self.config is not None and not _has(own, self.config))
        if lacks and self.revision is None:
            other, converted = self._converted(api)
            commit, own = (other, converted) if converted else (commit, own)
        if not own:
            raise DataError(
                f"{self.address} has no parquet files; download it, and name the folder of its "
                "images as the data"
            )
        if _has(own, self.config):
            return commit, own[self.config or ""] if self.config in own else _only(own)
        known = ", ".join(name or "default" for name in own)
        raise DataError(
            f"{self.address} has the configurations {known}; name one of them: "
            f"{PREFIX}{self.name}:{next(iter(own)) or 'default'}"
        )

    def _converted(self, api: Any) -> tuple[str, dict[str, Splits]]:
        """As `_listed`, of what the hub has converted; nothing where it has not."""
        try:
            return self._listed(api, _CONVERTED)
        except Exception as error:
            if type(error).__name__ == "RevisionNotFoundError":
                return "", {}
            raise

    def _listed(self, api: Any, revision: str | None) -> tuple[str, dict[str, Splits]]:
        """The commit that a revision is, and its parquet files by configuration and split."""
        info = api.dataset_info(self.name, revision=revision)
        return str(info.sha), by_configuration(one.rfilename for one in info.siblings or ())


def by_configuration(names: Iterable[str]) -> dict[str, Splits]:
    """The parquet files among those of a repository, by configuration and split.

    Each is ``SPLIT-00000-of-00002.parquet`` in the folder of a configuration, or
    ``SPLIT/0000.parquet`` there, as the hub converts them; "" is that of none.
    """
    found: dict[str, Splits] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        match = _SPLIT.fullmatch(path.name)
        if match is None or path.is_absolute() or ".." in path.parts:
            continue
        folders, split = list(path.parts[:-1]), match["split"]
        if folders and (_NUMBER.fullmatch(path.name) or part_of_split(folders[-1])):
            split = folders.pop()
        config = "/".join(folders)
        files = found.setdefault("" if config in _WHOLE else config, {})
        files.setdefault(split, []).append(name)
    return found


def _has(found: Mapping[str, Splits], config: str | None) -> bool:
    """Whether it is plain which files are meant."""
    if config is None:
        return len(found) == 1
    return config in found or (config in _WHOLE and "" in found)


def _only(found: Mapping[str, Splits]) -> Splits:
    """Those without a configuration, or the only ones."""
    return found[""] if "" in found else next(iter(found.values()))


def _is(root: str, name: str) -> bool:
    return (Path(root) / name).is_file()


def _known(note: Any) -> tuple[Path, Splits] | None:
    """What `Hub._copy` has noted, as long as all of the files are there, and whole."""
    try:
        root = Path(note["root"])
        splits = {str(split): list(map(str, names)) for split, names in note["splits"].items()}
        sizes = {name: (root / name).stat().st_size for names in splits.values() for name in names}
        return (root, splits) if sizes == note["bytes"] else None
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None
