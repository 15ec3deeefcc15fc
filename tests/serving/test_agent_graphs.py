"""What a graph from a stranger cannot do to an agent, and how passes of the others are measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.agents import endless, huge, model, small

pytest.importorskip("onnx", reason="needs pip install 'nanonas[onnx]'")
pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")

import onnx
from onnx import TensorProto, helper

from nanonas.maths.intervals import median_interval
from nanonas.serving.agent.child import INPUTS, NARROW, _inputs, narrow, passes
from nanonas.serving.agent.graph import NODES, Refused, look_through
from nanonas.serving.agent.measuring import MIB, Bounds, Measuring

# --- what is looked at before a runtime sees it ---------------------------------------------------


def test_what_exporters_write_may_be_measured() -> None:
    look_through(small().SerializeToString())
    look_through(endless().SerializeToString())  # its time is limited instead


def elsewhere(location: str) -> Any:
    made = small()
    [tensor] = made.graph.initializer
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    return made


def in_a_branch() -> Any:
    """Data elsewhere, in a constant of a graph inside a node."""
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])
    onnx.external_data_helper.set_external_data(_raw(constant), "/etc/passwd")
    value = helper.make_node("Constant", [], ["v"], value=constant)
    out = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    branch = helper.make_graph([value], "branch", [], [out])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    return model([choice])


def _raw(tensor: Any) -> Any:
    tensor.raw_data = b"\0\0\0\0"
    return tensor


def declared(*dims: int) -> Any:
    made = small()
    made.graph.initializer[0].dims[:] = dims
    return made


def nested(depth: int) -> Any:
    graph = small().graph
    for _ in range(depth):
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [])
    return helper.make_model(graph)


def with_function() -> Any:
    node = helper.make_node("Identity", ["x"], ["y"])
    own = helper.make_function("own", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 18)])
    return small(functions=[own])


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "data in a file": (lambda: elsewhere("weights.bin"), "lie in another file"),
    "data of the system": (lambda: elsewhere("/etc/passwd"), "lie in another file"),
    "data in memory": (lambda: elsewhere("*/_ORT_MEM_ADDR_/*"), "lie in another file"),
    "data in a branch": (in_a_branch, "lie in another file"),
    "a tensor of 2^62": (lambda: declared(2**31, 2**31), "should have 2.15e+09×2.15e+09 values"),
    "a negative side": (lambda: declared(-1), "should have 1.84e+19 values"),
    "many axes": (lambda: declared(*[1] * 100), "more than 64 axes"),
    "an operator of others": (
        lambda: model([helper.make_node("Run", ["x"], ["y"], domain="com.microsoft")]),
        "'Run' is of 'com.microsoft'",
    ),
    "functions": (with_function, "functions of its own"),
    "deep graphs": (lambda: nested(20), "more than 8 deep"),
    "too many nodes": (
        lambda: model([helper.make_node("Relu", ["x"], ["y"])] * (NODES + 1)),
        "more than 20,000 nodes",
    ),
    "no nodes": (lambda: model([]), "no graph of ONNX"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused_before_it_is_loaded(name: str) -> None:
    made, sentence = HOSTILE[name]
    with pytest.raises(Refused) as refusal:
        look_through(made().SerializeToString())
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80", b"PK\3\4" * 9, bytes(100), b"\xff" * 99])
def test_what_is_no_onnx_is_refused(content: bytes) -> None:
    with pytest.raises(Refused, match=r"no graph of ONNX; send what torch\.onnx\.export"):
        look_through(content)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_bytes_are_refused_or_read(data: st.DataObject) -> None:
    """Whatever was changed in a file: no other exception."""
    content = bytearray(endless().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                content[place] = data.draw(st.integers(0, 255))
            case "cut":
                del content[place : place + data.draw(st.integers(1, 9))]
                content = content or bytearray(b"\0")
            case _:
                content[place:place] = data.draw(st.binary(max_size=12))
    with contextlib.suppress(Refused):
        look_through(bytes(content))


# --- inputs and passes ----------------------------------------------------------------------------


class Input:
    def __init__(self, shape: list[Any], kind: str = "tensor(float)") -> None:
        self.name, self.shape, self.type = "x", shape, kind


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (Input(["n", 2**40]), "MiB, but 64 MiB are the most"),
        (Input(["n", "side"]), "only the batch may be of any size"),
        (Input([7, 8]), "takes batches of 7, but 2 is asked for"),
        (Input([]), "no axis for the images"),
        (Input(["n", 8], "tensor(string)"), "must be one of numbers"),
        (Input(["n", 8], "seq(tensor(float))"), "must be one of numbers"),
    ],
)
def test_inputs_are_looked_at_before_they_are_made(made: Input, sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        _inputs([made], 2)
    assert sentence in str(refusal.value)


def test_inputs_are_of_the_batch_that_is_asked_for() -> None:
    [(name, value)] = _inputs([Input(["n", 3, 4], "tensor(uint8)")], 5).items()
    assert (name, value.shape, value.dtype) == ("x", (5, 3, 4), np.uint8)
    [places] = _inputs([Input([5], "tensor(int64)")], 5).values()
    assert places.tolist() == [0] * 5
    largest = Input([2, INPUTS // 16], "tensor(int64)")
    assert _inputs([largest], 2)["x"].nbytes == INPUTS


class Clock:
    """Passes take what they take by this clock."""

    def __init__(self, took: Callable[[int], float]) -> None:
        self.now, self.runs, self.took = 0.0, 0, took

    def __call__(self) -> float:
        return self.now

    def run(self) -> None:
        self.now += self.took(self.runs) / 1000
        self.runs += 1


def test_passes_are_repeated_until_the_median_is_known_and_no_longer() -> None:
    steady = Clock(lambda number: 2.0)
    assert passes(steady.run, 10.0, steady).tolist() == pytest.approx([2.0] * 120)
    slow = Clock(lambda number: 20.0)
    assert len(passes(slow.run, 10.0, slow)) == 30
    rng = np.random.default_rng(0)
    noisy = Clock(lambda number: float(rng.lognormal(0, 0.5)))
    times = passes(noisy.run, 10.0, noisy)
    assert 240 < len(times) < 4000
    assert narrow(*median_interval(list(times)), len(times))
    half = median_interval(list(times[: len(times) // 2]))
    assert not narrow(*half, len(times) // 2)


def test_the_time_ends_passes_and_one_is_measured_all_the_same() -> None:
    unsteady = Clock(lambda number: 1.0 + 99.0 * (number % 2))
    times = passes(unsteady.run, 2.0, unsteady)
    assert unsteady.now < 2.2
    assert not narrow(*median_interval(list(times)), len(times))
    slow = Clock(lambda number: 60_000.0)
    assert passes(slow.run, 2.0, slow).tolist() == [60_000.0]
    assert slow.runs == 2
    assert not narrow(1.0, 1.0, 1.0, 1)
    assert narrow(1.0, 1.0, 1 + 0.9 * NARROW, 30)


# --- in a process of its own ----------------------------------------------------------------------


def test_a_graph_that_never_ends_is_ended() -> None:
    measuring = Measuring(bounds=Bounds(seconds=2.0))
    with pytest.raises(Refused, match="not over after 2 s, which is the longest"):
        measuring.measure(endless().SerializeToString(), 1, 0.1)


def test_a_graph_that_asks_for_more_memory_than_there_is_gets_none() -> None:
    measuring = Measuring(bounds=Bounds(memory=64 * MIB))
    with pytest.raises(Refused, match="more memory than the 64 MiB that are allowed"):
        measuring.measure(huge(2**33).SerializeToString(), 1, 0.1)


def test_a_graph_that_onnxruntime_cannot_run_is_refused_with_its_words() -> None:
    node = helper.make_node("Conv", ["x", "x"], ["y"])
    with pytest.raises(Refused, match=r"onnxruntime cannot run the graph: .*Conv"):
        Measuring().measure(model([node]).SerializeToString(), 1, 0.1)
