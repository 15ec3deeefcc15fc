"""Tables in files: those of `benchmarks/make_table.py` as .npz, NAS-Bench-201 as parquet."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.bench.table import Answers, Table
from nanonas.core import Floats, Genome
from nanonas.data.arrays import MOST, require_arrays
from nanonas.data.sources.tables import require_sizes
from nanonas.errors import DataError, GenomeError
from nanonas.files import parsed_json
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space


def read_table(path: Path | str) -> Table:
    """Reads a table: an .npz of `benchmarks/make_table.py`, or NAS-Bench-201 as parquet.

    A parquet file has a column `arch` of official strings and one or more of `val_acc_12ep`,
    `val_acc_200ep` and its trials (in percent); it may have `train_seconds_12ep`,
    `train_seconds_200ep`, `test_acc_200ep`, `params`, `macs`, `latency_ms_*` and
    `isomorphism_class`, and any subset of the cells. Without seconds, a training takes one second.
    Dong & Yang, ICLR 2020, https://arxiv.org/abs/2001.00326.

    Raises:
        DataError: the file is missing, is no table, or has a value that cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"there is no table {str(path)!r}; give an .npz of make_table.py, or a NAS-Bench-201 "
            "parquet"
        )
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
    except OSError as error:
        raise DataError(f"the table {str(path)!r} cannot be read: {error.strerror}") from None
    if beginning == b"PAR1":
        return _read_parquet(path)
    if beginning[:2] == b"PK":
        return _read_npz(path)
    raise DataError(
        f"{str(path)!r} is no table; give an .npz of make_table.py, or a NAS-Bench-201 parquet"
    )


_LONGEST = 1e9  # seconds of a training
_FORMAT = ("nanonas-table-1", "nano")  # what a file says of itself: its format and its space
_ARRAYS = {  # names and numbers of dimensions
    "genomes": 2,
    "params": 1,
    "macs": 1,
    "train_loss": 3,
    "val_acc": 3,
    "test_acc": 2,
    "train_seconds": 2,
}


def _read_npz(path: Path) -> Table:
    """A table in the format "nanonas-table-1". Raises `DataError`."""
    try:
        require_arrays(path, MOST)
        # np.load leaves damaged files open
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = parsed_json(str(file["about"]))
            arrays = {name: file[name] for name in _ARRAYS}
        if (about["format"], about["space"]) != _FORMAT:
            raise ValueError(f"its format is {about['format']!r} of the space {about['space']!r}")
        space = NanoSpace(tuple(about["input_shape"]), about["classes"], **about["options"])
    except Exception as error:  # noqa: BLE001  zip, zlib, struct and numpy each raise their own
        reason = f"{error!s:.300}"
        if isinstance(error, KeyError):  # numpy adds words to the name
            reason = f"it lacks {str(error.args[0]).split()[0]!r}"
        raise DataError(
            f"{str(path)!r} is no table of make_table.py ({reason}); make it again"
        ) from None
    _check_arrays(path, arrays)
    genomes = tuple(tuple(genome) for genome in arrays["genomes"].tolist())
    real = {name: array.astype(np.float64) for name, array in arrays.items()}
    # (rows, trials, epochs, 2): training loss, validation accuracy
    curves = np.stack([real["train_loss"], real["val_acc"]], axis=-1)
    mean_curves = curves.mean(axis=1, keepdims=True)  # (rows, 1, epochs, 2)
    seconds = real["train_seconds"].mean(axis=1)  # (rows,)
    epochs = curves.shape[2]
    answers = {
        "val_acc": Answers(mean_curves[:, :, -1, 1], seconds, epochs, mean_curves),
        "val_acc_trial": Answers(curves[:, :, -1, 1], seconds, epochs, curves),
    }
    columns = {
        "test_acc": real["test_acc"].mean(axis=1),
        "params": real["params"],
        "macs": real["macs"],
    }
    return Table(path.stem, space, genomes, answers, columns)


def _check_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises `DataError` for arrays whose shapes don't match or whose values are out of range."""
    for name, dimensions in _ARRAYS.items():
        if arrays[name].ndim != dimensions or len(arrays[name]) != len(arrays["genomes"]):
            raise DataError(
                f"{str(path)!r}: the array {name!r} has the shape {arrays[name].shape}; make the "
                "table again"
            )
        if arrays[name].dtype.kind not in "biuf":
            raise DataError(
                f"{str(path)!r}: the array {name!r} must hold numbers, but holds "
                f"{arrays[name].dtype}; make the table again"
            )
    per_epoch = arrays["val_acc"].shape  # (rows, trials, epochs)
    per_training = per_epoch[:2]
    shapes = {"train_loss": per_epoch, "test_acc": per_training, "train_seconds": per_training}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or 0 in shape:
            raise DataError(
                f"{str(path)!r}: {name!r} must be of the shape {shape}, but is {arrays[name].shape}"
            )
    for name, most in (("val_acc", 1.0), ("test_acc", 1.0), ("train_seconds", _LONGEST)):
        _check_range(path, name, arrays[name], most)


_TRIALS = ("val_acc_200ep_trial0", "val_acc_200ep_trial1", "val_acc_200ep_trial2")
_PERCENT = ("val_acc_12ep", *_TRIALS, "val_acc_200ep", "test_acc_200ep")
_OTHERS = ("train_seconds_12ep", "train_seconds_200ep", "params", "macs", "isomorphism_class")


def _read_parquet(path: Path) -> Table:
    """NAS-Bench-201, or a part of it. Raises `DataError`."""
    space = NASBench201Space()
    archs, real = _parquet_columns(path)
    try:
        genomes: tuple[Genome, ...] = tuple(space.parse(str(arch)) for arch in archs)
    except GenomeError as error:
        raise DataError(f"{str(path)!r}: the column 'arch' cannot be read: {error}") from None
    columns = {name.replace("test_acc_200ep", "test_acc"): column for name, column in real.items()}
    return Table(path.stem, space, genomes, _answers_201(path, real), columns)


def _parquet_columns(path: Path) -> tuple[list[Any], dict[str, Floats]]:
    """The column `arch`, and the others by name, accuracies in [0, 1]. Raises `DataError`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{str(path)!r} is parquet, which needs pyarrow: pip install 'nanonas[parquet]'"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as opened:
            require_sizes(opened.metadata)
            file = opened.read()
    except (OSError, ValueError, pyarrow.ArrowException):
        raise DataError(
            f"{str(path)!r} is damaged or no parquet: get it again, or give another table"
        ) from None
    if "arch" not in file.column_names:
        raise DataError(
            f"{str(path)!r} has no column 'arch' with the cells as official strings; add it"
        )
    real: dict[str, Floats] = {}
    for name in file.column_names:
        if name == "arch":
            continue
        if name not in (*_PERCENT, *_OTHERS) and not name.startswith("latency_ms_"):
            hint = _nearest(name, [*_PERCENT, *_OTHERS])
            raise DataError(f"{str(path)!r} has an unknown column {name!r}{hint}")
        try:
            real[name] = file[name].to_numpy().astype(np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{str(path)!r}: the column {name!r} must hold numbers") from None
        if name in _PERCENT:
            _check_range(path, name, real[name], 100.0, gaps=name in _TRIALS)
            if len(real[name]) and not (real[name] > 1).any():
                raise DataError(
                    f"{str(path)!r}: {name!r} must be in percent, but nothing in it is above 1"
                )
            real[name] = real[name] / 100
        elif name.startswith("train_seconds"):
            _check_range(path, name, real[name], _LONGEST)
    return file["arch"].to_pylist(), real


def _answers_201(path: Path, real: Mapping[str, Floats]) -> dict[str, Answers]:
    """The answers of NAS-Bench-201 by objective; the mean of the trials as published, if it was.

    Raises `DataError` where there are none, or a row has none.
    """
    answers: dict[str, Answers] = {}
    names = [name for name in _TRIALS if name in real]
    if "val_acc_200ep" in real:
        answers["val_acc_200ep"] = Answers(
            real["val_acc_200ep"][:, None], _seconds(real, "200ep"), 200
        )
    if names:
        trials = np.stack([real[name] for name in names], axis=1)
        untried = np.flatnonzero(np.isnan(trials).all(axis=1))
        if len(untried):
            raise DataError(
                f"{str(path)!r}: row {untried[0]} has none of {', '.join(names)}; leave the row out"
            )
        single = Answers(trials, _seconds(real, "200ep"), 200)
        answers.setdefault("val_acc_200ep", Answers(single.means[:, None], single.seconds, 200))
        answers["val_acc_200ep_trial"] = single
    if "val_acc_12ep" in real:
        answers["val_acc_12ep"] = Answers(real["val_acc_12ep"][:, None], _seconds(real, "12ep"), 12)
    if not answers:
        raise DataError(
            f"{str(path)!r} has no validation accuracies; add val_acc_12ep, val_acc_200ep or its "
            "trials"
        )
    return answers


def _seconds(real: Mapping[str, Floats], epochs: str) -> Floats:
    """The seconds of one training, (rows,); 1 where the file has none."""
    ones: Floats = np.ones(len(next(iter(real.values()))))
    return real.get(f"train_seconds_{epochs}", ones)


def _check_range(path: Path, name: str, values: Floats, most: float, gaps: bool = False) -> None:
    """Raises `DataError` unless the values lie in [0, most], or are NaN where `gaps` allows it."""
    inside = (values >= 0) & (values <= most)
    wrong = np.argwhere(~inside & ~(np.isnan(values) & gaps))
    if len(wrong):
        row, value = wrong[0][0], values[tuple(wrong[0])]
        raise DataError(
            f"{str(path)!r}: row {row} of {name!r} must lie in [0, {most:g}], but is {value:g}"
        )


def _nearest(word: str, known: Sequence[str]) -> str:
    """The end of a sentence that offers a similar known word, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are arch, {', '.join(known)} and latency_ms_…"
