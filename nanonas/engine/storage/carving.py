"""Rows of a damaged SQLite file, read from its pages one by one.

SQLite finds a table by the file's header, its schema and the pages above those that hold rows;
where one of these is damaged, it reads nothing. Here every page that looks like the leaf of a table
is read for itself, and what does not fit together is passed over. The format:
https://www.sqlite.org/fileformat2.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PAGE_SIZE = 4096  # SQLite's own choice, where the header does not say another
_SIZES = [2**power for power in range(9, 17)]
_LEAF = 0x0D  # the first byte of a page with rows
_HEADER = 100  # bytes of the file's header, on the first page
_WAL_HEADER, _FRAME_HEADER = 32, 24
_LONGEST = 2**24  # bytes of a row; the longest of ours have some thousand
_COLUMNS = 32  # of a table; ours have eleven

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Carved:
    """A row that was found: of which table is for the reader to tell."""

    rowid: int
    values: Values


def carved(content: bytes, log: bytes = b"") -> Iterator[Carved]:
    """Every row that can be read, in no order; one may come several times, as it was at several
    moments.

    Args:
        content: of the database's file, or what is left of it.
        log: of its write-ahead log ("-wal").
    """
    for size in _page_sizes(content, log):
        pages = _pages(content, size)
        views = [pages]
        for same_salt in (True, False) if log else ():
            view = pages | _frames(log, size, same_salt)
            if view not in views:
                views.append(view)
        for view in views:
            yield from _Pages(view, size).rows()


def _page_sizes(content: bytes, log: bytes) -> list[int]:
    """The sizes that pages may have: what the headers say, and the usual one."""
    said = {PAGE_SIZE}
    if len(content) >= 18:
        (size,) = struct.unpack(">H", content[16:18])
        said.add(65536 if size == 1 else size)
    if len(log) >= 12:
        said.add(struct.unpack(">I", log[8:12])[0])
    return sorted(said.intersection(_SIZES))


def _pages(content: bytes, size: int) -> dict[int, bytes]:
    """Pages by their number, from 1; the last one may be cut off."""
    starts = range(0, len(content), size)
    return {number: content[start : start + size] for number, start in enumerate(starts, 1)}


def _frames(log: bytes, size: int, same_salt: bool) -> dict[int, bytes]:
    """The last version of each page in a log.

    Args:
        same_salt: without the frames that are left from before the log was begun anew.
    """
    frames: dict[int, bytes] = {}
    step = _FRAME_HEADER + size
    for start in range(_WAL_HEADER, len(log) - _FRAME_HEADER, step):
        (number,) = struct.unpack(">I", log[start : start + 4])
        if not same_salt or log[start + 8 : start + 16] == log[16:24]:
            frames[number] = log[start + _FRAME_HEADER : start + step]
    return frames


@dataclass
class _Pages:
    """The pages of a database, as they were at one moment."""

    pages: Mapping[int, bytes]
    size: int
    _used: set[int] = field(default_factory=set)  # as overflow: of one row each

    def rows(self) -> Iterator[Carved]:
        for number, page in self.pages.items():
            start = _HEADER if number == 1 else 0
            if page[start : start + 1] == bytes([_LEAF]):
                yield from self._leaf(page, start)

    def _leaf(self, page: bytes, start: int) -> Iterator[Carved]:
        (cells,) = struct.unpack(">H", page[start + 3 : start + 5].ljust(2, b"\0"))
        room = self.size  # cells lie beside each other, so what they take is a page at most
        for cell in range(min(cells, self.size // 2)):
            place = start + 8 + 2 * cell
            pointer = page[place : place + 2]
            if len(pointer) == 2:
                try:
                    row, taken = self._cell(page, struct.unpack(">H", pointer)[0])
                except (ValueError, IndexError, struct.error, UnicodeDecodeError):
                    continue  # damaged
                if (room := room - taken) < 0:
                    return
                yield row

    def _cell(self, page: bytes, place: int) -> tuple[Carved, int]:
        """The row of a cell, and its bytes on the page. Raises `ValueError` or `IndexError` for one
        that is damaged.
        """
        length, place = _varint(page, place)
        rowid, place = _varint(page, place)
        if length > _LONGEST:
            raise ValueError("longer than any row")
        local = self._local(length)
        payload = page[place : place + local]
        if local < length:
            place += local
            (number,) = struct.unpack(">I", page[place : place + 4])
            payload += self._overflow(number, length - local)
        if len(payload) != length:
            raise ValueError("cut off")
        return Carved(rowid, _record(payload)), local

    def _local(self, length: int) -> int:
        """How many bytes of a row lie on its page."""
        usable = self.size
        if length <= usable - 35:
            return length
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        return local if local <= usable - 35 else least

    def _overflow(self, number: int, length: int) -> bytes:
        """The rest of a row, from the pages that it goes on in."""
        parts: list[bytes] = []
        while length > 0:
            if number in self._used:
                raise ValueError("a page of another row")
            self._used.add(number)
            page = self.pages.get(number, b"")
            parts.append(page[4 : min(self.size, 4 + length)])
            if not parts[-1]:
                raise ValueError("cut off")
            length -= len(parts[-1])
            (number,) = struct.unpack(">I", page[:4])
        return b"".join(parts)


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """An integer of one to nine bytes, and the place behind it."""
    value = 0
    for byte in range(9):
        one = content[place + byte]
        if byte == 8:
            return _signed(value << 8 | one), place + 9
        value = value << 7 | one & 0x7F
        if one < 0x80:
            return value, place + byte + 1
    raise AssertionError


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes, by the type of the value
_CONSTANTS = {0: None, 8: 0, 9: 1}
_FLOAT, _BLOB = 7, 12


def _record(payload: bytes) -> Values:
    """The values of a row. Raises `ValueError` or `IndexError` for one that is damaged."""
    end, place = _varint(payload, 0)
    types: list[int] = []
    while place < end:
        kind, place = _varint(payload, place)
        types.append(kind)
        if len(types) > _COLUMNS:
            raise ValueError("more values than any row has")
    if place != end:
        raise ValueError("a header that does not end where it says")
    values = []
    for kind in types:
        value, place = _value(payload, place, kind)
        values.append(value)
    if place != len(payload):
        raise ValueError("longer or shorter than its values")
    return tuple(values)


def _value(payload: bytes, place: int, kind: int) -> tuple[Any, int]:
    """A value of a row, and the place behind it."""
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], place
    if kind in _INTEGERS:
        end = place + _INTEGERS[kind]
        return int.from_bytes(payload[place:end], "big", signed=True), end
    if kind == _FLOAT:
        end = place + 8
        return struct.unpack(">d", payload[place:end])[0], end
    if kind < _BLOB:
        raise ValueError(f"a value of the unknown type {kind}")
    end = place + (kind - _BLOB) // 2
    content = payload[place:end]
    return content if kind % 2 == 0 else content.decode("utf-8"), end
