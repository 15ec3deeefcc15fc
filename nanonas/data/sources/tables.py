"""Tables with a column of encoded images and one of labels, as Hugging Face writes them: files of
parquet, or of Arrow's stream format. The only module that needs pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from nanonas.data.sources.base import CHUNK, PARTS, Decoded, Labels, numbered
from nanonas.data.sources.decoding import Files, decode_all
from nanonas.data.sources.groups import with_groups
from nanonas.data.sources.pixels import Encoded
from nanonas.errors import DataError, InvalidInput
from nanonas.files import parsed_json, require_plain

_PIECE = 32  # rows read at a time: photographs can take megabytes each
_LABELS = 65_536  # labels read at a time
_CHUNK_BYTES = 64 * 2**20  # of encoded images that are handed on at once, about
_BUFFER = 2**20  # bytes of a parquet column that are read at a time
_ROWS = 2**27  # of a file of parquet: its labels take 1 GiB
_GROUP = 2**32  # bytes of a row group, unpacked
_USUAL = {"image": ("image", "img"), "label": ("label", "labels", "fine_label")}
_KINDS = {"image": "Image", "label": "ClassLabel"}  # as Hugging Face calls such features


# --- columns --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """Which column holds the images, and which the labels; None: that which its type or its name
    says.
    """

    image: str | None = None
    label: str | None = None


def asked(source: str) -> tuple[str, Columns]:
    """A source without its columns, and these: "pets?image=photo&label=breed".

    What exists by its whole name is a file or a folder with a question mark in it.

    Raises:
        DataError: something else than image and label is asked for.
    """
    place, mark, query = source.rpartition("?")
    if not mark or _exists(source):
        return source, Columns()
    pairs = parse_qsl(query, keep_blank_values=True)
    named = dict(pairs)
    wrong = not named or len(named) < len(pairs) or not all(named.values())
    if wrong or not named.keys() <= _USUAL.keys():
        raise DataError(
            f"behind the ? of {source!r} must stand the names of columns, as in "
            f"{place}?image=NAME&label=NAME, but there is {query!r}"
        )
    return place, Columns(**named)


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # too long for a path
        return False


def _chosen(
    what: str, wanted: str | None, columns: Sequence[str], features: Mapping[str, Any], where: str
) -> str | None:
    """The name of the column of images or of labels: the one that is asked for, the only one of its
    type, or that with a usual name; None: there is none.

    Raises `DataError` where there is no such column, or where there are several.
    """
    if wanted is not None:
        if wanted not in columns:
            raise DataError(
                f"{where} has no column {wanted!r} ({what}={wanted}); it has {', '.join(columns)}"
            )
        return wanted
    kind = _KINDS[what]
    typed = [
        name
        for name in columns
        if isinstance(features.get(name), Mapping) and features[name].get("_type") == kind
    ]
    if len(typed) == 1:
        return typed[0]
    usual = [name for name in _USUAL[what] if name in (typed or columns)]
    if len(typed) > 1 and len(usual) != 1:
        raise DataError(
            f"{where} has {len(typed)} columns of {what}s, {', '.join(typed)}; name one of them by "
            f"?{what}={typed[0]} behind the data"
        )
    return usual[0] if usual else None


# --- files ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """The files of a data set, by part, in parquet or, as ``.arrow``, in Arrow's stream format.

    Images are structs of bytes and path, or plain bytes; labels are integers from 0. The names of
    classes are in the schema's metadata, if anywhere.
    """

    root: Path  # that the names of rows are relative to
    by_part: Mapping[str, Sequence[Path]]  # "train" is always there
    columns: Columns = field(default_factory=Columns)
    passed: tuple[str, ...] = ()  # what else there is, in words
    # what a file beside them says of the columns, as Hugging Face writes it
    features: Mapping[str, Any] = field(default_factory=dict)

    def decode(self, image_size: int | None, skip_broken: bool, groups: str | None) -> Decoded:
        """Streams the files, which are never whole in memory. Raises as `Reader.decode` does."""
        first = self.by_part["train"][0]
        columns, features = _schema(first)
        features = features or self.features
        image, label = self._named(first, columns, features)
        parts = {
            name: self._part(paths, image, label, skip_broken)
            for name, paths in self.by_part.items()
        }
        names = _class_names(features, label) or numbered(parts["train"].labels)
        decoded = decode_all(parts, names, image_size, str(self.root), self.passed, skip_broken)
        return with_groups(decoded, groups)

    def _named(
        self, path: Path, columns: Sequence[str], features: Mapping[str, Any]
    ) -> tuple[str, str]:
        """The columns of images and of labels."""
        where = repr(str(path))
        image = _chosen("image", self.columns.image, columns, features, where)
        label = _chosen("label", self.columns.label, columns, features, where)
        if image is None or label is None:
            raise DataError(
                f"{where} must have a column image or img and a column label, labels or "
                f"fine_label, but has {', '.join(columns)}; name them by ?image=NAME&label=NAME "
                "behind the data"
            )
        return image, label

    def _part(self, paths: Sequence[Path], image: str, label: str, skip_broken: bool) -> Files:
        """All labels of the files, and their images one chunk at a time."""
        labels: list[Labels] = []
        for path in paths:
            columns, _ = _schema(path)
            if label not in columns or image not in columns:
                raise DataError(
                    f"{str(path)!r} must have the columns {image} and {label}, as the other "
                    "files have"
                )
            pieces = _pieces(path, label, _LABELS)
            labels += [_whole_numbers(piece, label, path) for piece in pieces]
        every = np.concatenate(labels) if labels else np.zeros(0, np.int64)
        return Files(every, lambda: _encoded(paths, image, skip_broken))


def part_of_split(name: str) -> str | None:
    """The part that a split is by its name, such as "validation"; None: it is none of ours."""
    return next((part for part, words in PARTS.items() if name.lower() in words), None)


def _whole_numbers(values: Any, label: str, path: Path) -> Labels:
    """Labels, (n,), of a piece of their column."""
    import pyarrow

    if not pyarrow.types.is_integer(values.type) or values.null_count:
        what = "has none in some" if values.null_count else f"is {values.type}"
        raise DataError(
            f"{label} in {str(path)!r} must hold a whole number in each row, but {what}"
        )
    numbers: Labels = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _encoded(
    paths: Sequence[Path], column: str, skip_broken: bool = False
) -> Iterator[list[Encoded]]:
    """The images of the files, `CHUNK` at most at a time.

    Raises `DataError` for a row without one, which with `skip_broken` is an empty one.
    """
    for path in paths:
        row, size = 0, 0
        chunk: list[Encoded] = []
        for piece in _pieces(path, column):
            _check_bytes(piece.type, column, path)
            for value in piece.to_pylist():
                content = value.get("bytes") if isinstance(value, dict) else value
                if skip_broken and not isinstance(content, bytes):
                    content = b""
                if not isinstance(content, bytes):
                    raise DataError(
                        f"row {row} of {column} in {str(path)!r} holds no image's bytes, but "
                        f"{content!r:.40}; embed the images when writing the file"
                    )
                chunk.append(Encoded(f"row {row} of {path}", content))
                row, size = row + 1, size + len(content)
                if len(chunk) == CHUNK or size >= _CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
        if chunk:
            yield chunk


def _check_bytes(kind: Any, column: str, path: Path) -> None:
    """Raises `DataError` where a column's type can hold no encoded images: lists of numbers take
    many times their bytes as Python's.
    """
    import pyarrow

    types = pyarrow.types
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    one_of = (types.is_binary, types.is_large_binary, types.is_null, types.is_string)
    if not any(is_one(kind) for is_one in one_of):
        raise DataError(
            f"{column} in {str(path)!r} must hold images as bytes, PNG or JPEG, but is {kind}; "
            "cast the column to Image() before saving"
        )


def _class_names(features: Mapping[str, Any], label: str) -> tuple[str, ...] | None:
    """Those of a column of labels; None where they are not said."""
    feature = features.get(label)
    names = feature.get("names") if isinstance(feature, Mapping) else None
    if not isinstance(names, list) or not names:
        return None
    if not all(isinstance(name, (str, int)) for name in names):
        return None
    return tuple(map(str, names))


# --- what pyarrow reads ---------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file as pyarrow opens it, which it doesn't type; what it raises is a `DataError`."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"reading {str(path)!r} needs pyarrow: pip install 'nanonas[parquet]'"
        ) from None
    arrow = _is_arrow(path)
    try:
        require_plain(path)
        if arrow:
            with pyarrow.memory_map(str(path)) as mapped:
                yield mapped
        else:
            # without pre_buffer, which holds whole row groups: gigabytes of photographs
            with pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
                require_sizes(file.metadata)
                yield file
    except InvalidInput:
        raise
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{str(path)!r} cannot be read as {'Arrow' if arrow else 'parquet'}: {reason:.200}; "
            "get it anew"
        ) from None


def require_sizes(metadata: Any) -> None:
    """Looks at what a file says of its rows, before any is read.

    Args:
        metadata: of pyarrow, which doesn't type it.

    Raises:
        ValueError: they are more than any memory holds.
    """
    if metadata.num_rows > _ROWS:
        raise ValueError(f"it has {metadata.num_rows:,} rows, but {_ROWS:,} are the most")
    for place in range(metadata.num_row_groups):
        size = metadata.row_group(place).total_byte_size
        if not 0 <= size <= _GROUP:
            raise ValueError(
                f"its row group {place} has {size:,} bytes, but {_GROUP:,} are the most"
            )


def _is_arrow(path: Path) -> bool:
    return path.suffix == ".arrow"


def _schema(path: Path) -> tuple[list[str], Mapping[str, Any]]:
    """A file's columns, and what Hugging Face's metadata says of them; nothing without it."""
    with _opened(path) as file:
        if _is_arrow(path):
            import pyarrow.ipc

            with pyarrow.ipc.open_stream(file) as reader:
                schema = reader.schema
        else:
            schema = file.schema_arrow
            _check_rows(file.metadata.num_rows, path)
        names, metadata = list(schema.names), schema.metadata or {}
    try:
        features = parsed_json(metadata[b"huggingface"].decode("utf-8"))["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return names, {}
    return names, features if isinstance(features, Mapping) else {}


def _check_rows(rows: int, path: Path) -> None:
    """Raises `DataError` for more rows than bytes: a label that is said to repeat a billion times
    takes a few bytes here, and gigabytes in memory.
    """
    size = path.stat().st_size
    if rows > size:
        raise DataError(
            f"{str(path)!r} says that it has {rows:,} rows, more than a file of {size:,} bytes can "
            "hold images; get it anew"
        )


def _pieces(path: Path, column: str, rows: int = _PIECE) -> Iterator[Any]:
    """A column of a file, so many rows at most at a time, as pyarrow's arrays."""
    with _opened(path) as file:
        if not _is_arrow(path):
            for batch in file.iter_batches(rows, columns=[column]):
                yield batch.column(0)
            return
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(file) as reader:
            place = reader.schema.names.index(column)
        file.seek(0)
        options = pyarrow.ipc.IpcReadOptions(included_fields=[place])
        with pyarrow.ipc.open_stream(file, options=options) as reader:
            for batch in reader:
                values = batch.column(0)
                values.validate(full=True)  # offsets of strangers may point anywhere
                for start in range(0, len(values), rows):
                    yield values.slice(start, rows)
