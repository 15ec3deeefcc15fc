"""Images and data sets of strangers, graphs and tables: as `toys.hostile.formats`."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from nanonas.data.cache import reading
from nanonas.data.sources.base import Decoded
from toys.hostile.formats import NAMES, RULE, Format, json_format, reader
from toys.hostile.mutations import NUMBERS, archives, changed
from toys.images import encoded, labels, pixels


def _consumed(decoded: Decoded, source: str) -> object:
    """What is decoded, as the cache would write it."""
    made = []
    for part in (decoded.train, decoded.valid, decoded.test):
        if part is not None:
            with reading(source):
                made += [chunk.shape for chunk in part.chunks]
    return decoded.class_names, made


# --- images ---------------------------------------------------------------------------------------

_SUFFIXES = ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm", "tga", "ico", "jp2", "pcx", "avif")


def _saved(picture: Image.Image, suffix: str, **options: Any) -> bytes | None:
    buffer = io.BytesIO()
    try:
        picture.save(buffer, Image.registered_extensions()[f".{suffix}"], **options)
    except (OSError, KeyError, ValueError):  # built without it
        return None
    return buffer.getvalue()


def image_seeds() -> list[bytes]:
    """Small images in many formats and modes."""
    rgb = Image.fromarray(pixels(1, 24, 20, 3)[0])
    made = [_saved(rgb, suffix) for suffix in _SUFFIXES]
    deep = np.arange(480, dtype=np.uint16).reshape(24, 20) * 100
    exif = Image.Exif()
    exif[0x0112] = 6
    made += [
        _saved(rgb.convert("L"), "png"),
        _saved(rgb.convert("RGBA"), "png"),
        _saved(rgb.quantize(16), "png", transparency=3),
        _saved(rgb.quantize(16), "gif", transparency=3),
        _saved(rgb.convert("CMYK"), "jpg"),
        _saved(rgb, "jpg", exif=exif, progressive=True),
        _saved(rgb, "png", exif=exif),
        _saved(Image.fromarray(deep), "png"),
        _saved(Image.fromarray(deep), "tif"),
        _saved(Image.fromarray(deep.astype(np.float32) / 50_000), "tif"),
        _saved(rgb, "tif", compression="tiff_lzw"),
        _saved(rgb, "tif", compression="tiff_adobe_deflate"),
        _saved(rgb.convert("1"), "tif", compression="group4"),
        _saved(rgb, "bmp"),
        _saved(rgb, "webp", lossless=True),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(hostile) (w) file\n",
    ]
    return [one for one in made if one is not None]


@st.composite
def _huge(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """A header that says that the image is of any size, before few bytes of pixels."""
    width, height = (int(draw(st.sampled_from([*NUMBERS, 10**4, 10**5]))) for _ in range(2))
    kind = draw(st.sampled_from(["png", "gif", "bmp", "ppm", "tga", "pcx"]))
    made = _header(draw, kind, width, height)
    few: bytes = draw(st.binary(max_size=60))
    return made + few


def _header(
    draw: Callable[[st.SearchStrategy[Any]], Any], kind: str, width: int, height: int
) -> bytes:
    small = struct.pack("<HH", width % 2**16, height % 2**16)
    if kind == "png":
        depth, colour = draw(st.sampled_from([1, 8, 16])), draw(st.sampled_from([0, 2, 3, 4, 6]))
        sizes = struct.pack(">II", width % 2**32, height % 2**32)
        head = b"IHDR" + sizes + bytes([depth, colour, 0, 0, 0])
        parts = [
            struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
            for part in (head, b"IDAT" + zlib.compress(bytes(2**16)), b"IEND")
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    if kind == "gif":
        return b"GIF89a" + small + b"\x80\0\0" + bytes(6) + b"\x2c\0\0\0\0" + small + b"\0\x02"
    if kind == "bmp":
        bits = draw(st.sampled_from([1, 8, 24, 32]))
        sizes = struct.pack("<IiiHH", 40, width % 2**31, height % 2**31, 1, bits)
        return b"BM" + struct.pack("<IHHI", 99, 0, 0, 54) + sizes + bytes(24)
    if kind == "tga":
        return b"\0\0\x02" + bytes(9) + small + b"\x18\0"
    if kind == "pcx":
        return b"\x0a\x05\x01\x08\0\0\0\0" + small + bytes(116)
    return b"P6 %d %d 255\n" % (width, height)


# --- folders of images ----------------------------------------------------------------------------


def image(work: Path) -> Format:
    """An image file in a folder of images, and for a network."""
    from nanonas.data.sources.folder import Folder

    root = work / "photos"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    (root / "dog" / "b.png").write_bytes(encoded(pixels(1, 12, 12, 3)[0]))

    def read(path: Path) -> object:
        shape = RULE.pixels(path).shape
        return shape, _consumed(Folder(root).decode(None, work), str(root))

    seeds = image_seeds()
    # the last one is PostScript, which is none
    return Format(
        st.one_of(changed(seeds), changed(seeds), _huge()),
        reader(root / "cat" / "a.png", read),
        seeds[:1],
    )


# --- data sets ------------------------------------------------------------------------------------


def npz(work: Path) -> Format:
    """A data set in an .npz."""
    from nanonas.data.sources.npz import Npz

    x, y = pixels(8, 6, 6), labels(8)
    sets: list[dict[str, Any]] = [
        {"x_train": x, "y_train": y, "x_test": x, "y_test": y, "class_names": np.array(["a", "b"])},
        {"x_train": (x / 255).astype(np.float32)[..., None], "y_train": y[:, None]},
    ]
    seeds = []
    for place, arrays in enumerate(sets):
        buffer = io.BytesIO()
        (np.savez_compressed if place else np.savez)(buffer, **arrays)
        seeds.append(buffer.getvalue())
    names = ("x_train", "y_train", "x_test", "y_test", "x_val", "class_names", "film")

    def read(path: Path) -> object:
        return _consumed(Npz(path).decode(None, work), str(path))

    return Format(
        st.one_of(changed(seeds), archives(seeds, names)), reader(work / "a.npz", read), seeds
    )


def table(work: Path) -> Format:
    """A table of networks for `nanonas bench`, as .npz."""
    from nanonas.bench.files import read_table

    about = {"format": "nanonas-table-1", "space": "nano", "input_shape": [1, 8, 8], "classes": 10}
    about["options"] = {"channels": 4, "length": 2}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.array(json.dumps(about)),
        genomes=np.array([[0, 1], [1, 2], [2, 3]]),
        params=np.ones(3),
        macs=np.ones(3),
        train_loss=np.ones((3, 2, 4)),
        val_acc=np.full((3, 2, 4), 0.5),
        test_acc=np.full((3, 2), 0.5),
        train_seconds=np.ones((3, 2)),
    )
    seeds = [buffer.getvalue()]
    names = ("about", "genomes", "params", "macs", "train_loss", "val_acc", "test_acc")
    return Format(
        st.one_of(changed(seeds), archives(seeds, names)),
        reader(work / "table.npz", lambda path: read_table(path).name),
        seeds,
    )


def parquet(work: Path) -> Format:
    """A data set in parquet."""
    import pyarrow
    import pyarrow.parquet

    from nanonas.data.sources.parquet import Parquet

    cells = [encoded(array) for array in pixels(6, 9, 9)]
    features = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    seeds = []
    for packed in ("NONE", "SNAPPY", "ZSTD"):
        made = pyarrow.table({"img": cells, "label": [n % 2 for n in range(6)]})
        made = made.replace_schema_metadata({"huggingface": json.dumps(features)})
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(made, buffer, compression=packed)
        seeds.append(buffer.getvalue())

    def read(path: Path) -> object:
        with reading(str(path)):
            return _consumed(Parquet(path).decode(None, work), str(path))

    return Format(changed(seeds), reader(work / "a.parquet", read), seeds)


def cifar(work: Path) -> Format:
    """The archive of CIFAR, if its checksum were right: names that lead elsewhere, among others."""
    from nanonas.data.sources import cifar as source

    images = source.Cifar("http://x/a.tar.gz", "", ("a.bin",), ("b.bin",), "n.txt", 1)
    path = work / "a.tar.gz"
    object.__setattr__(images, "_archive", lambda folder: path)
    record = bytes([1]) + bytes(range(256)) * 12
    seeds = []
    for names in (("a.bin", "b.bin", "n.txt"), ("../a.bin", "/tmp/b.bin", "x/../n.txt")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in zip(names, (record * 2, record, b"cat dog"), strict=True):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("c.bin")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
        seeds.append(buffer.getvalue())

    def read(_: Path) -> object:
        with reading("cifar10"):
            return _consumed(images.decode(None, work), "cifar10")

    return Format(changed(seeds), reader(path, read), seeds)


# --- bundles --------------------------------------------------------------------------------------


def rule(work: Path) -> Format:
    """preprocessing.json of a bundle."""
    from nanonas.deploy.classifying import _rule

    def read(path: Path) -> object:
        return _rule(path).pixels(pixels(1, 12, 12, 3)[0]).shape

    return json_format([RULE.to_json()], work / "preprocessing.json", read)


def graph(work: Path) -> Format:
    """model.onnx of a bundle, which classifies an image."""
    from nanonas.deploy.classifying import of_graph

    seeds = graph_seeds()
    (work / "preprocessing.json").write_text(json.dumps(RULE.to_json()), encoding="utf-8")
    shown = pixels(1, 8, 8)[0]

    def read(path: Path) -> object:
        return of_graph(path.parent, threads=1).probabilities([shown, shown])

    return Format(
        st.one_of(changed(seeds), changed(seeds), _graphs(seeds)),
        reader(work / "model.onnx", read),
        seeds,
    )


def graph_seeds() -> list[bytes]:
    """Two networks: a convolution and a pool, and one that multiplies."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(4, 1, 3, 3)).astype(np.float32)
    dense = rng.normal(size=(4, 10)).astype(np.float32)
    convolved = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "kernel"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "dense"], ["logits"]),
    ]
    mean = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "row"], ["logits"]),
    ]
    constants = [
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(dense, "dense")],
        [numpy_helper.from_array(dense[:1], "row")],
    ]
    made = []
    for nodes, tensors in zip((convolved, mean), constants, strict=True):
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 1])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(NAMES)])
        graph = helper.make_graph(nodes, "network", [image], [logits], tensors)
        opset = [helper.make_opsetid("", 17)]
        made.append(helper.make_model(graph, opset_imports=opset, ir_version=8))
    return [model.SerializeToString() for model in made]


_OPERATIONS = (
    *("Relu", "Conv", "MatMul", "Concat", "Gather", "Reshape", "Nothing"),
    *("Loop", "If", "Scan", "Optional"),
    *("Tile", "Expand", "ConstantOfShape", "Pad", "Resize", "Range"),
)


@st.composite
def _graphs(draw: Callable[[st.SearchStrategy[Any]], Any], seeds: list[bytes]) -> bytes:
    """A graph of which nodes, numbers, shapes or names are others."""
    import onnx

    model = onnx.ModelProto.FromString(draw(st.sampled_from(seeds)))
    graph = model.graph
    names = ["image", "logits", "x", "mean", "row", "t", "c", "r", "g", "f", "kernel", "new", ""]
    sizes = st.sampled_from([-1, 0, 1, 2, 10, 2**16, 2**31 - 1, 2**31, 2**40, 2**62])
    for _ in range(draw(st.integers(1, 3))):
        node = graph.node[draw(st.integers(0, len(graph.node) - 1))] if graph.node else None
        match draw(st.integers(0, 9)):
            case 0 if node is not None:
                node.op_type = draw(st.sampled_from(_OPERATIONS))
            case 1 if node is not None and node.input:
                node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(names))
            case 2 if node is not None:
                name = draw(st.sampled_from(["pads", "strides", "kernel_shape", "group", "axes"]))
                value = draw(st.lists(sizes, min_size=1, max_size=8))
                node.attribute.append(onnx.helper.make_attribute(name, value))
            case 3 if graph.initializer:
                tensor = graph.initializer[0]
                tensor.data_location = onnx.TensorProto.EXTERNAL
                tensor.external_data.add(key="location", value="../../../etc/passwd")
            case 4 if graph.initializer:
                dims = draw(st.lists(sizes, max_size=4))
                graph.initializer[0].dims[:] = dims
            case 5:
                shape = onnx.helper.make_tensor("shape", 7, [2], [draw(sizes), draw(sizes)])
                graph.initializer.append(shape)
                kind = draw(st.sampled_from(["ConstantOfShape", "Expand", "Tile", "Reshape"]))
                inputs = ["shape"] if kind == "ConstantOfShape" else ["x", "shape"]
                graph.node.append(onnx.helper.make_node(kind, inputs, ["new"]))
            case 6:
                value = (*graph.input, *graph.output)[draw(st.integers(0, 1))]
                value.type.tensor_type.shape.dim[draw(st.integers(0, 1))].dim_value = draw(sizes)
            case 7 if node is not None:
                graph.node.remove(node)
            case 8 if node is not None:
                node.domain = draw(st.sampled_from(["com.microsoft", "evil", "ai.onnx.ml"]))
            case _:
                model.opset_import[0].version = draw(st.sampled_from([0, 1, 7, 13, 22, 99, 2**40]))
    made: bytes = model.SerializeToString()
    return made


FORMATS = (image, npz, table, parquet, cifar, rule, graph)
