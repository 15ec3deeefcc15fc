"""The doctor: what it says of images is what was done to them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toys.images import npz, pixels, png
from toys.photos import arrows, film_folder, noisy, scenes

from nanonas.data.doctor import copies as copies_module
from nanonas.data.doctor.copies import ALIKE, connected, hashes_of, near_copies, same_pixels
from nanonas.data.doctor.diagnosis import Diagnosis
from nanonas.data.doctor.findings import Case, Finding, Severity
from nanonas.data.doctor.likeness import Subject
from nanonas.data.doctor.mirrors import mirrored_classes
from nanonas.data.doctor.thumbnails import greyed, thumbnails
from nanonas.data.images import Images, load
from nanonas.data.split import split

pytestmark = pytest.mark.usefixtures("cache")


def case_of(images: Images, source: str = "photos", **options: Any) -> Case:
    return Case(images, split(images, 0), Subject(images, **options), images.flip, source)


def found(images: Images, **options: Any) -> dict[str, Finding]:
    """What is found, by kind."""
    findings = Diagnosis(case_of(images, **options)).findings
    by_kind = {finding.kind: finding for finding in findings}
    assert len(by_kind) == len(findings)
    return by_kind


def in_memory(x: NDArray[np.uint8], y: NDArray[np.int64], test: int) -> Images:
    """Images whose last ones are the test set."""
    names = tuple(str(label) for label in range(int(y.max()) + 1))
    channels = x.shape[3]
    halves = (0.5,) * channels
    return Images(
        "made", names, x[:-test], y[:-test], x[-test:], y[-test:], halves, halves, channels == 3, ""
    )


# --- hashes and copies ----------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 20, 50, 96])
def test_thumbnails_are_scaled_as_pillow_scales(side: int) -> None:
    images = scenes(6, side)
    for image, small in zip(images, thumbnails([images]).small, strict=True):
        theirs = Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(theirs, int) - small).max() <= 1


def some_copies() -> NDArray[np.uint8]:
    """Scenes, copies with more and less noise, brighter ones, other colours, flat images."""
    originals = scenes(60, 24)
    parts = [originals, originals[:20], *(noisy(originals, s, seed=s) for s in (3, 10, 25))]
    brighter = (originals[:20].astype(int) + 12).clip(0, 255).astype(np.uint8)
    flat = np.full((30, 24, 24, 3), np.arange(30)[:, None, None, None] * 8, np.uint8)
    return np.concatenate([*parts, brighter, originals[:20, :, :, [2, 0, 1]], flat])


def test_near_copies_are_those_that_brute_force_finds() -> None:
    x = some_copies()
    thumbs, same = thumbnails([x[:100], x[100:]]), same_pixels([x[:100], x[100:]])
    grey, colour = thumbs.grey, thumbs.small.reshape(len(x), -1, 3).mean(1)
    links = []
    for a, b in itertools.combinations(range(len(x)), 2):
        alike = grey[a] @ grey[b] >= ALIKE and np.abs(colour[a] - colour[b]).max() <= 24
        if np.array_equal(x[a], x[b]) or alike:
            links.append((a, b))
    expected = connected(np.array(links), len(x))
    near = near_copies(thumbs, same)
    assert np.array_equal(near[:, None] == near[None], expected[:, None] == expected[None])
    assert (near[:20] == near[60:80]).all()
    assert (near[:60] == near[80:140]).all()  # noise of 3 levels
    assert len(np.unique(near[:60])) == 60
    assert len(np.unique(same)) == len(x) - 20
    assert len(np.unique(near[-30:])) == 30  # of one colour, but not of the same


def test_hashes_of_pictures_differ_by_their_angle() -> None:
    """64 bits times the angle in half turns, on average."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 4000, 256))
    for angle in (0.05, 0.2, 1.0):
        turned = np.cos(angle) * a + np.sin(angle) * b
        differing = hashes_of(a.astype(np.float32)) ^ hashes_of(turned.astype(np.float32))
        mean = np.bitwise_count(differing).mean() if hasattr(np, "bitwise_count") else None
        assert mean is None or mean == pytest.approx(64 * angle / np.pi, rel=0.06)


def test_copies_without_numpy_2_and_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = some_copies()
    thumbs, same = thumbnails([x]), same_pixels([x])
    expected = near_copies(thumbs, same)
    values = np.random.default_rng(0).integers(0, 2**63, (5, 9), dtype=np.uint64)
    ones = [[int(value).bit_count() for value in row] for row in values]
    assert copies_module._ones(values).tolist() == ones
    monkeypatch.setattr(copies_module, "_BLOCK", 50)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert copies_module._ones(values).tolist() == ones
    assert near_copies(thumbs, same).tolist() == expected.tolist()


def test_many_frames_of_one_film_are_one_set_and_take_no_room() -> None:
    x = np.concatenate([noisy(scenes(1, 16), 3, seed=n) for n in range(200)])
    near = near_copies(thumbnails([x]), same_pixels([x]))
    assert (near == near[0]).all()


# --- mirroring ------------------------------------------------------------------------------------


def test_arrows_must_not_be_mirrored() -> None:
    x, y = arrows(200)
    found_ = mirrored_classes(thumbnails([x]), y)
    assert {(one.label, one.like) for one in found_} == {(0, 1), (1, 0)}
    assert all(one.share > 0.5 and one.before < 0.1 for one in found_)
    images = in_memory(x, y, 40)
    finding = found(images)["mirroring"]
    assert (finding.severity, finding.flag) == (Severity.MEND, "--no-flip")
    assert ' look like "' in finding.sentence
    assert finding.sentence.endswith("another class changes so; don't mirror images while training")
    grey = in_memory(greyed(x)[..., None].astype(np.uint8), y, 40)
    assert found(grey)["mirroring"].severity is Severity.FINE


def test_images_whose_mirrors_are_no_others_may_be_mirrored() -> None:
    """Neither classes that look like each other in any case, nor films that are seen from one side,
    nor the digits, of which some look like others.
    """
    x = scenes(300, 24)
    assert mirrored_classes(thumbnails([x]), np.arange(300) % 3) == ()
    films = np.concatenate([noisy(scenes(10, 24), 20, seed=n) for n in range(15)])
    assert mirrored_classes(thumbnails([films]), np.arange(150) % 10 % 2) == ()
    upright = np.arange(300) % 2  # bright at the top, or at the bottom
    bars = noisy(scenes(300, 24), 5).astype(int)
    bars[upright == 0, :12] += 90
    bars[upright == 1, 12:] += 90
    assert mirrored_classes(thumbnails([bars.clip(0, 255).astype(np.uint8)]), upright) == ()
    digits = load("digits")
    assert mirrored_classes(thumbnails([digits.x_train]), digits.y_train) == ()


# --- a folder of all sorts ------------------------------------------------------------------------


def folder_of_all_sorts(root: Path) -> Path:
    """Three classes of 60, 20 and 6 images that can be read, and 2 that cannot."""
    for n, scene in enumerate(scenes(51, 40, seed=1)):
        png(root / "ant" / f"{n:03}.jpg", scene)
    more = scenes(20, 40, seed=2)
    deep = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40) * 40
    png(root / "ant" / "deep.png", deep)
    Image.fromarray(more[1]).convert("P").save(root / "ant" / "palette.png")
    Image.fromarray(more[2]).convert("CMYK").save(root / "ant" / "cmyk.jpg")
    Image.fromarray(more[3]).convert("RGBA").save(root / "ant" / "alpha.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(more[4][:30]).save(root / "ant" / "turned.jpg", exif=turned)
    png(root / "ant" / "grey.png", more[5][..., 0])
    png(root / "ant" / "dot.png", more[6][:1, :1])
    png(root / "ant" / "large.png", scenes(1, 96, seed=7)[0])
    png(root / "ant" / "again.png", more[8])
    for n, scene in enumerate(scenes(20, 40, seed=3)):
        png(root / "bee" / f"{n:03}.png", scene)
    png(root / "bee" / "019.png", more[8])  # what is an ant, too
    for n, scene in enumerate(scenes(6, 40, seed=4)):
        png(root / "cat" / f"{n:03}.png", scene)
    whole = (root / "ant" / "000.jpg").read_bytes()
    (root / "bee" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "bee" / "text.jpg").write_text("no image", encoding="utf-8")
    (root / "bee" / "notes.txt").write_text("of bees", encoding="utf-8")
    return root


def test_a_folder_of_all_sorts(tmp_path: Path) -> None:
    images = load(str(folder_of_all_sorts(tmp_path / "sorts")), 24, skip_broken=True)
    diagnosis = Diagnosis(case_of(images, str(tmp_path / "sorts")))
    told = json.loads(json.dumps(diagnosis.to_json()))
    sums = {name: sum(parts.values()) for name, parts in told["classes"].items()}
    assert sums == {"ant": 60, "bee": 20, "cat": 6}
    assert told["classes"]["cat"] == {"train": 4, "valid": 1, "test": 1}
    assert (told["verdict"], told["looked_at"]) == ("mend before you search", 86)
    by_kind = {finding["kind"]: finding for finding in told["findings"]}
    broken = by_kind["broken"]
    assert broken["sentence"].startswith("2 images cannot be read (half.jpg, text.jpg);")
    assert (broken["severity"], broken["flag"]) == ("mend before you search", "--skip-broken")
    assert by_kind["modes"]["sentence"] == (
        "stored as: 1 of more than 8 bits, 1 with a palette, 1 in CMYK, 1 with transparency, 1 "
        "turned by EXIF, 2 grey; all are brought into one form"
    )
    assert by_kind["tiny"]["examples"] == [["ant/dot.png"]]
    assert by_kind["tiny"]["sentence"].startswith(
        "1 image (1.2 %) has fewer than the 24 pixels a side that networks see, the smallest 1,"
    )
    imbalance = by_kind["imbalance"]
    assert '"ant" has 10.0 times as many images as "cat", 60 against 6' in imbalance["sentence"]
    assert imbalance["flag"] == "--balance weights"
    contradictions = by_kind["label-contradictions"]
    assert contradictions["sentence"].startswith("2 images (2.3 %) are copies")
    assert contradictions["examples"] == [["ant/again.png", "bee/019.png"]] or contradictions[
        "examples"
    ] == [["bee/019.png", "ant/again.png"]]
    size = by_kind["image-size"]
    assert (
        "networks see 24 pixels a side, and three quarters of the images have 40"
        in (size["sentence"])
    )
    assert "32 is a good beginning" in size["sentence"]
    assert "1.8 times as much with 32" in size["sentence"]
    assert size["flag"] == "--image-size 32"
    assert "huge" not in by_kind
    severities = [finding["severity"] for finding in told["findings"]]
    assert severities == sorted(
        severities, key=["mend before you search", "look at it", "fine"].index
    )


def test_grey_images_that_tell_a_class(tmp_path: Path) -> None:
    for n, scene in enumerate(scenes(20, 16)):
        png(tmp_path / "a" / f"{n}.png", scene)
        png(tmp_path / "b" / f"{n}.png", scene[::-1, :, 0])
    finding = found(load(str(tmp_path)))["grey-tells-the-class"]
    assert '100 % of the images of "b" are grey, but 0 % of "a"' in finding.sentence


# --- films ----------------------------------------------------------------------------------------


def test_films_leak_until_they_are_groups(tmp_path: Path) -> None:
    root = film_folder(tmp_path / "films")
    images = load(str(root))
    before = found(images)
    for part in ("test", "validation"):
        leak = before[f"{part}-leak"]
        assert leak.severity is Severity.MEND
        assert "(100 %) are copies" in leak.sentence
        assert leak.flag.startswith("--groups '")
    groups = before["groups"]
    assert groups.severity is Severity.MEND
    assert "of 16 groups" in groups.sentence
    assert "for 100 % the most similar image of their class is in their group (11 %" in (
        groups.sentence
    )
    expression = groups.flag.removeprefix("--groups '").removesuffix("'")
    after = found(load(str(root), groups=expression))
    assert not {"test-leak", "validation-leak", "groups"} & set(after)
    assert after["duplicates"].severity is Severity.LOOK


def test_groups_are_written_for_copies_without_speaking_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(2):
        scene = scenes(12, 24, seed=label)
        frames = [noisy(scene, 4, seed=n) for n in range(4)]
        for number, image in zip(rng.permutation(48), np.concatenate(frames), strict=True):
            png(tmp_path / "photos" / str(label) / f"{number:03}.png", image)
    root, path = str(tmp_path / "photos"), tmp_path / "groups.csv"
    diagnosis = Diagnosis(case_of(load(root), "photos"))
    leak = next(one for one in diagnosis.findings if one.kind == "test-leak")
    assert leak.flag == "nanonas doctor photos --write-groups groups.csv; --groups groups.csv"
    assert diagnosis.write_groups(path) == 24
    after = found(load(root, groups=str(path)))
    assert not {"test-leak", "validation-leak"} & set(after)


def test_names_alone_are_no_films(tmp_path: Path) -> None:
    for n, scene in enumerate(scenes(80, 16)):
        png(tmp_path / "ab"[n % 2] / f"film{n // 10}_{n}.png", scene)
    assert "groups" not in found(load(str(tmp_path)))


def test_groups_that_the_source_itself_divides(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz",
        x_train=pixels(40, 10, 10),
        y_train=np.arange(40) % 2,
        who=np.arange(40) // 4,
        x_test=pixels(6, 10, 10, seed=1),
        y_test=np.arange(6) % 2,
        who_test=np.array([8, 8, 9, 9, 10, 11]),
    )
    finding = found(load(path, groups="who"))["test-groups"]
    assert finding.severity is Severity.MEND
    assert finding.sentence.startswith("2 groups have images that train and images of the test")


# --- copies in their parts ------------------------------------------------------------------------


def test_leaks_are_counted_and_named() -> None:
    x, y = scenes(200, 24), np.arange(200) % 2
    x[190:198] = noisy(x[:8], 3)
    images = in_memory(x, y, 40)
    leak = found(images)["test-leak"]
    assert leak.sentence.startswith("8 of 40 test images (20 %) are copies, or nearly, of images")
    assert leak.examples[0] == ("x_test[30]", "x_train[0]")
    assert "label-contradictions" not in found(images)
    y[190:194] = 1 - y[190:194]
    contradictions = found(in_memory(x, y, 40))["label-contradictions"]
    assert contradictions.sentence.startswith(
        "8 images (4.0 %) are copies, or nearly, of images of"
    )


def test_what_was_found_is_kept_beside_the_images(tmp_path: Path) -> None:
    images = load(str(film_folder(tmp_path / "films")))
    assert images.folder is not None
    first = Subject(images).compared()
    again = Subject(load(str(tmp_path / "films")))
    kept = again.compared()
    assert kept.near.tolist() == first.near.tolist()
    assert "thumbs" not in vars(again)  # nothing was looked at
    assert Subject(images, most=30).compared().rows.tolist() == first.rows.tolist()
    (images.folder / "doctor.npz").write_bytes(b"PK nothing")
    assert Subject(images).compared().near.tolist() == first.near.tolist()


def test_of_many_images_the_first_of_each_class_and_part_are_looked_at() -> None:
    x, y = scenes(300, 16), np.arange(300) % 3
    subject = Subject(in_memory(x, y, 60), most=100)
    rows = subject.compared().rows
    assert len(rows) == 99 or len(rows) == 100 or len(rows) == 102
    assert np.bincount(y[rows]).tolist() == [len(rows) // 3] * 3
    assert (rows >= 240).sum() == 21
    assert len(subject.compared().near) == len(rows)
