"""Says which class images belong to: python predict.py owl.jpg photos/*.png

It lies beside model.onnx, preprocessing.json and labels.json, and needs onnxruntime, numpy and
Pillow. Each image is prepared as those were that the network was trained on: preprocessing.json
says how. Where there is a calibration.json, logits are divided by its temperature, so that
probabilities are as sure as the network is right.
"""

import argparse
import io
import json
import re
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a PNG, a JPEG, …")
    parser.add_argument("--top", type=int, default=1, help="how many classes of each (default: 1)")
    parser.add_argument("--model", default="model.onnx", help="or model.int8.onnx")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()

    rule = json.loads((FOLDER / "preprocessing.json").read_text(encoding="utf-8"))
    labels = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
    temperature = temperature_in(FOLDER / "calibration.json")
    session = onnxruntime.InferenceSession(FOLDER / given.model, providers=["CPUExecutionProvider"])
    rows: list[dict[str, Any]] = []
    broken = 0
    for path in given.images:
        try:
            pixels = prepared(path.read_bytes(), rule)  # (H, W, C)
        except Exception as error:  # noqa: BLE001  each of Pillow's formats raises its own
            print(f"{path} cannot be read: {error}", file=sys.stderr)
            broken += 1
            continue
        (logits,) = session.run(["logits"], {"image": pixels[None]})  # (1, classes)
        probabilities = softmax(logits[0], temperature)
        best = probabilities.argsort()[::-1][: given.top]
        found = [{"class": labels[n], "probability": float(probabilities[n])} for n in best]
        rows.append({"file": str(path), "classes": found})
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            words = ", ".join(f"{one['class']} {one['probability']:.3f}" for one in row["classes"])
            print(f"{row['file']}: {words}")
    return 1 if broken else 0


def temperature_in(path: Path) -> float:
    """What logits are divided by; 1 where the file is missing."""
    if not path.exists():
        return 1.0
    found = json.loads(path.read_text(encoding="utf-8"))["temperature"]
    if type(found) not in (int, float) or not 0.05 <= found <= 20:
        sys.exit(f"{path}: temperature must be a number from 0.05 to 20, but is {found!r:.80}")
    return float(found)


def softmax(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Probabilities, (classes,), of logits, (classes,)."""
    scaled = logits.astype(np.float64) / temperature
    powers: NDArray[np.float64] = np.exp(scaled - scaled.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities


# --- how an image is prepared: the steps of preprocessing.json, in their order --------------------


def prepared(content: bytes, rule: dict[str, Any]) -> NDArray[np.uint8]:
    """The bytes of an image file as pixels, (height, width, channels), uint8."""
    channels, height, width = rule["input_shape"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image: Image.Image = Image.open(io.BytesIO(content))
        if image.format in ("EPS", "WMF"):  # programs, which Pillow would have others run
            raise ValueError(f"it is {image.format}, which is no image of pixels")
        # a large JPEG is decoded at a half, a quarter or an eighth of its size
        longest = 2 * max(height, width)
        image.draft(rule["mode"], (longest, longest))
        image.load()
        image = upright(image)
        image = eight_bits(image, rule)
        if image.has_transparency_data:
            drawn = image.convert("RGBA")
            ground = Image.new("RGBA", drawn.size, rule["background"])
            image = Image.alpha_composite(ground, drawn).convert("RGB")
        if image.mode != rule["mode"]:
            image = image.convert(rule["mode"])
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def eight_bits(image: Image.Image, rule: dict[str, Any]) -> Image.Image:
    """An image whose values have 8 bits."""
    if image.mode.startswith("I"):  # integers
        values = np.asarray(image)
        most = rule["integers_up_to"]
        if most is None and values.max() > 255:
            raise ValueError(f"it holds values up to {values.max()}; scale it to [0, 255]")
        shift = max(0, (most or 0).bit_length() - 8)
        values = values.clip(0).astype(np.uint32) >> shift
    elif image.mode == "F":  # floats
        most = rule["floats_up_to"]
        if most is None:
            raise ValueError("it holds floats; scale it to [0, 255], in 8 bits")
        values = np.rint(np.asarray(image) * (255 / most))
    else:
        return image
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """A photograph as it was seen, however the camera was held. Pillow turns TIFFs itself."""
    turn = None if image.format == "TIFF" else TURNS.get(orientation(image.info))
    return image if turn is None else image.transpose(turn)


def orientation(info: dict[Any, Any]) -> int:
    """The EXIF orientation that an image's header holds, 1 to 8; 1 where it has none."""
    exif = info.get("exif")
    if isinstance(exif, bytes) and (found := in_exif(exif.removeprefix(b"Exif\0\0"))):
        return found
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    said = re.search(rb"tiff:Orientation(?:=[\"']|>)([1-8])", xmp)
    return int(said.group(1)) if said else 1


def in_exif(block: bytes) -> int | None:
    """The orientation in a block of EXIF: a TIFF header, then entries of 12 bytes."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return None
    (number,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, min(start + 2 + 12 * number, len(block) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", block, place)
        if tag == 0x0112 and kind in (1, 3, 4) and count == 1:
            (value,) = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}[kind], block, place + 8)
            return value if 1 <= value <= 8 else None
    return None


if __name__ == "__main__":
    sys.exit(main())
