"""A genome in a file: which space it belongs to, for which images, and what is known of it.

    {"format": "nanonas-genome-1", "space": "nano", "options": {"channels": 48, "length": 6},
     "input_shape": [3, 32, 32], "class_names": ["airplane", …], "genome": [0, 1, …],
     "data": "cifar10", "known": {"accuracy": 0.81, "params": 241738, …},
     "preprocessing": {"mean": [0.49, 0.48, 0.45], …}}  (see `data.preprocessing`)

JSON that a person can read, copy and edit; reading checks all of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nanonas.config.files import configure, nearest
from nanonas.config.parts import SPACES, make_space
from nanonas.config.schema import SpaceOptions
from nanonas.core import Genome, Shape
from nanonas.data.preprocessing import LONGEST, MOST_CLASSES, Preprocessing
from nanonas.errors import ConfigError, DataError, GenomeError
from nanonas.files import json_in, write_text
from nanonas.networks.network import Network
from nanonas.spaces.base import Space

FORMAT = "nanonas-genome-1"
# Bytes of float32 that a network in a file may need for one image: its weights, and what its
# largest operation reads and writes.
MOST = 2**31


@dataclass(frozen=True)
class GenomeFile:
    """The contents of a genome file."""

    space: str  # a key of `config.parts.SPACES`
    genome: Genome
    input_shape: Shape  # (C, H, W)
    class_names: tuple[str, ...]
    options: Mapping[str, int] = field(default_factory=dict)  # of the space
    data: str = ""  # the source that it was found on
    # accuracy, params, macs, …; "candidate" names the weights
    known: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None  # of its images; None: not known

    def make_space(self) -> Space:
        """The space that reads the genome."""
        values: dict[str, Any] = {"space": self.space, **self.options}
        options = SpaceOptions(**values)
        return make_space(options, self.input_shape, len(self.class_names))

    def network(self) -> Network:
        """The network. Raises `GenomeError` when the genome is none of its space."""
        return self.make_space().decode(self.genome)

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all. Raises `RunError` when it cannot."""
        rule = None if self.preprocessing is None else self.preprocessing.to_json()
        values = {"format": FORMAT, **asdict(self), "preprocessing": rule}
        write_text(path, json.dumps(values, indent=1) + "\n")


def space_options(options: SpaceOptions) -> dict[str, int]:
    """The options of the configured space that belong into a genome file."""
    return {name: getattr(options, name) for name in SPACES[options.space].options}


def read_genome(path: Path) -> GenomeFile:
    """Reads and checks a genome file, the network included.

    Raises:
        GenomeError: no file, no JSON, another format, a field that is missing or wrong, or a genome
            that its space does not read.
    """
    try:
        values = json_in(path)
    except FileNotFoundError:
        raise GenomeError(f"there is no genome file {str(path)!r}") from None
    except OSError as error:
        raise GenomeError(
            f"the genome file {str(path)!r} cannot be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise GenomeError(
            f"{path} is not JSON: {error}; restore it, or export the genome again"
        ) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise GenomeError(
            f'{path} must be an object with "format": "{FORMAT}", but has {found!r:.80}'
        )
    return _checked({key: value for key, value in values.items() if key != "format"}, path)


def _checked(values: dict[str, Any], path: Path) -> GenomeFile:
    names = [f.name for f in fields(GenomeFile)]
    for name in values:
        if name not in names:
            raise GenomeError(f"{path} has an unknown field {name!r:.80}{nearest(name, names)}")
    for name in ("space", "genome", "input_shape", "class_names"):
        if name not in values:
            raise GenomeError(f"{path} lacks the field {name!r}")
    if values["space"] not in list(SPACES):  # a list: what was put there may not be hashable
        raise GenomeError(
            f"{path}: space is {values['space']!r:.80}{nearest(str(values['space']), list(SPACES))}"
        )
    for name in ("genome", "input_shape"):
        if not isinstance(values[name], list) or not all(type(v) is int for v in values[name]):
            raise GenomeError(
                f"{path}: {name} must be a list of whole numbers, but is {values[name]!r:.80}"
            )
    if not isinstance(values["class_names"], list) or not all(
        isinstance(v, str) for v in values["class_names"]
    ):
        raise GenomeError(
            f"{path}: class_names must be a list of names, but is {values['class_names']!r:.80}"
        )
    if not isinstance(values.get("data", ""), str):
        raise GenomeError(f"{path}: data must be a source of images, but is {values['data']!r:.80}")
    for name in ("options", "known"):
        if not isinstance(values.get(name, {}), dict):
            raise GenomeError(f"{path}: {name} must be an object, but is {values[name]!r:.80}")
    for name, value in values.get("options", {}).items():
        allowed = SPACES[values["space"]].options
        if name not in allowed or type(value) is not int or value < 1:
            raise GenomeError(
                f"{path}: option {name!r:.80} is {value!r:.80}, but the space "
                f"{values['space']!r} has "
                + (
                    f"{', '.join(allowed)}, each a whole number above 0"
                    if allowed
                    else "no options"
                )
            )
    _check_sizes(values, path)
    rule = _preprocessing(values, path)
    lists = {name: tuple(values[name]) for name in ("genome", "input_shape", "class_names")}
    file = GenomeFile(**{**values, **lists, "preprocessing": rule})
    try:
        if file.options:
            configure(space=file.space, **file.options)  # within their ranges
        network = file.network()
    except (GenomeError, ConfigError) as error:
        raise GenomeError(f"{path}: {error}") from None
    steps = (
        math.prod(node.shape) + sum(map(math.prod, node.input_shapes)) for node in network.nodes
    )
    if (needed := 4 * (network.params + max(steps))) > MOST:
        raise GenomeError(
            f"{path}: its network would take {needed / 2**30:,.1f} GiB for one image, but "
            f"{MOST / 2**30:g} GiB are the most; give it smaller images or fewer channels"
        )
    return file


def _check_sizes(values: Mapping[str, Any], path: Path) -> None:
    """Raises `GenomeError` for images or classes beyond what is read from a file."""
    if max(values["input_shape"], default=0) > LONGEST:
        raise GenomeError(
            f"{path}: input_shape must be [channels, height, width], each {LONGEST:,} at most, but "
            f"is {values['input_shape']!r:.80}"
        )
    if len(values["class_names"]) > MOST_CLASSES:
        raise GenomeError(
            f"{path}: class_names must be {MOST_CLASSES:,} names at most, but are "
            f"{len(values['class_names']):,}"
        )


def _preprocessing(values: Mapping[str, Any], path: Path) -> Preprocessing | None:
    """That of a genome file; None where it has none, or one for other channels.

    Shape and names are those of the network, so that it is enough to change them there by hand.
    """
    given = values.get("preprocessing")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise GenomeError(f"{path}: preprocessing must be an object, but is {given!r:.80}")
    try:
        rule = Preprocessing.from_json(given)
    except DataError as error:
        raise GenomeError(f"{path}: {error}") from None
    shape, names = tuple(values["input_shape"]), tuple(values["class_names"])
    if shape[:1] != rule.input_shape[:1]:
        return None
    return replace(rule, input_shape=shape, class_names=names)
