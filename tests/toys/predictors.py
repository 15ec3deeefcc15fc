"""What the tests of predictors share."""

from __future__ import annotations

import numpy as np

from nanonas.core import Floats


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two arrays without ties, shape (n,) each."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
