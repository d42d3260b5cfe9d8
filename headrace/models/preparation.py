"""How a folder of the cache is made: beside its place, under a lock, complete or absent.

What an interrupted run left in the working folder is used by the next one.
"""

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from headrace.models.receipt import write_receipt
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

_MEGABYTE = 1_000_000


@contextmanager
def locked(target: Path, progress: Progress) -> Iterator[Path]:
    """The working folder of `target`, one process at a time.

    The lock goes with its process, so a killed one leaves none behind. Raises StartError when the
    cache cannot be written.
    """
    cache, name = target.parent, target.name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress.begin(f"Waiting for another process that prepares {name}")
                fcntl.flock(lock, fcntl.LOCK_EX)
                progress.end()
            work = cache / f".{name}.partial"
            work.mkdir(exist_ok=True)
            try:
                yield work
            finally:
                if not any(work.iterdir()):
                    work.rmdir()
    except OSError as error:
        raise StartError(f"cannot prepare {name} in {cache}: {error.strerror}") from error


def empty_folder(work: Path) -> Path:
    """The folder in which the model is put together, without what an earlier run left in it."""
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def publish(folder: Path, target: Path, origin: Mapping[str, str | int]) -> None:
    """Write the receipt, give the folder its place and remove the working folder."""
    write_receipt(folder, origin)
    work = folder.parent
    if target.exists():
        target.rename(work / "outdated")
    folder.rename(target)
    for item in work.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()


def require_space(work: Path, num_bytes: int, name: str) -> None:
    """Raise StartError when the disk has less than `num_bytes` free."""
    free = shutil.disk_usage(work).free
    if free < num_bytes:
        raise StartError(
            f"preparing {name} takes {num_bytes // _MEGABYTE} MB of disk, "
            f"{work.parent} has {free // _MEGABYTE} MB free"
        )
