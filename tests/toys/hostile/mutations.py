"""How a stranger changes a file: hypothesis strategies on its bytes, on its JSON, and on the parts
of archives.
"""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]

NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


class Trace:
    """Leaves a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.place),)


# --- bytes ----------------------------------------------------------------------------------------


@st.composite
def changed(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """One of some valid files with a few accidents, or wholly something else."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        content = _accident(draw, content, seeds)
    return bytes(content)


def _accident(draw: Draw, content: bytearray, seeds: Sequence[bytes]) -> bytearray:
    size = len(content)
    kind = draw(st.sampled_from(_KINDS))
    # the beginning, where headers are, as often as all the rest
    start = draw(st.integers(0, min(size, 200)) | st.integers(0, size))
    length = draw(st.sampled_from([1, 2, 4, 8, 30, 300]))
    match kind:
        case "bit" if start < size:
            content[start] ^= 1 << draw(st.integers(0, 7))
        case "byte" if start < size:
            content[start] = draw(st.integers(0, 255))
        case "number":
            width, order = draw(st.sampled_from("HIQ")), draw(st.sampled_from("<>"))
            number = draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(width)
            content[start : start + struct.calcsize(width)] = struct.pack(order + width, number)
        case "cut":
            del content[start:]
        case "remove":
            del content[start : start + length]
        case "double":
            content[start:start] = content[start : start + length]
        case "splice":
            other = draw(st.sampled_from(seeds))
            place = draw(st.integers(0, len(other)))
            content[start : start + length] = other[place : place + length]
        case "noise":
            content[start : start + length] = draw(st.binary(min_size=1, max_size=40))
        case "zeros":
            content[start : start + length] = bytes(length)
    return content


_KINDS = ("bit", "byte", "number", "cut", "remove", "double", "splice", "noise", "zeros")

# --- JSON -----------------------------------------------------------------------------------------

_DEEP: Any = json.loads("[" * 60 + "]" * 60)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, False, "", [], {}, 0, -1, 1, 0.5, -0.0, float("nan"), float("inf")]
    ),
    st.sampled_from(
        [2**31, 2**63, -(2**63), 2**64, 10**400, 1e308, -1e308, "x" * 5000, "\0", "\ud800", _DEEP]
    ),
    st.sampled_from(
        ["../../secret", "/etc/passwd", "~", "~nobody/x", "!!python/object:os.system", "{0}", "%s"]
    ),
    st.integers(-10, 10_000),
    st.text(max_size=8),
    st.lists(st.integers(-3, 300), max_size=5),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=3),
    st.sampled_from([["a"] * 1000, list(range(500)), {"a": {"b": [{}]}}, [[1, 2], [3]]]),
)


def _places(values: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything in a value; of long lists, to a few places."""
    found = [way]
    if isinstance(values, dict):
        for key in values:
            found += _places(values[key], (*way, key))
    elif isinstance(values, list):
        for place in sorted({*range(min(6, len(values))), *range(len(values))[-2:]}):
            found += _places(values[place], (*way, place))
    return found


def _odd(draw: Draw) -> Any:
    return copy.deepcopy(draw(ODD))  # which is changed later, perhaps


@st.composite
def odd(draw: Draw, seeds: Sequence[Any]) -> Any:
    """One of some values of JSON in which a few things are replaced, removed, added or doubled."""
    values = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        places = _places(values)
        way = places[draw(st.integers(0, len(places) - 1))]
        if not way:
            if draw(st.integers(0, 20)) == 0:
                return _odd(draw)
            continue
        inner = values
        for step in way[:-1]:
            inner = inner[step]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "double", "add"]))
        if kind == "replace":
            inner[way[-1]] = _odd(draw)
        elif kind == "remove":
            del inner[way[-1]]
        elif isinstance(inner, list):
            inner.insert(way[-1], _odd(draw) if kind == "add" else inner[way[-1]])
        else:
            inner[draw(st.text(max_size=6))] = _odd(draw)
    return values


def as_json(values: Any) -> bytes:
    """JSON as Python writes it, NaN and lone surrogates included."""
    return json.dumps(values).encode()


# --- archives -------------------------------------------------------------------------------------

_DTYPES = ("|u1", "<f4", "<i8", "|O", "<U3", "<U1000000", "|V8", "<M8[s]", "|b1", "<c16", "|S4")
_SHAPES = ("()", "(3,)", "(2, 2)", "(1000000000000,)", "(-1,)", "(0, 4294967296)", "(True,)")


def npy(descr: str, shape: str, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    """An .npy file that says what it likes of its data."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


_MEMBER = st.one_of(
    st.builds(npy, st.sampled_from(_DTYPES), st.sampled_from(_SHAPES), st.binary(max_size=64)),
    st.builds(
        npy,
        st.sampled_from(["|u1", "<f4", "<i8"]),
        st.sampled_from(["(8,)", "(2,)", "(1, 1)", "(0,)"]),
        st.binary(min_size=8, max_size=8),
    ),
    st.binary(max_size=80),
    st.just(bytes(2**19)),  # packs a thousandfold
)


@st.composite
def archives(draw: Draw, seeds: Sequence[bytes], names: Sequence[str]) -> bytes:
    """One of some .npz with members that are replaced, removed, renamed or added."""
    with zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(seeds)))) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for _ in range(draw(st.integers(1, 3))):
        odd_names = ("../../evil.npy", "/tmp/evil.npy", "a/b.npy", "x_train", "é.npy")
        name = draw(st.sampled_from([f"{name}.npy" for name in names]) | st.sampled_from(odd_names))
        if draw(st.integers(0, 4)) == 0:
            members.pop(name, None)
        else:
            members[name] = draw(_MEMBER)
    packed = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# --- safetensors ----------------------------------------------------------------------------------


@st.composite
def tensors(draw: Draw, seeds: Sequence[bytes]) -> bytes:
    """One of some files of safetensors, whose header says something else."""
    content = draw(st.sampled_from(seeds))
    (length,) = struct.unpack("<Q", content[:8])
    header = draw(odd([json.loads(content[8 : 8 + length])]))
    if isinstance(header, dict) and draw(st.booleans()):
        name = draw(st.sampled_from([*header, "extra"]))
        offsets = draw(st.lists(st.sampled_from([0, 4, 8, 2**31, 2**63, 2**64]), max_size=3))
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 2**32, 2**63]), max_size=4))
        kind = draw(st.sampled_from(["F32", "F64", "I64", "C64", "F4", "F8_E4M3", "BOOL", "X"]))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    said = draw(st.sampled_from([len(text), len(text), len(text), 2**27, 2**63, 0]))
    made: bytes = struct.pack("<Q", said) + text + content[8 + length :]
    return made
