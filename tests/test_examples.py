"""The search in one file: small enough to be read, and true to the space that it explains."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from nanonas.maths.ranks import kendall
from nanonas.spaces.nano import NAMES, NanoSpace
from nanonas.training.modules import build_module

ROOT = Path(__file__).parent.parent
FILE = ROOT / "examples" / "one_file_nas.py"
TINY = {
    "budget": 14,
    "population": 3,
    "train-images": 60,
    "valid-images": 60,
    "channels": 2,
    "length": 2,
    "pool": 3,
    "epochs": 2,
    "heir-epochs": 1,
    "finalists": 1,
    "final-epochs": 1,
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def one_file() -> ModuleType:
    """The file, loaded anew: its settings are its globals."""
    spec = importlib.util.spec_from_file_location("one_file_nas", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def candidate(one_file: ModuleType, genome: tuple[int, ...], **known: Any) -> Any:
    values = {"parents": [], "guess": None, "accuracy": 0.5, "params": 1, "weights": {}, **known}
    return one_file.Candidate(genome=genome, **values)


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 400


def test_it_needs_torch_and_numpy_alone() -> None:
    imported = set()
    for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).split(".")[0])
    assert imported - sys.stdlib_module_names == {"torch", "numpy"}


def test_its_steps_are_those_of_the_tutorial() -> None:
    """The same titles, and the lines that the tutorial names are where they begin and end."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    titles = dict(re.findall(r"^## (\d)\. (.+)$", text, re.MULTILINE))
    lines = FILE.read_text(encoding="utf-8").splitlines()
    starts = {
        match[1]: (place, match[2])
        for place, line in enumerate(lines, 1)
        if (match := re.match(r"# --- (\d)\. (.+?) -+$", line))
    }
    assert {number: title for number, (_, title) in starts.items() if number != "0"} == titles
    ends = [place - 1 for place, _ in [*starts.values()][1:]] + [len(lines)]
    expected = [
        (number, str(start), str(end))
        for (number, (start, _)), end in zip(starts.items(), ends, strict=True)
    ]
    assert re.findall(r"^\| \[?(\d)[^|]*\| (\d+)–(\d+) \|", text, re.MULTILINE) == expected


def test_its_networks_are_those_of_the_space_nano(one_file: ModuleType) -> None:
    """The same operations in the same order: with the same weights, the same logits."""
    assert tuple(one_file.NAMES) == NAMES
    space = NanoSpace((3, 9, 9), 10, channels=one_file.CHANNELS)
    rng = np.random.default_rng(0)
    x = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    for genome in [space.sample(rng) for _ in range(6)] + [(7, 6, 5, 4), (0, 1, 2, 3)]:
        ours, theirs = one_file.build(genome, 3).eval(), build_module(space.decode(genome)).eval()
        with torch.no_grad():
            for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                other.copy_(own.uniform_(-0.5, 0.5))
            # eval: the norm of the pixels divides by the root of 1 + 1e-5
            assert_allclose(ours(x), theirs(x / (1 + 1e-5) ** 0.5), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strategy", ["evolution", "random"])
def test_a_search_runs_and_opens_the_test_set_last(
    one_file: ModuleType,
    strategy: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    read, trained = one_file.read, one_file.train

    def reading(part: str) -> Any:
        done.append(part)
        return read(part)

    def training(net: Any, x: Any, y: Any, epochs: int) -> Any:
        for epoch in trained(net, x, y, epochs):
            done.append(f"{len(x)} images")
            yield epoch

    monkeypatch.setattr(one_file, "read", reading)
    monkeypatch.setattr(one_file, "train", training)
    words = ["--strategy", strategy]
    for name, value in TINY.items():
        words += [f"--{name}", str(value)]
    one_file.main(words)
    first = capsys.readouterr().out

    begin = done.index("test")
    assert done[0] == "train"
    assert done.count("test") == done.count("train") == 1
    assert done[begin + 1 :] == ["1438 images"] * 2  # the winner, and what it is compared with
    spent = done[:begin].count("60 images") - 1  # the finalist's
    assert 14 <= spent <= 15  # a last candidate may finish

    drawn = len(re.findall(r"\(drawn", first))
    bred = len(re.findall(r"\(#\d", first))
    assert (drawn, bred > 0) == (3, True) if strategy == "evolution" else bred == 0
    assert ("tau of the predictor" in first) == (strategy == "evolution")
    assert re.search(r"^#\d+ +\d+\.\d\d% ± \d+\.\d\d%$", first, re.MULTILINE)

    one_file.main(words)
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == first.splitlines()[:-1]  # but the seconds


def test_a_child_is_a_crossing_of_its_parents_with_one_change(one_file: ModuleType) -> None:
    rng = np.random.default_rng(0)
    genomes = [tuple(int(n) for n in rng.integers(8, size=6)) for _ in range(20)]
    tried = [candidate(one_file, g, accuracy=place / 20) for place, g in enumerate(genomes)]
    crossed = 0
    for _ in range(200):
        genome, parents = one_file.breed(tried, rng)
        assert set(parents) <= set(range(10, 20))  # the ten most accurate
        a, b = genomes[parents[0]], genomes[parents[-1]]
        differing = (
            sum(x != y for x, y in zip(genome, a[:cut] + b[cut:], strict=True))
            for cut in range(1, 6)
        )
        assert 1 in differing
        crossed += len(parents) == 2
    assert 50 < crossed < 130  # half of them, but for parents that are the same


def test_tournaments_prefer_the_better(one_file: ModuleType) -> None:
    tried = [candidate(one_file, (0, 0), accuracy=place / 10) for place in range(10)]
    rng = np.random.default_rng(0)
    wins = np.bincount([one_file.select(tried, rng) for _ in range(2000)], minlength=10) / 2000
    # The best of three draws is at most place k (from the worst) with probability ((k + 1) / 10)³.
    expected = np.diff([(k / 10) ** 3 for k in range(11)])
    assert_allclose(wins, expected, atol=0.04)


def test_heirs_begin_with_what_their_parents_learnt(one_file: ModuleType) -> None:
    genomes = {"a": (0, 7, 4, 3, 6, 1), "b": (5, 2, 4, 3, 0, 6), "child": (0, 2, 4, 3, 1, 1)}
    torch.manual_seed(0)
    taught = {name: one_file.build(genome, 1) for name, genome in genomes.items()}
    parents = [
        candidate(one_file, genomes[name], weights=taught[name].state_dict()) for name in "ab"
    ]
    heir = taught["child"]
    fresh = {name: value.clone() for name, value in heir.state_dict().items()}
    one_file.inherit(heir, parents)
    for name, value in heir.state_dict().items():
        part = name.split(".")[0]
        if part in ("1 sep_conv3x3",):  # the second parent's alone
            assert torch.equal(value, parents[1].weights[name])
        elif part in ("4 conv1x1",):  # new
            assert torch.equal(value, fresh[name])
        else:  # where both have a part it is the first parent's
            assert torch.equal(value, parents[0].weights[name])
    twin = one_file.build(genomes["a"], 1)
    one_file.inherit(twin, parents)
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(twin.eval()(x), taught["a"].eval()(x))


def test_the_predictor_is_ridge_regression_on_ranks(one_file: ModuleType) -> None:
    rng = np.random.default_rng(0)
    genomes = [tuple(int(n) for n in rng.integers(8, size=6)) for _ in range(30)]
    accuracies = rng.random(30)
    tried = [
        candidate(one_file, g, accuracy=float(a)) for g, a in zip(genomes, accuracies, strict=True)
    ]
    x = np.array([one_file.features(genome) for genome in genomes])
    ranks = (accuracies[:, None] > accuracies).sum(1) / 30
    rows = np.concatenate([x - x.mean(0), np.eye(x.shape[1])])
    weights = np.linalg.lstsq(rows, [*(ranks - ranks.mean()), *np.zeros(x.shape[1])], rcond=None)[0]
    assert_allclose(one_file.predict(tried, genomes), (x - x.mean(0)) @ weights, atol=1e-9)


def test_its_audit_is_kendalls_tau(one_file: ModuleType) -> None:
    rng = np.random.default_rng(0)
    guesses, accuracies = rng.integers(8, size=25) / 8, rng.integers(8, size=25) / 8  # with ties
    tried = [candidate(one_file, (0, 0))] + [
        candidate(one_file, (0, 0), parents=[0], guess=float(g), accuracy=float(a))
        for g, a in zip(guesses, accuracies, strict=True)
    ]
    assert one_file.audit(tried) == pytest.approx(kendall(guesses[-20:], accuracies[-20:]).tau)


def test_the_front_is_what_no_other_beats(one_file: ModuleType) -> None:
    rng = np.random.default_rng(0)
    points = [(int(size), int(right) / 10) for size, right in rng.integers(10, size=(40, 2))]
    tried = [candidate(one_file, (0, 0), params=s, accuracy=a) for s, a in points]
    beaten = {
        one
        for one, other in itertools.product(points, points)
        if other != one and other[0] <= one[0] and other[1] >= one[1]
    }
    assert [points[place] for place in one_file.front(tried)] == sorted(set(points) - beaten)


def test_augmented_images_are_moved_and_only_photographs_mirrored(one_file: ModuleType) -> None:
    torch.manual_seed(0)
    for channels, side in ((1, 8), (3, 16)):
        x = torch.rand(64, channels, side, side)
        reach = side // 8
        padded = np.pad(x.numpy(), ((0, 0), (0, 0), (reach, reach), (reach, reach)), "reflect")
        windows = [
            padded[:, :, top : top + side, left : left + side]
            for top in range(2 * reach + 1)
            for left in range(2 * reach + 1)
        ]
        out = one_file.augment(x).numpy()
        straight = [any(np.array_equal(o, w[i]) for w in windows) for i, o in enumerate(out)]
        mirrored = [
            any(np.array_equal(o[..., ::-1], w[i]) for w in windows) for i, o in enumerate(out)
        ]
        assert all(a or b for a, b in zip(straight, mirrored, strict=True))
        assert any(mirrored) == (channels == 3)
        assert any(straight)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--chanels", "8"], "unrecognized arguments: --chanels"),
        (["--channels", "many"], "invalid int value: 'many'"),
        (["--epochs", "0"], "EPOCHS must be 1 or more, but is 0"),
        (["--budget", "__import__('os')"], "invalid int value"),
        (["--strategy", "clever"], "invalid choice: 'clever'"),
        (["--length", "1"], "LENGTH must be 2 or more, but is 1"),
    ],
)
def test_settings_that_are_none(
    one_file: ModuleType, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        one_file.configure(words)
    assert said in capsys.readouterr().err


def test_settings_are_replaced(one_file: ModuleType) -> None:
    one_file.configure(["--heir-epochs", "3", "--lr", "0.5", "--seed", "0"])
    assert (one_file.HEIR_EPOCHS, one_file.LR, one_file.EPOCHS) == (3, 0.5, 4)


def test_cifar_is_read_from_its_archive_and_from_its_folder(
    one_file: ModuleType, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(12, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(10, size=12, dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    for place, name in enumerate(names):
        records = (bytes([labels[n]]) + images[n].tobytes() for n in (2 * place, 2 * place + 1))
        (folder / name).write_bytes(b"".join(records))
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for path in (folder, archive):
        one_file.configure(["--data", str(path)])
        for part, rows in (("train", slice(10)), ("test", slice(10, 12))):
            x, y = one_file.read(part)
            assert np.array_equal(x.numpy(), images[rows])
            assert y.tolist() == labels[rows].tolist()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00 broken"])
def test_what_is_no_archive_is_said(one_file: ModuleType, tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "cifar-10-binary.tar.gz"
    broken.write_bytes(content)
    for path in (broken, tmp_path / "missing", tmp_path):
        one_file.configure(["--data", str(path)])
        with pytest.raises(SystemExit, match=r"is no cifar-10-binary\.tar\.gz: "):
            one_file.read("train")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3000))
    one_file.configure(["--data", str(tmp_path)])
    with pytest.raises(SystemExit, match="is no cifar-10-binary"):
        one_file.read("test")
