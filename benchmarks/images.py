"""Damages images at random and loads them: each is read right, or refused with its file's name.

    python benchmarks/images.py                        # 6,000 EXIF blocks, 8,500 files; minutes
    python benchmarks/images.py --exif 200 --files 200

An EXIF block is of a sound JPEG, and 1 to 4 of its bytes are replaced: its image has to be read, as
it is or turned. A file has 1 to 8 bytes replaced anywhere, or its end cut off: it may be read as
anything of the right shape, or be refused by name. Exits with 1 where something else happens.
"""

from __future__ import annotations

import argparse
import io
import shutil
import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from PIL import Image, features

from nanonas.data.images import load
from nanonas.errors import DataError

SIDE = 16
FORMATS = ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm", "tga", "ico", "jp2", "avif", "pcx")
Pixels = NDArray[np.uint8]


def main() -> None:
    arguments = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    arguments.add_argument("--exif", type=int, default=6000, help="EXIF blocks to damage")
    arguments.add_argument("--files", type=int, default=8500, help="files to damage")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    logger.remove()
    rng = np.random.default_rng(given.seed)
    x = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = {
            "EXIF": exif_blocks(Path(folder), x, rng, given.exif),
            "files": files(Path(folder), x, rng, given.files),
        }
    for what, counts in outcomes.items():
        print(f"{what}: " + ", ".join(f"{count:,} {how}" for how, count in counts.most_common()))
    wrong = [how for counts in outcomes.values() for how in counts if how.startswith("WRONG")]
    sys.exit(1 if wrong else 0)


def exif_blocks(folder: Path, x: Pixels, rng: np.random.Generator, number: int) -> Counter[str]:
    """What became of sound JPEGs with damaged EXIF blocks."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x0128] = 6, "a camera", 72.0, 2
    block = exif.tobytes()
    plain = encoded(x, "jpg")
    seen = np.asarray(Image.open(io.BytesIO(plain)))
    turns = {np.rot90(side, turn).tobytes() for side in (seen, seen[:, ::-1]) for turn in range(4)}
    counts: Counter[str] = Counter()
    for _ in range(number):
        bad = damaged(block, rng, 4)
        content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(bad) + 2) + bad + plain[2:]
        image = loaded(folder, "jpg", content)
        if isinstance(image, str):
            counts[f"WRONG: {image}"] += 1
        else:
            counts["read right" if image.tobytes() in turns else "WRONG: other pixels"] += 1
    return counts


def files(folder: Path, x: Pixels, rng: np.random.Generator, number: int) -> Counter[str]:
    """What became of damaged files, in all formats by turns."""
    known = [kind for kind in FORMATS if kind != "avif" or features.check("avif")]
    counts: Counter[str] = Counter()
    for place in range(number):
        suffix = known[place % len(known)]
        bad = damaged(encoded(x, suffix), rng, 8)
        if rng.random() < 0.2:
            bad = bad[: rng.integers(len(bad))]
        image = loaded(folder, suffix, bad)
        if not isinstance(image, str):
            counts["read"] += 1
        else:
            counts["refused by name" if f"odd.{suffix}" in image else f"WRONG: {image}"] += 1
    return counts


def encoded(x: Pixels, suffix: str) -> bytes:
    """An image, (H, W, 3), as a file of this suffix."""
    buffer = io.BytesIO()
    Image.fromarray(x).save(buffer, Image.registered_extensions()[f".{suffix}"])
    return buffer.getvalue()


def damaged(content: bytes, rng: np.random.Generator, most: int) -> bytes:
    """Bytes of which 1 to `most` are replaced."""
    bad = bytearray(content)
    for place in rng.integers(0, len(bad), rng.integers(1, most + 1)):
        bad[place] = rng.integers(256)
    return bytes(bad)


def loaded(folder: Path, suffix: str, content: bytes) -> Pixels | str:
    """The image, (SIDE, SIDE, 3), as nanonas reads it from a folder; or what was raised."""
    root, cache = folder / "images", folder / "cache"
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (root / name).mkdir(parents=True)
        if name != "train/a":
            Image.fromarray(np.arange(SIDE**2, dtype=np.uint8).reshape(SIDE, SIDE)).save(
                root / name / "plain.png"
            )
    (root / "train" / "a" / f"odd.{suffix}").write_bytes(content)
    try:
        return np.array(load(str(root), SIDE, cache=cache).x_train[0])
    except DataError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  what must not happen, to be counted
        return f"{type(error).__name__} without a name"
    finally:
        shutil.rmtree(root)
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
