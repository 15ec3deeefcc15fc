"""What a frozen backbone makes of images, and what is said where it cannot."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from toys.images import image_folder, pixels
from toys.timm import NAME, Timm, weights, weights_file

from nanonas.data.backbone import WEIGHTS, Backbone, name_and_file
from nanonas.data.images import DataSpec, Images, load
from nanonas.data.preprocessing import Preprocessing
from nanonas.data.split import split
from nanonas.errors import ConfigError, DataError, NanonasError, RunError
from nanonas.networks.network import Network
from nanonas.networks.reference import REFERENCES
from nanonas.training.augment import Augment
from nanonas.training.backbone import behind, input_size, opened
from nanonas.training.examination import examine
from nanonas.training.modules import build_module
from nanonas.training.pictures import final_pictures, held_out_pictures
from nanonas.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("cache", "one_thread")


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Timm:
    toy = Timm(weights())
    monkeypatch.setitem(sys.modules, "timm", toy)
    return toy


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return str(image_folder(tmp_path / "pets", number=15, shape=(32, 32, 3)))


def test_maps_stand_in_the_place_of_images(photos: str, timm: Timm) -> None:
    images = load(photos)
    maps = behind(images, NAME)
    assert maps.input_shape == (8, 8, 8)  # the deepest stage's are 4×4
    about = maps.backbone
    assert about is not None
    assert (about.stage, about.repeated) == (2, 2)
    assert np.array_equal(maps.x_train[:, ::2, ::2], maps.x_train[:, 1::2, 1::2])
    frozen = opened(about, None)
    for seen, made in ((images.x_train, maps.x_train), (images.x_test, maps.x_test)):
        with torch.inference_mode():
            expected = frozen(torch.from_numpy(np.array(seen)).permute(0, 3, 1, 2)).round()
        assert np.array_equal(expected.permute(0, 2, 3, 1).numpy(), made)
    for name in ("y_train", "y_test"):
        assert np.array_equal(getattr(images, name), getattr(maps, name))
    assert maps.test_names == images.test_names
    assert (maps.flip, maps.own_test) == (True, False)
    assert maps.fingerprint != images.fingerprint
    assert "seen as maps of 8×8×8 by toy_net.in1k" in maps.in_words()
    shown = maps.shown
    assert shown is not None
    assert np.array_equal(shown.x_test, images.x_test)
    assert Preprocessing.from_json(json.loads(json.dumps(maps.preprocessing.to_json()))) == (
        maps.preprocessing
    )


def test_the_scale_is_of_training_images_alone(tmp_path: Path, timm: Timm) -> None:
    arrays: dict[str, Any] = {
        "x_train": pixels(20, 32, 32, 3),
        "y_train": np.arange(20) % 2,
        "x_test": pixels(10, 32, 32, 3, seed=1),
        "y_test": np.arange(10) % 2,
    }
    found = []
    for name, test in (("a", arrays["x_test"]), ("b", np.full((10, 32, 32, 3), 255, np.uint8))):
        np.savez(tmp_path / f"{name}.npz", **{**arrays, "x_test": test})
        found.append(behind(load(str(tmp_path / f"{name}.npz")), NAME))
    one, other = (maps.backbone for maps in found)
    assert one == other
    assert found[0].fingerprint != found[1].fingerprint
    maps = np.asarray(found[0].x_train)
    ends = [np.mean(maps == level, axis=(0, 1, 2)) for level in (0, 255)]
    assert all((share > 0).all() and (share < 0.01).all() for share in ends)


def test_maps_are_made_once_and_afterwards_timm_is_not_needed(
    photos: str, timm: Timm, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load(photos)
    maps = behind(images, NAME)
    monkeypatch.setitem(sys.modules, "timm", None)
    again = behind(images, NAME)
    assert again.fingerprint == maps.fingerprint
    assert again.backbone == maps.backbone
    spec = DataSpec(photos, backbone=NAME).pinned_to(maps)
    assert np.array_equal(spec.load().x_train, maps.x_train)
    lost = replace(spec, pinned=maps.folder and maps.folder.with_name("gone"))
    with pytest.raises(DataError, match="are gone from the cache; resume the run"):
        lost.load()


def test_a_grey_image_is_three_equal_channels(tmp_path: Path, timm: Timm) -> None:
    grey = pixels(20, 32, 32)
    made = []
    for name, x in (("grey", grey), ("colour", np.repeat(grey[..., None], 3, axis=3))):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=np.arange(20) % 2)
        made.append(behind(load(str(tmp_path / f"{name}.npz")), NAME))
    assert np.array_equal(made[0].x_train, made[1].x_train)
    assert [maps.flip for maps in made] == [False, True]
    rule = made[0].preprocessing.seen
    assert (rule.input_shape, rule.to_json()["mode"]) == ((1, 32, 32), "L")


def test_what_is_looked_at_are_images_or_nothing(photos: str, timm: Timm) -> None:
    images = load(photos)
    maps = behind(images, NAME)
    assert images.folder is not None
    spec, module = DataSpec(photos, backbone=NAME).pinned_to(maps), build_module(_linear(maps), 0)
    recipe = Recipe(augment=Augment(crop=1))
    found = []
    for gone in (False, True):
        if gone:
            shutil.rmtree(images.folder)
        train, test = final_pictures(spec, "cpu"), held_out_pictures(spec, "cpu")
        found.append(examine(module, train, test, recipe))
    kept = found[0].thumbnails
    assert kept.plain.shape[1:] == (32, 32, 3)
    assert kept.augmentation == "moved by up to 4 pixels"  # 1 on the map
    wrong = np.asarray(images.x_test)[kept.error_rows]
    assert len(wrong)
    assert np.array_equal(kept.errors, wrong)
    assert len(found[1].thumbnails.plain) == len(found[1].thumbnails.errors) == 0
    assert np.array_equal(found[0].answers.logits, found[1].answers.logits)


def _linear(maps: Images) -> Network:
    return REFERENCES["linear"](maps.input_shape, maps.classes)


def test_groups_stay_together(tmp_path: Path, timm: Timm) -> None:
    photos = str(image_folder(tmp_path / "pets", number=20, shape=(32, 32, 3)))
    images = load(photos, groups="[0-9]([0-9]).png")
    maps = behind(images, NAME)
    for name in ("groups_train", "groups_test"):
        before, now = getattr(images, name), getattr(maps, name)
        pairs = set(zip(before.tolist(), now.tolist(), strict=True))
        assert len(pairs) == len(set(before.tolist())) == len(set(now.tolist()))
    parts = split(maps, 0, 0.2)
    groups = maps.groups_train
    assert groups is not None
    assert not set(groups[parts.train]) & set(groups[parts.valid])


def test_weights_from_a_file_or_a_run_are_those(photos: str, timm: Timm, tmp_path: Path) -> None:
    images = load(photos)
    own, others = behind(images, NAME), weights_file(tmp_path / "others.safetensors", seed=1)
    from_file = behind(images, f"{NAME}={others}")
    assert from_file.fingerprint != own.fingerprint
    assert own.folder is not None
    timm.own = None
    kept = tmp_path / WEIGHTS
    kept.write_bytes((own.folder / WEIGHTS).read_bytes())
    for path in own.folder.iterdir():
        path.unlink()
    own.folder.rmdir()
    made = behind(images, NAME, kept=kept)
    assert made.fingerprint == own.fingerprint
    about = from_file.backbone
    assert about is not None
    with pytest.raises(RunError, match=r"was found behind weights of toy_net\.in1k with"):
        opened(about, kept)


def _file(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("toy_nett.in1k", "timm knows no model 'toy_nett.in1k'; perhaps you meant toy_net"),
        ("toy_net.in2k", "timm knows no model 'toy_net.in2k'; perhaps you meant toy_net.in1k"),
        ("toy_net", "timm has no weights of 'toy_net'; name a file of them, --backbone toy_net=F"),
        ("hf-hub:someone/model", "a backbone is a name of timm's"),
        (f"{NAME}=", "a backbone is a name of timm's"),
        (NAME, r"the weights of toy_net.in1k cannot be downloaded \(OSError: no route to the hub"),
        (f"{NAME}=gone.pt", "there is no file 'gone.pt' with weights of the backbone toy_net.in1k"),
        (f"{NAME}=text.safetensors", "'text.safetensors' holds no weights of toy_net.in1k"),
        (f"{NAME}=half.safetensors", "'half.safetensors' lacks some weights of toy_net.in1k"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    words: str,
    message: str,
    photos: str,
    timm: Timm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    timm.own = None
    Path("text.safetensors").write_text("no tensors")
    _file(Path("half.safetensors"), {"stage0.weight": weights()["stage0.weight"]})
    with pytest.raises(ConfigError, match=message) as error:
        behind(load(photos), words)
    assert "\n" not in str(error.value)


def test_small_images_need_larger_ones(tmp_path: Path, timm: Timm) -> None:
    photos = str(image_folder(tmp_path / "small", shape=(12, 12, 3)))
    maps = behind(load(photos), NAME)
    assert (maps.input_shape, maps.backbone and maps.backbone.stage) == ((4, 12, 12), 0)
    tiny = replace(load(photos), x_train=np.zeros((9, 6, 6, 3), np.uint8), fingerprint="")
    with pytest.raises(ConfigError, match=r"makes maps of 3×3 at most of images of 6×6, but 4×4"):
        behind(tiny, NAME)


def test_without_timm_or_with_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ConfigError, match=r"a backbone needs timm: pip install 'nanonas\[vision\]'"
    ):
        input_size(NAME)


def test_what_a_stranger_says_of_a_backbone_is_looked_at(photos: str, timm: Timm) -> None:
    about = behind(load(photos), NAME).backbone
    assert about is not None
    right = about.to_json()
    assert Backbone.from_json(right) == about
    wrong: list[dict[str, Any]] = [
        {"name": "hf-hub:someone/model"},
        {"image_shape": [3, 32]},
        {"image_shape": [3, 32, 10**9]},
        {"low": []},
        {"low": [float("nan")] * 6},
        {"high": right["low"]},
        {"std": [0.2, 0.0, 0.2]},
        {"mean": 0.5},
        {"stage": -1},
        {"repeated": 0},
        {"macs": "many"},
        {"more": 1},
    ]
    for change in wrong:
        with pytest.raises(DataError, match="backbone"):
            Backbone.from_json({**right, **change})
    rule = behind(load(photos), NAME).preprocessing.to_json()
    with pytest.raises(DataError, match="the channels of the backbone's maps"):
        Preprocessing.from_json({**rule, "input_shape": [3, 8, 8]})
    with pytest.raises(DataError, match="sees feature maps of the backbone"):
        Preprocessing.from_json(rule).batch([])


def test_a_name_and_its_file() -> None:
    assert name_and_file("resnet18.a1_in1k") == ("resnet18.a1_in1k", None)
    assert name_and_file("resnet18=a=b.pt") == ("resnet18", Path("a=b.pt"))


def _real_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except Exception as error:  # noqa: BLE001  a torchvision of another build of PyTorch
        pytest.skip(f"timm cannot be imported: {error}")


@pytest.mark.parametrize(
    ("name", "shape"),
    [("test_convnext.r160_in1k", (32, 8, 8)), ("test_vit.r160_in1k", (64, 10, 10))],
)
def test_models_of_timm_itself(name: str, shape: tuple[int, int, int], tmp_path: Path) -> None:
    """With weights that are drawn: none can be downloaded in a test."""
    timm, size = _real_timm(), 8 * shape[1] if shape[1] == 8 else 160
    assert input_size(f"{name}={tmp_path}") == 160
    file = _file(tmp_path / "drawn.safetensors", timm.create_model(name).state_dict())
    images = load(str(image_folder(tmp_path / "pets", number=4)), size)
    maps = behind(images, f"{name}={file}")
    assert maps.input_shape == shape
    assert maps.backbone is not None
    assert maps.folder is not None
    frozen = opened(maps.backbone, maps.folder / WEIGHTS)
    with torch.inference_mode():
        made = frozen(torch.from_numpy(np.array(images.x_test)).permute(0, 3, 1, 2)).round()
    assert np.array_equal(made.permute(0, 2, 3, 1).numpy(), maps.x_test)
    lacking = _file(tmp_path / "lacking.safetensors", {"head.fc.weight": torch.zeros(3, 3)})
    with pytest.raises(NanonasError, match="lacks some weights"):
        behind(images, f"{name}={lacking}")
    with pytest.raises(ConfigError, match="perhaps you meant test_"):
        input_size("test_convnextt.r160_in1k")
