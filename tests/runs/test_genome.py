"""Genome files: what is written is read again, and what somebody broke is one sentence that names
the file.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonas.config.schema import SpaceOptions
from nanonas.core import rng_for
from nanonas.data.preprocessing import Preprocessing
from nanonas.data.sources import Depth
from nanonas.errors import GenomeError, RunError
from nanonas.runs.genome import FORMAT, GenomeFile, read_genome, space_options
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace

NANO = GenomeFile(
    "nano",
    (0, 1, 2, 3),
    (3, 32, 32),
    ("Katze", "ネコ"),
    {"channels": 12, "length": 4},
    "cifar10",
    {"accuracy": 0.5, "params": 1234},
)
LAYERS = GenomeFile(
    "layers", LayersSpace((1, 8, 8), 10).sample(rng_for(0, 0)), (1, 8, 8), tuple("0123456789")
)
KEPT = replace(
    NANO,
    preprocessing=Preprocessing(
        NANO.input_shape, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), NANO.class_names, Depth(4095, 1)
    ),
)
FILES = {"nano": NANO, "layers": LAYERS, "kept": KEPT}


def values(file: GenomeFile = NANO) -> dict[str, Any]:
    """What is in the file, to be changed."""
    with tempfile.TemporaryDirectory() as folder:
        file.write(Path(folder) / "g.json")
        content: dict[str, Any] = json.loads((Path(folder) / "g.json").read_text(encoding="utf-8"))
        return content


def complaint(path: Path, content: object) -> str:
    """What is said of a file with this content."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(GenomeError) as error:
        read_genome(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_what_is_written_is_read_again(file: GenomeFile, tmp_path: Path) -> None:
    file.write(tmp_path / "g.json")
    assert read_genome(tmp_path / "g.json") == file
    assert [path.name for path in tmp_path.iterdir()] == ["g.json"]
    assert file.network().key == file.make_space().decode(file.genome).key


def test_a_genome_reads_as_in_the_space_that_it_was_found_in() -> None:
    config = SpaceOptions("nano", channels=12, length=4)
    assert space_options(config) == NANO.options
    assert NANO.make_space() == NanoSpace((3, 32, 32), 2, channels=12, length=4)
    assert space_options(SpaceOptions("layers")) == {}


def test_what_may_be_left_out_may_be_left_out(tmp_path: Path) -> None:
    few = {
        name: value for name, value in values().items() if name not in ("options", "data", "known")
    }
    (tmp_path / "g.json").write_text(json.dumps(few), encoding="utf-8")
    file = read_genome(tmp_path / "g.json")
    assert (file.options, file.data, file.known) == ({}, "", {})
    assert file.make_space() == NanoSpace((3, 32, 32), 2)


@pytest.mark.parametrize("name", ["format", "space", "genome", "input_shape", "class_names"])
def test_what_has_to_be_there_is_missed(tmp_path: Path, name: str) -> None:
    content = values()
    del content[name]
    said = complaint(tmp_path / "g.json", content)
    expected = f' must be an object with "format": "{FORMAT}", but has None'
    assert said == (expected if name == "format" else f" lacks the field {name!r}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": "nanonas-genome-9"},
            f' must be an object with "format": "{FORMAT}", but has \'nanonas-genome-9\'',
        ),
        ({"genom": [1]}, " has an unknown field 'genom'; did you mean 'genome'?"),
        ({"space": "nona"}, ": space is 'nona'; did you mean 'nano'?"),
        ({"space": 5}, ": space is 5; known are stages, layers, nano, nasbench201"),
        ({"space": ["nano"]}, ": space is ['nano']; did you mean 'nano'?"),
        ({"genome": "0123"}, ": genome must be a list of whole numbers, but is '0123'"),
        ({"genome": [0, 1.5]}, ": genome must be a list of whole numbers, but is [0, 1.5]"),
        ({"genome": [0, True]}, ": genome must be a list of whole numbers, but is [0, True]"),
        ({"genome": None}, ": genome must be a list of whole numbers, but is None"),
        (
            {"genome": [0]},
            (
                ": a genome of the space 'nano' must have 2 operations or more, one a layer, but "
                "has "
                "1."
            ),
        ),
        (
            {"genome": [0, 8]},
            ": position 1 of a genome of the space 'nano' must be 0 to 7 (0 conv3x3, 1 conv1x1, 2 "
            "sep_conv3x3, "
            "3 sep_conv5x5, 4 maxpool, 5 avgpool, 6 skip, 7 zero), but is 8.",
        ),
        ({"input_shape": [32, 32]}, None),
        ({"input_shape": [3, 0, 32]}, None),
        (
            {"input_shape": "3x32x32"},
            ": input_shape must be a list of whole numbers, but is '3x32x32'",
        ),
        ({"class_names": "cat"}, ": class_names must be a list of names, but is 'cat'"),
        ({"class_names": [1, 2]}, ": class_names must be a list of names, but is [1, 2]"),
        ({"class_names": ["cat"]}, ": classes must be a whole number of 2 or more, but is 1."),
        ({"options": [1]}, ": options must be an object, but is [1]"),
        ({"options": None}, ": options must be an object, but is None"),
        ({"known": "much"}, ": known must be an object, but is 'much'"),
        ({"data": 5}, ": data must be a source of images, but is 5"),
        (
            {"options": {"chanels": 12}},
            (
                ": option 'chanels' is 12, but the space 'nano' has channels, length, each a whole "
                "number above 0"
            ),
        ),
        (
            {"options": {"channels": 0}},
            (
                ": option 'channels' is 0, but the space 'nano' has channels, length, each a whole "
                "number above 0"
            ),
        ),
        (
            {"options": {"channels": "many"}},
            (
                ": option 'channels' is 'many', but the space 'nano' has channels, length, each a "
                "whole number above 0"
            ),
        ),
        (
            {"space": "layers", "options": {"channels": 12}},
            ": option 'channels' is 12, but the space 'layers' has no options",
        ),
        ({"space": "layers", "options": {}}, None),
        ({"options": {"length": 1}}, None),
    ],
)
def test_what_was_changed_by_hand_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    said = complaint(tmp_path / "g.json", {**values(), **change})
    assert message is None or said == message


def test_preprocessing_is_that_of_the_network(tmp_path: Path) -> None:
    content = values(KEPT)
    assert content["preprocessing"]["integers_up_to"] == 4095
    path = tmp_path / "g.json"

    def read(**change: object) -> Preprocessing | None:
        path.write_text(json.dumps({**content, **change}), encoding="utf-8")
        return read_genome(path).preprocessing

    assert read() == KEPT.preprocessing
    changed = read(class_names=["a", "b"], input_shape=[3, 16, 24])
    assert changed is not None
    assert (changed.class_names, changed.input_shape) == (("a", "b"), (3, 16, 24))
    assert read(input_shape=[1, 32, 32]) is None
    wrong = {**content["preprocessing"], "std": [0.1]}
    said = complaint(path, {**content, "preprocessing": wrong})
    assert said.startswith(": preprocessing: std must have 3 numbers, above 0")
    said = complaint(path, {**content, "preprocessing": 5})
    assert said == ": preprocessing must be an object, but is 5"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "5", '"words"', "\0", "[" * 100_000])
def test_what_is_no_genome_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    said = complaint(tmp_path / "g.json", content)
    assert said.startswith((" is not JSON: ", f' must be an object with "format": "{FORMAT}"'))


def test_what_was_cut_off_is_one_sentence(tmp_path: Path) -> None:
    whole = json.dumps(values())
    for length in range(0, len(whole), 7):
        assert complaint(tmp_path / "g.json", whole[:length]).startswith(" is not JSON: ")


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(GenomeError) as error:
        read_genome(tmp_path / "no.json")
    assert str(error.value) == f"there is no genome file '{tmp_path / 'no.json'}'"
    with pytest.raises(GenomeError, match=f"the genome file '{tmp_path}' cannot be read: "):
        read_genome(tmp_path)
    (tmp_path / "g.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(GenomeError, match="is not JSON"):
        read_genome(tmp_path / "g.json")


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"nowhere/g.json' cannot be written: .*; free space or permissions, then go on",
    ):
        NANO.write(tmp_path / "nowhere" / "g.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    file=st.sampled_from(sorted(FILES)),
    name=st.sampled_from([*values(), "another"]),
    inside=st.integers(0, 200)
    | st.sampled_from(["channels", "length", "mean", "input_shape"])
    | st.none(),
    value=JSON,
)
def test_no_change_by_hand_raises_anything_else(
    file: str, name: str, inside: Any, value: Any
) -> None:
    content = values(FILES[file])
    place = content.get(name)
    if isinstance(place, list) and isinstance(inside, int) and place:
        place[inside % len(place)] = value
    elif isinstance(place, dict) and isinstance(inside, str):
        place[inside] = value
    else:
        content[name] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        try:
            read = read_genome(path)
        except GenomeError as error:
            assert "\n" not in str(error)  # noqa: PT017 - that it raises is not the point
            return
        assert read.network().nodes
