"""Hugging Face's formats: folders of save_to_disk, columns by their types, and the hub by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toys.images import Pixels, encoded, labels, pixels

from nanonas.data.images import load
from nanonas.data.sources import absolute, find_reader, path_of, title
from nanonas.data.sources import tables as tables_module
from nanonas.data.sources.hub import Hub, by_configuration
from nanonas.data.sources.tables import asked
from nanonas.errors import DataError

pa = pytest.importorskip("pyarrow")

IMAGE: dict[str, Any] = {"_type": "Image"}
NAMES = ["cat", "dog"]


def classes(names: Sequence[str] = NAMES) -> dict[str, Any]:
    return {"names": list(names), "_type": "ClassLabel"}


def table(x: Pixels, features: Mapping[str, Any] | None = None, **columns: Any) -> Any:
    """Images and other columns, with Hugging Face's metadata."""
    cells = [{"bytes": encoded(array), "path": None} for array in x]
    made = {name: cells if value is IMAGE else value for name, value in columns.items()}
    found = pa.table(made)
    if features is None:
        return found
    info = json.dumps({"info": {"features": features}})
    return found.replace_schema_metadata({"huggingface": info})


def animals(x: Pixels, y: NDArray[Any]) -> Any:
    return table(x, {"image": IMAGE, "label": classes()}, image=IMAGE, label=list(y))


def write_parquet(path: Path, content: Any, rows: int = 7) -> str:
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(content, path, row_group_size=rows)
    return str(path)


def save_to_disk(folder: Path, content: Any, files: int = 2, **state: Any) -> Path:
    """Writes one split as datasets 2 and 3 do: Arrow streams of batches, and what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{place:05}-of-{files:05}.arrow" for place in range(files)]
    size = -(-content.num_rows // files)
    for place, name in enumerate(names):
        with pa.ipc.new_stream(str(folder / name), content.schema) as writer:
            writer.write_table(content.slice(place * size, size), max_chunksize=5)
    about = {"_data_files": [{"filename": name} for name in names], "_split": "train", **state}
    (folder / "state.json").write_text(json.dumps(about))
    info = {"features": {"image": IMAGE, "label": classes()}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def save_dict(root: Path, **splits: Any) -> Path:
    for name, content in splits.items():
        save_to_disk(root / name, content)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return root


# --- save_to_disk ---------------------------------------------------------------------------------


def test_a_saved_dict_is_what_parquet_of_the_same_images_is(tmp_path: Path) -> None:
    parts = {"train": (20, 0), "validation": (6, 1), "test": (8, 2)}
    content = {
        name: animals(pixels(number, 9, 9, 3, seed=seed), labels(number))
        for name, (number, seed) in parts.items()
    }
    for name, one in content.items():
        write_parquet(tmp_path / "there" / "data" / f"{name}-00000-of-00001.parquet", one)
    saved = load(str(save_dict(tmp_path / "saved", **content, unsupervised=content["test"])))
    other = load(str(tmp_path / "there"))
    assert saved.fingerprint == other.fingerprint
    assert saved.class_names == ("cat", "dog")
    assert (len(saved.x_train), saved.own_valid, len(saved.x_test)) == (26, 6, 8)
    np.testing.assert_array_equal(saved.x_train[:20], pixels(20, 9, 9, 3))
    assert saved.in_words().endswith("passed over: the split unsupervised")


def test_one_saved_split_and_names_that_stand_beside_it(tmp_path: Path) -> None:
    plain = table(pixels(20, 9, 9), None, image=IMAGE, label=list(labels(20)))
    root = save_to_disk(tmp_path / "birds", plain)
    assert find_reader(str(root))[0] == "saved"
    images = load(str(root))
    assert (images.name, images.class_names) == ("birds", ("cat", "dog"))
    assert (len(images.x_train), len(images.x_test)) == (16, 4)
    assert images.test_names[0].startswith("row ")
    assert images.test_names[0].endswith(".arrow")


def test_few_images_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images are handed on in chunks of fewer, and nothing else changes."""
    x = pixels(20, 9, 9, 3)
    root = save_to_disk(tmp_path / "a", animals(x, labels(20)))
    whole = load(str(root)).fingerprint
    monkeypatch.setattr(tables_module, "_CHUNK_BYTES", 3 * len(encoded(x[0])))
    paths = sorted(root.glob("*.arrow"))
    sizes = [len(chunk) for chunk in tables_module._encoded(paths, "image")]
    assert sum(sizes) == 20
    assert max(sizes) <= 4
    assert load(str(root), cache=tmp_path / "other").fingerprint == whole


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"_data_files": [{"filename": "../../secret.arrow"}]}, r"names '../../secret.arrow'"),
        ({"_data_files": [{"filename": 3}]}, r"must name what lies beside it, but names 3"),
        ({"_data_files": [{"filename": "model.pkl"}]}, r"end in .arrow, but lists model.pkl"),
        ({"_data_files": []}, r"end in .arrow, but lists none"),
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, r"call flatten_indices\(\)"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, r"cannot be read"),
    ],
)
def test_a_saved_folder_of_strangers(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    root = save_to_disk(tmp_path / "a", animals(pixels(20, 9, 9), labels(20)), **state)
    with pytest.raises(DataError, match=message):
        load(str(root))


def test_saved_splits_that_cannot_be_used(tmp_path: Path) -> None:
    content = animals(pixels(20, 9, 9), labels(20))
    with pytest.raises(DataError, match=r"no split train, but test, extra; name the folder of"):
        load(str(save_dict(tmp_path / "a", test=content, extra=content)))
    with pytest.raises(DataError, match=r"the splits val and dev, .* its valid images"):
        load(str(save_dict(tmp_path / "b", train=content, val=content, dev=content)))
    root = save_dict(tmp_path / "c", train=content)
    (root / "dataset_dict.json").write_text('{"splits": ["train", "../d"]}')
    with pytest.raises(DataError, match=r"must name what lies beside it, but names '../d'"):
        load(str(root))


def test_damaged_arrow(tmp_path: Path) -> None:
    root = save_to_disk(tmp_path / "a", animals(pixels(20, 9, 9), labels(20)), files=1)
    path = next(root.glob("*.arrow"))
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load(str(root))
    path.write_bytes(b"no arrow")
    with pytest.raises(DataError, match="cannot be read as Arrow"):
        load(str(root))


def test_offsets_that_point_outside_are_found(tmp_path: Path) -> None:
    """An Arrow file is memory as it is: nothing but validation stands between its offsets and the
    process.
    """
    far = pa.array([0, 10**6, 10], pa.int32()).buffers()[1]
    cells = pa.Array.from_buffers(pa.binary(), 2, [None, far, pa.py_buffer(b"0123456789")])
    content = pa.table({"image": cells, "label": [0, 1]})
    root = save_to_disk(tmp_path / "a", animals(pixels(2, 9, 9), labels(2)), files=1)
    with pa.ipc.new_stream(str(next(root.glob("*.arrow"))), content.schema) as writer:
        writer.write_table(content)
    with pytest.raises(DataError, match="cannot be read as Arrow"):
        load(str(root))


# --- columns --------------------------------------------------------------------------------------


def test_types_say_which_columns_are_meant(tmp_path: Path) -> None:
    x, y = pixels(20, 9, 9), labels(20)
    features = {"photo": IMAGE, "breed": classes(["pug", "husky"]), "label": {"dtype": "int64"}}
    content = table(x, features, label=[7] * 20, photo=IMAGE, breed=list(y))
    images = load(write_parquet(tmp_path / "a.parquet", content))
    assert images.class_names == ("pug", "husky")
    assert sorted(np.unique(images.y_train).tolist()) == [0, 1]


def test_of_several_columns_one_is_named(tmp_path: Path) -> None:
    x, y = pixels(24, 9, 9), labels(24)
    features = {"image": IMAGE, "kind": classes(), "size": classes(["small", "tall", "huge"])}
    content = table(x, features, image=IMAGE, kind=list(y), size=list(labels(24, 3)))
    source = write_parquet(tmp_path / "a.parquet", content)
    with pytest.raises(
        DataError, match=r"has 2 columns of labels, kind, size; name one of them by \?label=kind"
    ):
        load(source)
    by_kind, by_size = load(f"{source}?label=kind"), load(f"{source}?image=image&label=size")
    assert (by_kind.class_names, by_kind.name) == (("cat", "dog"), "a")
    assert by_size.class_names == ("small", "tall", "huge")
    assert by_kind.fingerprint != by_size.fingerprint
    with pytest.raises(DataError, match=r"has no column 'colour' \(label=colour\); it has image"):
        load(f"{source}?label=colour")
    with pytest.raises(DataError, match=r"must stand the names of columns.*but there is 'size'"):
        load(f"{source}?size")


def test_a_path_with_columns_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_parquet(tmp_path / "a.parquet", animals(pixels(20, 9, 9), labels(20)))
    monkeypatch.chdir(tmp_path)
    assert absolute("a.parquet?label=label") == f"{source}?label=label"
    assert path_of("a.parquet?label=label") == Path(source)
    odd = write_parquet(tmp_path / "what?label=x.parquet", animals(pixels(20, 9, 9), labels(20)))
    assert asked(odd)[0] == odd  # a file that is called so
    assert load(odd).classes == 2


def test_columns_of_strangers(tmp_path: Path) -> None:
    lists = pa.table({"image": [[1, 2, 3]] * 4, "label": [0, 1, 0, 1]})
    with pytest.raises(DataError, match=r"must hold images as bytes, PNG or JPEG, but is list"):
        load(write_parquet(tmp_path / "a.parquet", lists))
    many = pa.table({"image": [b""] * 100_000, "label": [0] * 100_000})
    with pytest.raises(DataError, match=r"100,000 rows, more than a file of [\d,]+ bytes"):
        load(write_parquet(tmp_path / "b.parquet", many, rows=100_000))
    features = {"image": [[[[1]]]], "label": {"names": "no list", "_type": "ClassLabel"}}
    odd = table(pixels(20, 9, 9), features, image=IMAGE, label=list(labels(20)))
    assert load(write_parquet(tmp_path / "c.parquet", odd)).class_names == ("0", "1")


# --- the hub --------------------------------------------------------------------------------------


class RevisionNotFoundError(Exception):
    """As huggingface_hub's."""


class FakeHub:
    """What is used of huggingface_hub: repositories are folders, one for each revision."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.downloads: list[tuple[str, list[str]]] = []
        self.offline = False

    def HfApi(self) -> FakeHub:  # noqa: N802  its name
        return self

    def dataset_info(self, name: str, revision: str | None = None) -> Any:
        if self.offline:
            raise OSError("no network")
        folder = self.root / name / (revision or "main").replace("/", "-")
        if not folder.is_dir():
            raise RevisionNotFoundError(f"{revision} is no revision of {name}")
        files = [path for path in folder.rglob("*") if path.is_file()]
        names = [SimpleNamespace(rfilename=str(path.relative_to(folder))) for path in files]
        return SimpleNamespace(sha=folder.name, siblings=names)

    def snapshot_download(
        self, name: str, *, repo_type: str, revision: str, allow_patterns: list[str]
    ) -> str:
        assert repo_type == "dataset"
        self.downloads.append((revision, sorted(allow_patterns)))
        return str(self.root / name / revision)


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return made


def publish(hub: FakeHub, name: str, *files: str, revision: str = "main") -> Path:
    root = hub.root / name / revision
    for seed, file in enumerate(files):
        content = animals(pixels(20, 9, 9, seed=seed), labels(20))
        write_parquet(root / file, content)
    return root


def test_a_data_set_of_the_hub_is_downloaded_once(hub: FakeHub) -> None:
    root = publish(hub, "me/pets", "data/train-00000-of-00001.parquet", "data/test-0.parquet")
    (root / "loader.py").write_text("raise SystemExit('never run')")
    images = load("hf://me/pets")
    assert (images.name, images.class_names) == ("pets", ("cat", "dog"))
    assert (len(images.x_train), len(images.x_test)) == (20, 20)
    files = ["data/test-0.parquet", "data/train-00000-of-00001.parquet"]
    assert hub.downloads == [("main", files)]
    assert images.test_names[0] == "row 0 of data/test-0.parquet"
    hub.offline = True
    assert load("hf://me/pets", 8).fingerprint != images.fingerprint  # of the copy
    assert load("hf://me/pets").fingerprint == images.fingerprint
    assert len(hub.downloads) == 1
    (root / "data" / "test-0.parquet").write_bytes(b"half")  # no copy any more
    with pytest.raises(DataError, match=r"hf://me/pets was not downloaded: .*no network; try"):
        load("hf://me/pets")


def test_what_the_hub_has_converted_is_taken_where_there_is_no_parquet(hub: FakeHub) -> None:
    publish(hub, "me/zips").mkdir(parents=True)
    with pytest.raises(DataError, match=r"hf://me/zips has no parquet files; download it"):
        load("hf://me/zips")
    converted = ("default/train/0000.parquet", "default/test/0000.parquet")
    publish(hub, "me/zips", *converted, revision="refs-convert-parquet")
    images = load("hf://me/zips")
    assert (len(images.x_train), len(images.x_test)) == (20, 20)
    assert hub.downloads[-1] == ("refs-convert-parquet", sorted(converted))


def test_revisions_and_configurations_are_named(hub: FakeHub) -> None:
    publish(hub, "me/birds", "small/train-0.parquet", "large/train-0.parquet")
    publish(hub, "me/birds", "large/train-0.parquet", "large/val-0.parquet", revision="v2")
    with pytest.raises(DataError, match=r"large, small; name one of them: hf://me/birds:large"):
        load("hf://me/birds")
    with pytest.raises(DataError, match=r"has the configurations large, small; name one"):
        load("hf://me/birds:tiny")
    assert load("hf://me/birds:small").name == "birds-small"
    assert load("hf://me/birds@v2").own_valid == 20
    assert [revision for revision, _ in hub.downloads] == ["main", "v2"]
    assert title("hf://me/birds@v2:large?label=label") == "birds-large"
    assert absolute("hf://me/birds@v2") == "hf://me/birds@v2"
    assert path_of("hf://me/birds") is None


def test_splits_of_the_hub_that_are_no_parts(hub: FakeHub) -> None:
    publish(hub, "me/a", "data/train-0.parquet", "data/extra-0.parquet")
    assert load("hf://me/a").in_words().endswith("passed over: the split extra")
    publish(hub, "me/b", "default/partial-train/0000.parquet")
    with pytest.raises(DataError, match=r"has no split train, but partial-train"):
        load("hf://me/b")


@pytest.mark.parametrize("source", ["hf://pets", "hf://me/pets/more", "hf://me/../x", "hf://"])
def test_no_address_of_the_hub(source: str) -> None:
    with pytest.raises(DataError, match=r"write hf://USER/NAME"):
        load(source)


def test_the_hub_without_its_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"needs huggingface_hub: pip install 'nanonas\[hf\]'"):
        load("hf://me/pets")


def test_files_of_a_repository_by_configuration() -> None:
    names = ["README.md", "train.parquet", "/etc/train.parquet", "../train.parquet", "a b.parquet"]
    assert by_configuration(names) == {"": {"train": ["train.parquet"]}}
    names = ["en/train/0001.parquet", "en/train/0000.parquet", "fr/0/validation-0-of-1.parquet"]
    assert by_configuration(names) == {
        "en": {"train": ["en/train/0000.parquet", "en/train/0001.parquet"]},
        "fr/0": {"validation": ["fr/0/validation-0-of-1.parquet"]},
    }
    assert Hub.of("hf://a/b@refs/pr/3:c", asked("")[1]).address == "hf://a/b@refs/pr/3:c"
