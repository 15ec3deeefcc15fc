"""The how-to that leads from a folder of photos to a file that works, command by command."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys.photos import scenes

from nanonas import cli
from nanonas.deploy import bundle

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "from-photos.md"
CLASSES = {"owl": 40, "robin": 20, "wren": 8}
BROKEN = {"owl/truncated.jpg", "owl/notes.jpg"}


def photos(root: Path) -> Path:
    """Three classes of very different size, in all forms that images come in."""
    for label, (name, number) in enumerate(CLASSES.items()):
        (root / name).mkdir(parents=True)
        for place, pixels in enumerate(scenes(number, side=40, seed=label)):
            pixels[:, :, label] = np.maximum(pixels[:, :, label], 200)  # a class is a colour
            suffix = "jpg" if place % 2 else "png"
            Image.fromarray(pixels).save(root / name / f"{place:02}.{suffix}")
    owl, image = root / "owl", Image.fromarray(scenes(1, side=48, seed=9)[0])
    image.convert("L").save(owl / "grey.png")
    image.quantize(16).save(owl / "palette.png")
    image.convert("CMYK").save(owl / "cmyk.jpg")
    image.convert("RGBA").save(owl / "transparent.png")
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(owl / "deep.png")
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(owl / "turned.jpg", exif=turned)
    Image.new("RGB", (1, 1), "red").save(owl / "pixel.png")
    whole = (owl / "01.jpg").read_bytes()
    (owl / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (owl / "notes.jpg").write_text("no image")
    return root


def commands() -> list[list[str]]:
    """Those of the page, with seconds for its minutes."""
    [block] = PAGE.read_text(encoding="utf-8").split("```sh\n")[1:]
    lines = block.split("```")[0].replace("--time 10m", "--time 4s --workers 1").splitlines()
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.skipif(not PAGE.exists(), reason="there are no pages beside an installed package")
@pytest.mark.usefixtures("cache")
def test_six_commands_lead_from_photos_to_a_file_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs onnx: pip install 'nanonas[onnx]'")
    monkeypatch.setattr(bundle, "Export", partial(bundle.Export, seconds=0))  # of latencies
    photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    said: dict[str, str] = {}
    codes = {}
    for words in commands():
        codes[words[0]] = cli.main(words)
        said[words[0]] = capsys.readouterr().out
    assert codes == {"doctor": 1, "search": 0, "show": 0, "report": 0, "export": 0, "predict": 1}
    doctor = " ".join(said["doctor"].split())
    counts = ("owl 34 4 9", "robin 14 2 4", "wren 5 1 2")  # training, validation, test
    for expected in (*counts, "truncated.jpg", "notes.jpg", "--skip-broken", "--balance weights"):
        assert expected in doctor
    listed = (tmp_path / "outputs" / "birds" / "broken_images.txt").read_text(encoding="utf-8")
    assert {line.split(": ")[0].split("photos/")[-1] for line in listed.splitlines()} == BROKEN
    rows = json.loads(said["predict"])
    assert len(rows) == sum(CLASSES.values()) + 9
    unread = {
        Path(row["file"]).relative_to("photos").as_posix() for row in rows if row.get("error")
    }
    assert unread == BROKEN
    assert cli.main(["predict", "outputs/birds", "photos", "--json"]) == 1
    for row, own in zip(rows, json.loads(capsys.readouterr().out), strict=True):
        if "error" not in row:
            [best], [ours] = row["classes"], own["classes"]
            assert best["class"] == ours["class"]
            assert best["probability"] == pytest.approx(ours["probability"], abs=1e-4)
    program = subprocess.run(
        [sys.executable, "-I", "birds/predict.py", "photos/owl/01.jpg"],
        check=True,
        capture_output=True,
        text=True,
    )
    first = next(row for row in rows if row["file"].endswith("owl/01.jpg"))
    assert first["classes"][0]["class"] in program.stdout
