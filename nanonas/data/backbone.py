"""A backbone: the first part of a network that others have trained, whose feature maps a search
takes for its images. This is the value that is kept with what was found behind it.

    {"name": "test_convnext.r160_in1k", "digest": "0c1d…", "image_shape": [3, 160, 160],
     "stage": 3, "repeated": 2, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
     "low": [-1.3, …], "high": [2.1, …], "params": 118912, "macs": 20373504}

Pixels in [0, 1] have `mean` subtracted and are divided by `std`; the model of that name in timm
makes a map of them, that of its `stage`, in which each value is `repeated` so often along rows and
columns; each channel of it is scaled so that `low` becomes 0 and `high` 255, and cut off there.
What networks train on is rounded, for it lies in the cache of images as uint8; in front of a
finished network nothing is.

`"tuned": true` is there where it has learnt with a network behind it: its weights are none of
timm's any more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nanonas.core import Shape
from nanonas.errors import ConfigError, DataError
from nanonas.text import count

WEIGHTS = "backbone.safetensors"  # of it: in the cache, beside its maps, and in a run's folder
TUNED = "tuned"  # in the metadata of these: they have learnt, and are none of a name's
MOST_CHANNELS = 4096  # of a map that a file may speak of: what it says may be a stranger's
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")  # no address that would be downloaded from


@dataclass(frozen=True)
class Backbone:
    """A backbone; see this module for what it does.

    Raises:
        DataError: a value that cannot be one.
    """

    name: str  # as timm has it
    digest: str  # of its weights
    image_shape: Shape  # (channels, height, width) of the images that it sees
    stage: int  # which of the model's maps, by timm's number
    repeated: int  # how often each of its values stands in a row, and each row in the map
    mean: tuple[float, ...]  # (3,), of pixels in [0, 1]; a grey image is three equal channels
    std: tuple[float, ...]  # (3,), above 0
    low: tuple[float, ...]  # (C,): what becomes 0, by the map's channels
    high: tuple[float, ...]  # (C,), above `low`: what becomes 255
    params: int  # as far as it is used
    macs: int  # for one image
    tuned: bool = False  # whether it has learnt with a network behind it, or is frozen

    def __post_init__(self) -> None:
        shape = self.image_shape
        right = {
            "name": isinstance(self.name, str) and _NAME.fullmatch(self.name) is not None,
            "digest": isinstance(self.digest, str),
            "image_shape": len(shape) == 3
            and all(type(size) is int and 0 < size <= 4096 for size in shape)
            and shape[0] in (1, 3),
            "stage": type(self.stage) is int and 0 <= self.stage < 1000,
            "repeated": type(self.repeated) is int and 0 < self.repeated <= 64,
            "mean": len(self.mean) == 3 and _finite(self.mean),
            "std": len(self.std) == 3 and _finite(self.std) and min(self.std) > 0,
            "low": 0 < len(self.low) <= MOST_CHANNELS and _finite(self.low),
            "high": len(self.high) == len(self.low)
            and _finite(self.high)
            and all(low < high for low, high in zip(self.low, self.high, strict=True)),
            "params": type(self.params) is int and self.params >= 0,
            "macs": type(self.macs) is int and self.macs >= 0,
            "tuned": type(self.tuned) is bool,
        }
        for field, fits in right.items():
            if not fits:
                value = getattr(self, field)
                raise DataError(
                    f"backbone: {field} cannot be {value!r:.80}; take the file of a training of "
                    "this version"
                )

    @property
    def in_words(self) -> str:
        """It with what it costs."""
        return f"{self.name} ({count(self.params)} parameters, {count(self.macs)} MACs an image)"

    @property
    def behind(self) -> str:
        """Where a network is said to be that was found with it, such as "behind the frozen …"."""
        if self.tuned:
            return f"behind the backbone {self.in_words}, which was trained on with it"
        return f"behind the frozen backbone {self.in_words}"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; one that is frozen as versions had it that knew no other."""
        values = {name: _listed(value) for name, value in asdict(self).items()}
        return values if self.tuned else {k: v for k, v in values.items() if k != "tuned"}

    @classmethod
    def from_json(cls, values: object) -> Backbone:
        """What `to_json` made. Raises `DataError` where a field is missing, unknown or wrong."""
        names = set(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or {"tuned", *values} != names:
            raise DataError(
                f"backbone must be an object with {', '.join(sorted(names))}, but is {values!r:.80}"
            )
        lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
        given: dict[str, Any] = {**values, **lists}
        try:
            return cls(**given)
        except TypeError:  # no list where there must be one
            raise DataError(
                "backbone: a list has become something else; restore the file"
            ) from None


def name_and_file(words: str) -> tuple[str, Path | None]:
    """The name, and the file of its weights if any, that "NAME" or "NAME=FILE" stands for.

    Raises:
        ConfigError: the name can be none of timm's.
    """
    name, equals, file = words.partition("=")
    if not _NAME.fullmatch(name) or (equals and not file):
        raise ConfigError(
            f"a backbone is a name of timm's, such as test_convnext.r160_in1k, or NAME=FILE with a "
            f"file of its weights, but is {words!r:.80}"
        )
    return name, Path(file) if file else None


def _finite(values: tuple[float, ...]) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
