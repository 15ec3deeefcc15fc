"""What Hugging Face's ``save_to_disk`` writes, read without the library ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanonas.data.sources.base import PARTS, Decoded
from nanonas.data.sources.tables import Columns, Tables, part_of_split
from nanonas.errors import DataError
from nanonas.files import read_json

_SPLITS, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_MOST = 10 * 2**20  # bytes of such a file: a thousand classes take 20 KB


@dataclass(frozen=True)
class Saved:
    """A folder of one `Dataset`, all of which is for training, or of a `DatasetDict`, with a folder
    for each split: ``train``, ``validation``, ``test``. Others are passed over, and said.

    In each lie ``data-00000-of-00002.arrow``, …, Arrow's stream format, and ``state.json``, which
    lists them.
    """

    path: Path
    columns: Columns = field(default_factory=Columns)

    def files(self) -> list[Path]:
        """The files of all parts."""
        by_part, _ = self._by_part()
        return [path for paths in by_part.values() for path in paths]

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Streams the files, which are never whole in memory. Raises as `Reader.decode` does."""
        by_part, passed = self._by_part()
        info = _read(by_part["train"][0].with_name(_INFO))
        features = info.get("features")
        features = features if isinstance(features, Mapping) else {}
        tables = Tables(self.path, by_part, self.columns, passed, features)
        return tables.decode(image_size, skip_broken, groups)

    def _by_part(self) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
        """The files of each part, and the splits that are none, in words.

        Raises `DataError` where none is for training, or where two are the same part.
        """
        if not (self.path / _SPLITS).is_file():
            return {"train": _files(self.path)}, ()
        splits = _strings(_read(self.path / _SPLITS).get("splits"), self.path / _SPLITS)
        by_part: dict[str, str] = {}
        for split in splits:
            part = part_of_split(split)
            if part in by_part:
                raise DataError(
                    f"{str(self.path)!r} has the splits {by_part[part]} and {split}, which both "
                    f"are names of its {part} images; take one of them out of {_SPLITS}"
                )
            if part is not None:
                by_part[part] = split
        if "train" not in by_part:
            raise DataError(
                f"{str(self.path)!r} has no split train, but {', '.join(splits) or 'none'}; name "
                "the folder of one split as the data"
            )
        passed = tuple(f"the split {split}" for split in splits if split not in by_part.values())
        found = {part: _files(self.path / by_part[part]) for part in PARTS if part in by_part}
        return found, passed


def is_saved_folder(folder: Path) -> bool:
    """Whether a folder is one that ``save_to_disk`` has written."""
    has = {name: (folder / name).is_file() for name in (_SPLITS, _STATE, _INFO)}
    return has[_SPLITS] or (has[_STATE] and has[_INFO])


def _files(folder: Path) -> list[Path]:
    """The Arrow files of one split. Raises `DataError`."""
    state = _read(folder / _STATE)
    if state.get("_indices_data_files"):
        raise DataError(
            f"{str(folder)!r} holds a selection of rows beside the rows, as versions of datasets "
            "below 2 wrote it; call flatten_indices() and save it anew"
        )
    listed = state.get("_data_files")
    entries = listed if isinstance(listed, list) else []
    names = [entry.get("filename") if isinstance(entry, Mapping) else None for entry in entries]
    files = _strings(names, folder / _STATE)
    if not files or any(not name.endswith(".arrow") for name in files):
        raise DataError(
            f"{str(folder / _STATE)!r} must list files that end in .arrow, but lists "
            f"{', '.join(files) or 'none'}; save the data set anew"
        )
    return [folder / name for name in files]


def _read(path: Path) -> Mapping[str, Any]:
    """A JSON file with an object; empty where there is none. Raises `DataError`."""
    if path.is_file() and path.stat().st_size > _MOST:
        raise DataError(f"{str(path)!r} has more than {_MOST:,} bytes; save the data set anew")
    found = read_json(path)
    return found if isinstance(found, Mapping) else {}


def _strings(values: object, path: Path) -> list[str]:
    """Names of what lies beside a file. Raises `DataError` for paths, which could lead anywhere."""
    names = values if isinstance(values, list) else []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise DataError(
                f"{str(path)!r} must name what lies beside it, but names {name!r:.80}; save the "
                "data set anew"
            )
    return list(names)
