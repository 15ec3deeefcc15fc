"""Drawings of networks: every layer and every link of the network is there, and arcs do not
overlap.
"""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from nanonas.networks.layout import drawing
from nanonas.networks.network import Draft, Network
from nanonas.report.charts.architecture import parts, svg
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.terminal.tables import architecture_tree

SHAPE, CLASSES = (3, 16, 16), 4
SPACES = [
    LayersSpace(SHAPE, CLASSES),
    NanoSpace(SHAPE, CLASSES, channels=8),
    NASBench201Space(SHAPE, CLASSES),
]
SVG = "{http://www.w3.org/2000/svg}"


def networks(space: Space, number: int = 15) -> list[Network]:
    rng = np.random.default_rng(0)
    return [space.decode(space.sample(rng)) for _ in range(number)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_all_nodes_parameters_and_links_are_drawn(space: Space) -> None:
    for network in networks(space):
        found = drawing(network)
        names = [name for row in found.rows for name in row.nodes]
        assert names == [node.name for node in network.nodes]
        assert sum(row.params for row in found.rows) == network.params
        place = {name: n for n, row in enumerate(found.rows) for name in row.nodes} | {"input": 0}
        links = {(place[name], place[node.name]) for node in network.nodes for name in node.inputs}
        assert set(found.links) == {(start, end) for start, end in links if start != end}
        assert all(start < end for start, end in found.links)
        for node in network.nodes:
            if node.name == found.rows[place[node.name]].nodes[-1]:
                assert found.rows[place[node.name]].shape == node.shape


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_arcs_of_a_lane_do_not_overlap(space: Space) -> None:
    for network in networks(space):
        arcs = drawing(network).arcs
        assert {(start, end) for start, end, _ in arcs} == {
            link for link in drawing(network).links if link[1] - link[0] > 1
        }
        for lane in {lane for *_, lane in arcs}:
            own = sorted((start, end) for start, end, one in arcs if one == lane)
            assert all(before[1] <= after[0] for before, after in pairwise(own))


def test_a_layer_that_two_read_stands_alone() -> None:
    """Between a convolution and its norm nothing else may read: else the arc would begin inside a
    row.
    """
    draft = Draft(SHAPE, CLASSES)
    conv = draft.add("conv", "input", filters=3, kernel=3, stride=1, groups=1, bias=False)
    norm = draft.add("norm", conv)
    network = draft.finish(
        draft.add("dense", draft.add("globalpool", draft.add("add", norm, conv)), units=CLASSES)
    )
    assert [row.nodes for row in drawing(network).rows][1:3] == [("conv1",), ("norm1",)]


def test_the_svg_is_one_element_with_a_row_a_layer() -> None:
    network = networks(SPACES[0])[3]
    marks = {network.nodes[0].name: "new", network.nodes[-1].name: "changed"}
    element = ElementTree.fromstring(svg(network, marks, title='<&">'))
    assert element.tag == f"{SVG}svg"
    assert element.findtext(f"{SVG}title") == '<&">'
    assert element.find(f"{SVG}style") is not None
    found = drawing(network)
    assert len(element.findall(f".//{SVG}rect")) == len(found.rows)
    assert len(element.findall(f"{SVG}path")) == len(found.links)
    classes = [group.get("class") for group in element.findall(f"{SVG}g")]
    assert (classes.count("new"), classes.count("changed")) == (1, 1)
    assert "<style>" not in svg(network, styled=False)


def test_in_words_a_skip_says_what_is_read() -> None:
    network = networks(SPACES[1])[0]
    lines = [
        str(row.label) for size in architecture_tree(network, "").children for row in size.children
    ]
    assert len(lines) == len(drawing(network).rows)
    assert any("add" in line and "←" in line for line in lines)


def test_the_pieces_of_a_drawing_come_up_again_and_again() -> None:
    drawn = [parts(network) for network in networks(SPACES[0], 60)]
    for network, pieces in zip(networks(SPACES[0], 60), drawn, strict=True):
        title = "<title>architecture</title>"
        assert "".join(pieces) == svg(network, styled=False).replace(title, "")
        assert not any("\n" in piece for piece in pieces)
    distinct = {piece for pieces in drawn for piece in pieces}
    assert len(distinct) < 0.4 * sum(map(len, drawn))
