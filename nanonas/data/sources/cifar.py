"""CIFAR-10 and CIFAR-100 from their official archives: downloaded, verified, read while packed."""

from __future__ import annotations

import re
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanonas.data.sources.base import Decoded, Labels
from nanonas.data.sources.decoding import array_part, form_of
from nanonas.data.sources.groups import refuse_groups
from nanonas.errors import DataError

_LARGEST = 2**28  # bytes of a member; those of 50,000 images have 154 million


@dataclass(frozen=True)
class Cifar:
    """An official binary archive: each record is label bytes, then 3072 bytes of red, green and
    blue planes.

    Downloaded once into the cache's folder ``downloads``; a file put there by hand is used if its
    checksum is right. https://www.cs.toronto.edu/~kriz/cifar.html
    """

    url: str
    sha256: str
    train: tuple[str, ...]  # names of the members, without their folder
    test: tuple[str, ...]
    names: str  # the member with the names of the classes
    label_bytes: int  # of a record; the last one is the label

    def files(self) -> list[Path]:
        """None: the checksum fixes the content."""
        return []

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Downloads the archive if needed. Raises `DataError` as `Reader.decode` does."""
        refuse_groups(groups, self.url)
        path = self._archive(cache / "downloads")
        wanted = (*self.train, *self.test, self.names)
        contents: dict[str, bytes] = {}
        try:
            with tarfile.open(path, "r:gz") as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    if name in wanted and (file := archive.extractfile(member)) is not None:
                        contents[name] = file.read(_LARGEST)
        except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
            raise DataError(
                f"{str(path)!r} cannot be read: {error}; delete it, and it is downloaded again"
            ) from None
        missing = [name for name in wanted if name not in contents]
        if missing:
            raise DataError(
                f"{str(path)!r} lacks {', '.join(missing)}; delete it, and it is downloaded again"
            )
        names = tuple(contents[self.names].decode("utf-8", "replace").split())
        x, y = self._records(b"".join(contents[name] for name in self.train))
        x_test, y_test = self._records(b"".join(contents[name] for name in self.test))
        form = form_of(x, image_size)
        return Decoded(names, form, array_part(x, y, form), None, array_part(x_test, y_test, form))

    def _records(self, content: bytes) -> tuple[NDArray[np.uint8], Labels]:
        """Images, (N, 32, 32, 3), and their labels, (N,)."""
        if not content or len(content) % (self.label_bytes + 3072):
            raise DataError(
                f"an archive from {self.url} has {len(content):,} bytes of images, but each takes "
                f"{self.label_bytes + 3072:,}; delete it, and it is downloaded again"
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, self.label_bytes + 3072)
        planes = records[:, self.label_bytes :].reshape(-1, 3, 32, 32)
        labels = records[:, self.label_bytes - 1].astype(np.int64)
        return planes.transpose(0, 2, 3, 1), labels

    def _archive(self, folder: Path) -> Path:
        """The archive in `folder`, downloaded if it is not there. Raises `DataError`."""
        import pooch
        from pooch.downloaders import HTTPDownloader

        name = self.url.rsplit("/", 1)[-1]
        pooch.get_logger().setLevel("WARNING")  # the progress bar shows the rest
        try:
            with _Bar(name) as bar:
                get = HTTPDownloader(progressbar=bar, timeout=30)
                return Path(
                    pooch.retrieve(self.url, f"sha256:{self.sha256}", name, folder, downloader=get)
                )
        # OSError: no network, an HTTP status, no space; ValueError: a wrong checksum
        except (OSError, ValueError) as error:
            if (response := getattr(error, "response", None)) is not None:
                response.close()  # pooch leaves it open after an HTTP error
            reason = "its checksum is wrong" if isinstance(error, ValueError) else _in_short(error)
            raise DataError(
                f"{self.url} could not be downloaded: {reason}; try again, or put that file by "
                f"hand at {str(folder / name)!r} (sha256 {self.sha256})"
            ) from None


def _in_short(error: OSError) -> str:
    """The innermost reason: requests wraps the error of a connection in three others."""
    text = str(error)
    if inner := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return inner.group(1).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


class _Bar:
    """A rich progress bar with the attribute and the three methods of tqdm's that pooch uses.

    Shown only while a download is running.
    """

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            "{task.description}",
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(name, total=None, start=False)
        self.total = 0  # bytes; set by pooch

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, number: int) -> None:
        if not self._progress.live.is_started:
            self._progress.start()
            self._progress.start_task(self._task)
        self._progress.update(self._task, total=self.total or None, advance=number)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        if self._progress.live.is_started:
            self._progress.stop()


_KRIZ = "https://www.cs.toronto.edu/~kriz/"
CIFAR = {
    "cifar10": Cifar(
        f"{_KRIZ}cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        ("test_batch.bin",),
        "batches.meta.txt",
        1,
    ),
    "cifar100": Cifar(
        f"{_KRIZ}cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ("train.bin",),
        ("test.bin",),
        "fine_label_names.txt",
        2,
    ),
}
