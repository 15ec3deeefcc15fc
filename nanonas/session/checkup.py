"""A quick look at the images of a search that begins."""

from __future__ import annotations

import math

from loguru import logger

from nanonas.data.found import say
from nanonas.session.setup import Setup

# images that are looked at, and bytes of them: about two seconds of one core
_MOST, _BYTES = 20_000, 200_000_000


def warn(setup: Setup) -> None:
    """Says what makes the accuracies of a search wrong, if anything does; it changes nothing, and
    whatever goes wrong in it is no reason not to search.
    """
    from nanonas.data.doctor.findings import Case, warnings
    from nanonas.data.doctor.likeness import Subject

    data, images = setup.config.search.data, setup.images.shown
    if images is None:  # behind a backbone: what it has seen is gone
        return
    size = math.prod(images.input_shape)
    subject = Subject(images, min(_MOST, _BYTES // size))
    case = Case(images, setup.split, subject, setup.recipe.augment.flip, data.data)
    try:
        found = warnings(case)
    except Exception as error:  # noqa: BLE001  it is a courtesy
        logger.debug("the images were not looked at: {}", error)
        return
    for finding in found:
        way_out = f" ({finding.flag})" if finding.flag else ""
        say(f"{finding.sentence}{way_out}")
