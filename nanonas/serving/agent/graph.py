"""Whether a graph of ONNX may be given to onnxruntime, by what its file says.

A runtime opens other files where a graph names them, and allocates what a graph declares, before
it says anything. So the file is looked through first. It is a message of Protocol Buffers
(https://protobuf.dev/programming-guides/encoding/) with the fields of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); it is read here field by field, because
the package onnx need not be there where a network is measured. Fields that are not looked at are
skipped, so newer versions of ONNX are read, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

NODES = 20_000  # of a graph and of those inside its nodes
_DEPTH = 8  # of graphs inside nodes, such as the branches of an If
_DOMAINS = ("", "ai.onnx")  # of operators; the others are extensions of a runtime
_AXES = 64  # of a tensor
_PER_BYTE = 8  # values that a byte of a tensor can hold, at most

# --- the numbers of fields, by message ------------------------------------------------------------

_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # ModelProto
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # GraphProto
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # NodeProto
_TENSORS, _GRAPHS, _SPARSES = (5, 10), (6, 11), (22, 23)  # AttributeProto: one, and several
_DIMS, _EXTERNAL_DATA, _DATA_LOCATION = 1, 13, 14  # TensorProto

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # kinds of fields


class Refused(Exception):
    """A graph that is not measured; the message is a sentence."""


def look_through(content: bytes) -> None:
    """Raises `Refused` for what is no ONNX, needs other files or code, or declares tensors that it
    does not hold.
    """
    model, seen = memoryview(content), _Seen()
    for number, value in _fields(model):
        if number == _GRAPH:
            seen.graph(_message(value), 0)
        elif number == _FUNCTIONS:
            raise Refused(
                "the graph has functions of its own, but only operators of ONNX are measured; "
                "inline them"
            )
        elif number == _TRAINING:
            raise Refused("the file holds a training, but only inference is measured")
    if not seen.nodes:
        raise Refused(_NO_ONNX)


_NO_ONNX = "the body is no graph of ONNX; send what torch.onnx.export or `nanonas export` writes"


@dataclass
class _Seen:
    """What was found so far."""

    nodes: int = field(default=0, init=False)

    def graph(self, message: memoryview, depth: int) -> None:
        """A GraphProto, so many graphs deep."""
        if depth > _DEPTH:
            raise Refused(f"graphs lie in each other, more than {_DEPTH} deep")
        for number, value in _fields(message):
            if number == _NODE:
                self.node(_message(value), depth)
            elif number == _INITIALIZER:
                _tensor(_message(value))
            elif number == _SPARSE:
                raise Refused("the graph has sparse tensors, which are not measured")

    def node(self, message: memoryview, depth: int) -> None:
        """A NodeProto."""
        self.nodes += 1
        if self.nodes > NODES:
            raise Refused(f"the graph has more than {NODES:,} nodes")
        operator, domain = "?", ""
        for number, value in _fields(message):
            if number == _OPERATOR:
                operator = _text(value)
            elif number == _DOMAIN:
                domain = _text(value)
            elif number == _ATTRIBUTE:
                self.attribute(_message(value), depth)
        if domain not in _DOMAINS:
            raise Refused(
                f"the operator {operator!r} is of {domain!r}, but only those of ONNX itself are "
                "measured"
            )

    def attribute(self, message: memoryview, depth: int) -> None:
        """An AttributeProto, of a node."""
        for number, value in _fields(message):
            if number in _TENSORS:
                _tensor(_message(value))
            elif number in _GRAPHS:
                self.graph(_message(value), depth + 1)
            elif number in _SPARSES:
                raise Refused("the graph has sparse tensors, which are not measured")


def _tensor(message: memoryview) -> None:
    """A TensorProto: it has to hold what it declares."""
    dims: list[int] = []
    for number, value in _fields(message):
        if number == _DIMS:
            dims += [value] if isinstance(value, int) else _varints(value)
        elif number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise Refused(
                "a tensor's values lie in another file, but everything has to be in one; export it "
                "with external_data=False"
            )
    if len(dims) > _AXES:
        raise Refused(f"a tensor has more than {_AXES} axes")
    declared = math.prod(dims)
    if declared > _PER_BYTE * len(message):
        raise Refused(f"a tensor should have {_shape(dims)} values, but holds {len(message):,} B")


def _shape(dims: list[int]) -> str:
    shown = "×".join(f"{side:.3g}" if side >= 1e6 else str(side) for side in dims[:8])
    return shown if len(dims) <= 8 else f"{shown}×…"


# --- the encoding ---------------------------------------------------------------------------------


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in their order: numbers, and values as numbers or as bytes."""
    place, end = 0, len(message)
    while place < end:
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise Refused(_NO_ONNX)
        if number == 0 or size > end - place:
            raise Refused(_NO_ONNX)
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The number at a place, below 2^64, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            if value >= 2**64:
                break
            return value, place
    raise Refused(_NO_ONNX)


def _varints(packed: memoryview) -> list[int]:
    values, place = [], 0
    while place < len(packed):
        value, place = _varint(packed, place)
        values.append(value)
    return values


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise Refused(_NO_ONNX)
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)[:80]).decode("utf-8", "replace")
