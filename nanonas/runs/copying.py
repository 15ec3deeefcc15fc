"""A copy of a run, also while it goes on: one that opens, resumes and reports."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.files import in_full, replacing, sync
from nanonas.runs.folder import RunFolder

ARCHIVES = {".tar": "w", ".tgz": "w:gz", ".gz": "w:gz"}  # by suffix: how `tarfile` opens them
# Replaced as a whole and never written into, so that a copy may share them with the run.
_SHARED = (".safetensors", ".pt")
# of files that belong to a process at work, or to the store, which is copied by itself
_PASSING = ("-wal", "-shm", "-journal", ".lock", ".part")


@dataclass(frozen=True)
class Backup:
    """A copy that was made."""

    path: Path  # a run's folder, or an archive of one
    candidates: int
    evaluations: int


def backup(run: RunFolder, to: Path | None = None, *, link: bool = True) -> Backup:
    """Copies a run as it is at this moment, whole or not at all, and to the disk.

    Args:
        to: the new folder, or a file that ends in .tar, .tar.gz or .tgz; in a folder that is there
            the copy gets the run's name and the time. None: so in the folder "backups" beside the
            run.
        link: whether weights and checkpoints are hard links where the file system has them: they
            take no space and no time, but a disk that damages one damages both.

    Raises:
        RunError: there is something already, it cannot be written, or the run's store is damaged.
    """
    target = _target(run, to)
    archive = ARCHIVES.get(target.suffix)
    part = target.with_name(f".{target.name}.{os.getpid()}.copy.part")
    folder = part if archive is None else part / run.path.resolve().name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = _copied(run, folder, link)
        if archive is None:
            part.rename(target)
            sync(target.parent)
        else:
            with replacing(target) as file, tarfile.open(file, archive) as tar:  # type: ignore[call-overload]
                tar.add(folder, folder.name)
    except OSError as error:
        raise RunError(
            f"the copy {str(target)!r} cannot be written: {error.strerror or error}; free space or "
            "permissions, or choose another place with --to"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Backup(target, *made)


def _target(run: RunFolder, to: Path | None) -> Path:
    here = run.path.resolve()
    name = f"{here.name}_{datetime.now():%Y-%m-%d_%H%M%S}"
    target = here.parent / "backups" / name if to is None else in_full(to).resolve()
    if to is not None and target.is_dir():
        target = target / name
    if target.exists():
        raise RunError(f"{str(target)!r} is there already: choose another name with --to")
    if target.suffix not in ARCHIVES and target.parent == here.parent:
        raise RunError(
            f"{str(target)!r} lies among the runs of {str(here.parent)!r}, where the copy would be "
            "taken for the newest of them: choose another folder with --to"
        )
    if here in target.parents:
        raise RunError(f"{str(target)!r} lies in the run itself: choose another folder with --to")
    return target


def _copied(run: RunFolder, folder: Path, link: bool) -> tuple[int, int]:
    """Copies a run into a new folder. Returns how many candidates and evaluations the copy has.

    The files come first: then the store, which is copied after them, knows all that they speak of.
    Weights that came in between are added.
    """
    copy_files(run.path, folder, link=link)
    copy = RunFolder(folder)
    with RunStore.read(run.store) as store:
        store.copy_to(copy.store)
    for weights, place in ((run.weights, copy.weights), (run.finalists, copy.finalists)):
        if weights.is_dir():
            copy_files(weights, place, link=link)
    with RunStore.read(copy.store) as store:
        counts = len(store.candidates()), len(store.evaluations())
    settle(copy)
    return counts


def settle(run: RunFolder) -> None:
    """Removes what reading and writing its store has left in a new run's folder, and waits until
    the names in it are on the disk.

    Raises:
        OSError: they cannot be.
    """
    for path in run.path.glob(f".{run.store.name}.lock"):
        path.unlink()
    for name in ("-wal", "-shm"):  # empty: whoever wrote has closed it
        Path(f"{run.store}{name}").unlink(missing_ok=True)
    for path in (run.path, *(path for path in run.path.rglob("*") if path.is_dir())):
        sync(path)


def copy_files(source: Path, target: Path, *, link: bool) -> None:
    """Copies what lies in a run's folder but for its store, to the disk; what is there already
    stays. The stores of comparisons, which lie in folders of it, are copied as stores.

    Raises:
        OSError: something cannot be read or written.
    """
    target.mkdir(exist_ok=True)
    for path in _lasting(source):
        place = target / path.relative_to(source)
        if path.name == RunFolder(source).store.name:
            if path.parent != source:
                with contextlib.suppress(RunError), RunStore.read(path) as store:
                    store.copy_to(place)  # one that cannot be read is begun again
        elif path.is_dir():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            with contextlib.suppress(FileNotFoundError):  # the search has replaced or removed it
                _copy(path, place, link and path.suffix in _SHARED)


def _lasting(folder: Path) -> Iterator[Path]:
    """Folders and files below a folder that outlast the process that works on it; a folder before
    what is in it. Links to folders are followed once.
    """
    seen: set[Path] = set()
    for place, names, files in os.walk(folder, followlinks=True):
        inner, real = Path(place), Path(place).resolve()
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        if inner != folder:
            yield inner
        yield from (inner / name for name in sorted(files) if not name.endswith(_PASSING))


def _copy(path: Path, place: Path, link: bool) -> None:
    if not path.is_file():  # a pipe would be waited for
        return
    if link:
        with contextlib.suppress(OSError):  # another disk, or a file system without links
            os.link(path.resolve(), place)
            return
    shutil.copy2(path, place)
    sync(place)
