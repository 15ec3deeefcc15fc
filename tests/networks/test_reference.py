"""The networks made by hand have the figures that are claimed for them."""

from __future__ import annotations

import pytest

from nanonas.networks.reference import REFERENCES

# parameters and MACs at (3, 32, 32) with 10 classes, and how close: exact counts or published
# roundings
FIGURES = {
    "resnet18": (11_173_962, 556e6, 0.01),
    "resnet20": (272_474, 40.8e6, 0.01),
    "resnet8": (78_042, 12.5e6, 0.01),
    "baseline": (180e3, 22.8e6, 0.02),
    "plain_242k": (242e3, 12.7e6, 0.02),
    "residual_247k": (247e3, 18.3e6, 0.01),
    "residual_96k": (96e3, 8.5e6, 0.01),
    "plain_61k": (61e3, 3.4e6, 0.02),
    "separable_57k": (57e3, 5.6e6, 0.02),
    "linear": (40, 30, 0),
}


def test_every_reference_has_figures() -> None:
    assert list(REFERENCES) == list(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name: str) -> None:
    params, macs, tolerance = FIGURES[name]
    network = REFERENCES[name]((3, 32, 32), 10)
    assert network.params == (
        params if isinstance(params, int) else pytest.approx(params, rel=tolerance)
    )
    assert network.macs == pytest.approx(macs, rel=tolerance)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 1, 5), (1, 1, 1), (3, 224, 224)])
def test_any_input_shape(name: str, shape: tuple[int, int, int]) -> None:
    assert REFERENCES[name](shape, 7).nodes[-1].shape == (7,)
