"""How an image becomes what a network sees: a value that is kept with the network, in JSON, so that
it can be fed when the images that it was trained on are gone.

    {"input_shape": [3, 64, 64], "orientation": "exif", "integers_up_to": null,
     "floats_up_to": null, "background": "white", "mode": "RGB", "crop": "center",
     "resize": "bilinear, antialiased", "scale": "1/255", "mean": [0.49, 0.48, 0.45],
     "std": [0.25, 0.24, 0.26], "class_names": ["ant", "owl"]}

In this order: turn the image upright by its EXIF orientation; bring values of more than 8 bits to
[0, 255], by `integers_up_to` (shift to the right until 8 of the bits of this number are left) and
`floats_up_to` (times 255 / this number, rounded), both null where there were none; draw what is
transparent on white; convert to grey ("L") or colour ("RGB"); crop around the centre to the
proportions of `input_shape`, (channels, height, width); scale to its size; divide by 255; subtract
`mean` and divide by `std`, channel by channel.

Behind a frozen backbone there is one field more, "backbone" (see `data.backbone`): `input_shape`,
`mean` and `std` are of its feature maps, and the image is scaled to its `image_shape` instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanonas.core import Shape
from nanonas.data.backbone import Backbone
from nanonas.data.sources.base import Depth, Form
from nanonas.data.sources.orientation import upright
from nanonas.data.sources.pixels import (
    Encoded,
    converted,
    decode,
    fitted,
    pillow,
    reason_unread,
)
from nanonas.errors import DataError
from nanonas.text import number_of

LONGEST = 4096  # pixels a side that a file may ask for: what it says may be a stranger's
MOST_CLASSES = 100_001  # as sources of images have at most, see `sources.base.numbered`

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8]

# what is the same for all data sets, and said all the same: other programs follow it
_FIXED = {
    "orientation": "exif",
    "background": "white",
    "crop": "center",
    "resize": "bilinear, antialiased",
    "scale": "1/255",
}
_MODES = {1: "L", 3: "RGB"}  # as Pillow names them, by channels


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes what a network sees; see this module for the steps and their order."""

    input_shape: Shape  # (channels, height, width)
    mean: tuple[float, ...]  # (channels,), of pixels in [0, 1]
    std: tuple[float, ...]  # (channels,), above 0
    class_names: tuple[str, ...]  # in the order of the logits
    depth: Depth = field(default_factory=Depth)  # how images of more than 8 bits become 8 bits
    backbone: Backbone | None = None  # makes what the network sees of an image; None: it sees that

    @property
    def seen(self) -> Preprocessing:
        """How an image becomes what the backbone sees, or the network where there is none."""
        if self.backbone is None:
            return self
        shape, mean, std = self.backbone.image_shape, self.backbone.mean, self.backbone.std
        if shape[0] == 1:  # three equal channels
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        return replace(self, input_shape=shape, mean=mean, std=std, backbone=None)

    def pixels(self, image: Picture) -> NDArray[np.uint8]:
        """An image as it was stored for training.

        Args:
            image: a file's path or its bytes, which are read exactly as in training; an opened
                image of Pillow; or uint8 of shape (H, W), (H, W, 1) or (H, W, 3).

        Returns:
            (H, W, C): of `input_shape`, or what the backbone sees.

        Raises:
            DataError: it cannot be read, or has more than 8 bits where no image of the training
                had.
        """
        form = Form(*self.seen.input_shape)
        if isinstance(image, np.ndarray):
            return fitted(converted(_from_array(image), form.channels, self.depth), form)
        if isinstance(image, Image.Image):
            return fitted(converted(upright(image), form.channels, self.depth), form)
        path = Path(image) if isinstance(image, str) else image
        name = "the image" if isinstance(path, bytes) else str(path)
        try:
            with pillow():
                return decode(Encoded(name, path), form, self.depth)
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  each of Pillow's formats raises its own
            raise DataError(
                f"{name} cannot be read: {reason_unread(error)}; name another image"
            ) from None

    def batch(self, images: Sequence[Picture]) -> NDArray[np.float32]:
        """What the network takes: (B, C, H, W), normalised.

        >>> model(torch.from_numpy(model.preprocessing.batch(["owl.jpg"])))  # doctest: +SKIP

        Args:
            images: as of `pixels`.

        Raises:
            DataError: as `pixels`; also where the network sees what a backbone makes of images.
        """
        if self.backbone is not None:
            raise DataError(
                f"the network sees feature maps of the backbone {self.backbone.name}, not images; "
                "nanonas.deploy.classifying.classifier(RUN).probabilities(images) puts it in front"
            )
        channels, height, width = self.input_shape
        out = np.empty((len(images), height, width, channels), np.float32)
        for place, image in enumerate(images):
            out[place] = self.pixels(image)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        normalised = (out / 255 - mean) / std
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), np.float32)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; see this module."""
        return {
            "input_shape": list(self.input_shape),
            "orientation": _FIXED["orientation"],
            "integers_up_to": self.depth.integers_up_to,
            "floats_up_to": self.depth.floats_up_to,
            "background": _FIXED["background"],
            "mode": _MODES[self.seen.input_shape[0]],
            "crop": _FIXED["crop"],
            "resize": _FIXED["resize"],
            "scale": _FIXED["scale"],
            "mean": list(self.mean),
            "std": list(self.std),
            "class_names": list(self.class_names),
            **({} if self.backbone is None else {"backbone": self.backbone.to_json()}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """What `to_json` made. Raises `DataError` where a field is missing or wrong."""
        backbone = None
        if "backbone" in values:
            backbone = Backbone.from_json(values["backbone"])
        _check(values, backbone)
        return cls(
            tuple(values["input_shape"]),
            tuple(float(number) for number in values["mean"]),
            tuple(float(number) for number in values["std"]),
            tuple(values["class_names"]),
            Depth(values["integers_up_to"], values["floats_up_to"]),
            backbone,
        )


def _from_array(pixels: NDArray[Any]) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    ):
        raise DataError(
            "an image must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3), but is "
            f"{pixels.dtype} of {pixels.shape}; scale it to [0, 255] and save it as uint8"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _check(values: Mapping[str, Any], backbone: Backbone | None) -> None:
    """Raises `DataError` for the first field that is missing or wrong."""
    names = ["input_shape", "mode", "mean", "std", "class_names", "integers_up_to", "floats_up_to"]
    for name in (*names, *_FIXED):
        if name not in values:
            raise DataError(f"preprocessing lacks {name!r}; take the file of a newer training")
    for name in values:
        if name not in (*names, *_FIXED, "backbone"):
            raise DataError(f"preprocessing has an unknown field {name!r:.80}; take it out")

    def expect(name: str, right: bool, what: str) -> None:
        if not right:
            raise DataError(f"preprocessing: {name} must be {what}, but is {values[name]!r:.80}")

    shape = values["input_shape"]
    right = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int for n in shape)
    allowed = _MODES if backbone is None else (len(backbone.low),)
    right = right and shape[0] in allowed and min(shape) > 0
    words = "1 or 3 channels" if backbone is None else "the channels of the backbone's maps"
    expect("input_shape", right, f"[channels, height, width] with {words}")
    if max(shape) > LONGEST:
        raise DataError(
            f"preprocessing asks for images of {tuple(shape)!r:.80}, but {LONGEST} pixels a side "
            "are the most"
        )
    channels = shape[0]
    mode = _MODES[channels if backbone is None else backbone.image_shape[0]]
    for name, value in (*_FIXED.items(), ("mode", mode)):
        if values[name] != value:
            raise DataError(
                f"preprocessing: {name} is {values[name]!r:.80}, but {value!r} is all that this "
                "version can do"
            )
    for name, least in (("mean", 0.0), ("std", np.nextafter(0, 1))):
        numbers = values[name]
        if not (
            isinstance(numbers, list)
            and len(numbers) == channels
            and all(type(n) in (int, float) and least <= n < 1e9 for n in numbers)
        ):
            bound = "0 or more" if least == 0 else "above 0"
            raise DataError(
                f"preprocessing: {name} must have {number_of(channels, 'number')}, {bound}, one "
                f"for each channel, but is {numbers!r:.80}"
            )
    classes = values["class_names"]
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    expect("class_names", named, "a list of names")
    if len(classes) > MOST_CLASSES:
        raise DataError(
            f"preprocessing: class_names must be {MOST_CLASSES:,} names at most, but are "
            f"{len(classes):,}"
        )
    most = values["integers_up_to"]
    expect(
        "integers_up_to",
        most is None or (type(most) is int and 0 <= most < 2**32),
        "0 or more, or null",
    )
    expect("floats_up_to", values["floats_up_to"] in (None, 1, 255), "1, 255 or null")
