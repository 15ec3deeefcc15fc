"""Real numbers as 8-bit integers, and factors as multiplications and shifts of integers.

After Jacob et al. 2018, https://arxiv.org/abs/1712.05877: real = scale · (integer - zero). Sums are
32-bit integers. They are brought to another scale by a multiplication with a 32-bit integer and a
shift to the right by 1 to 62 bits, in 64 bits; halves are rounded up, towards plus infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = -128, 127  # of an activation
LARGEST_WEIGHT = 127  # weights lie around 0, from -127
LARGEST_BIAS = 2**29  # leaves a sum room for 49 thousand products
MOST_PRODUCTS = (2**31 - LARGEST_BIAS) // ((HIGHEST - LOWEST) * LARGEST_WEIGHT) - 1
_MOST_SHIFT = 62


@dataclass(frozen=True)
class Scale:
    """How real numbers are 8-bit integers."""

    scale: float  # real numbers between two neighbours, above 0
    zero: int  # the integer that is 0, in [-128, 127]

    def integers(self, real: NDArray[Any]) -> NDArray[np.int8]:
        """The nearest integers, and the outermost ones beyond them."""
        nearest = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero
        return np.asarray(np.clip(nearest, LOWEST, HIGHEST), np.int8)

    def real(self, integers: NDArray[Any]) -> NDArray[np.float64]:
        """What integers stand for."""
        return self.scale * (integers.astype(np.float64) - self.zero)


def scale_of(low: float, high: float, finest: float = 0.0) -> Scale:
    """The scale whose integers reach from `low` to `high` and over 0, exactly one of them being 0.

    Args:
        finest: a scale that it is no finer than.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / (HIGHEST - LOWEST), finest)
    if not scale > 0:
        return Scale(1.0, LOWEST if high >= 0 else 0)
    zero = round(LOWEST - low / scale)
    return Scale(scale, min(max(zero, LOWEST), HIGHEST))


def fixed(factor: float) -> tuple[int, int]:
    """A factor of 0 or more as a multiplier and a shift: factor ≈ multiplier / 2^shift.

    The multiplier has 31 bits. Factors below 2^-32 lose some of them; those from 2^30 on become
    2^30, which takes any sum beyond 8 bits anyway.
    """
    fraction, exponent = math.frexp(factor)
    multiplier, shift = round(fraction * 2**31), 31 - exponent
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    if shift > _MOST_SHIFT:
        multiplier, shift = multiplier >> min(shift - _MOST_SHIFT, 31), _MOST_SHIFT
    if shift < 1:
        multiplier, shift = 2**31 - 1, 1
    return multiplier, shift


def fixed_together(factors: list[float]) -> tuple[list[int], int]:
    """Factors as multipliers of one shift, so small that as many differences of 8-bit integers,
    each times its multiplier, add up in 32 bits.
    """
    most = 2**30 // (256 * len(factors))  # half of the range: the other half rounds
    _, exponent = math.frexp(max(factors) / most)
    shift = min(max(-exponent, 1), 30)
    return [min(round(factor * 2**shift), most) for factor in factors], shift


def rescaled(sums: NDArray[Any], multiplier: Any, shift: Any) -> NDArray[np.int64]:
    """Sums times multiplier / 2^shift, halves rounded up."""
    products = sums.astype(np.int64) * np.asarray(multiplier, np.int64)
    half = np.left_shift(np.int64(1), np.asarray(shift, np.int64) - 1)
    return np.asarray(np.right_shift(products + half, np.asarray(shift, np.int64)))


def saturated(integers: NDArray[Any], zero: int) -> NDArray[np.int8]:
    """Integers around 0 as activations around `zero`, held at the ends of their range."""
    return np.asarray(np.clip(integers + zero, LOWEST, HIGHEST), np.int8)
