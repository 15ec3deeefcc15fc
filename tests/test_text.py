"""Numbers in words."""

from __future__ import annotations

import pytest

from nanonas.text import began_with, by_number, number_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (number_of(0, "image"), "0 images"),
        (number_of(1, "image"), "1 image"),
        (number_of(1200, "image"), "1,200 images"),
        (number_of(1, "child", "children"), "1 child"),
        (number_of(3, "child", "children"), "3 children"),
        (number_of(0.5, "epoch", form=".3g"), "0.5 epochs"),
        (number_of(1.0, "epoch", form=".3g"), "1 epoch"),
        (number_of(0.9999, "epoch", form=".3g"), "1 epoch"),  # as it is written
        (by_number(1, "is", "are"), "is"),
        (by_number(0, "is", "are"), "are"),
        (by_number(2, "is", "are"), "are"),
    ],
)
def test_what_is_counted_agrees_with_its_number(said: str, expected: str) -> None:
    assert said == expected


@pytest.mark.parametrize(
    ("factor", "how"),
    [
        (0.3, "learnt 0.3 times as fast"),
        (1.0, "learnt as fast as the others"),
        (0.0, "stayed as they were"),
    ],
)
def test_how_weights_went_on_that_a_training_began_with(factor: float, how: str) -> None:
    said = began_with({"name": "cars", "digest": "", "share": 0.972, "body_lr": factor})
    assert said == f"began with the weights of cars, 97.2 % of its parameters, which {how}"
