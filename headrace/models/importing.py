"""Brings a model from the disk into the cache: a GGUF file, or a directory in OpenVINO's format.

A model that cannot be served is refused before anything of it is in the cache.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from headrace.models.configuration_checks import LAYOUT_FILES, check_layout
from headrace.models.default import DEFAULT_MODEL, convert_gguf
from headrace.models.preparation import empty_folder, locked, publish, require_space
from headrace.models.receipt import file_sha256
from headrace.models.refusal import UnservableError
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

Trial = Callable[[Path, Progress], None]
"""Serves one step of a model directory; raises UnservableError where that does not go."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAGIC = b"GGUF"
_MARGIN_BYTES = 20_000_000
"""For the graph and the tokenizer, which stand beside the weights."""


def import_model(
    source: Path, cache_dir: Path, progress: Progress, trial: Trial, name: str | None = None
) -> Path:
    """The folder in `cache_dir` that was made of `source`; its name by default the source's.

    Raises StartError for a source that cannot be read or a name that is taken, UnservableError for
    a model that cannot be served.
    """
    path = source.expanduser().absolute()
    if not path.exists():
        raise StartError(f"{path} does not exist")
    chosen = name or (path.name if path.is_dir() else path.stem)
    target = new_target(chosen, cache_dir)
    with locked(target, progress) as work:
        refuse_taken(target)
        publish_served(path, target, work, {"source": str(path)}, progress, trial)
    return target


def publish_served(
    source: Path,
    target: Path,
    work: Path,
    origin: Mapping[str, str | int],
    progress: Progress,
    trial: Trial,
) -> None:
    """Make `target` of a file or folder that can be served. Raises UnservableError."""
    try:
        folder = _take_in(source, work, target.name, progress)
        check_layout(folder)
        progress.begin("Trying it out")
        trial(folder, progress)
        progress.end()
    except UnservableError as error:
        shutil.rmtree(work)
        work.mkdir()
        raise UnservableError(f"{origin['source']} cannot be served: {error}") from error
    of_file = {"gguf_sha256": file_sha256(source)} if source.is_file() else {}
    publish(folder, target, {**origin, **of_file})
    progress.say(f"{target.name} is in {target}")


def new_target(name: str, cache_dir: Path) -> Path:
    """The folder of a model that is not there yet. Raises StartError for a name that cannot be."""
    if not _NAME.fullmatch(name):
        raise StartError(
            f"{name!r} cannot be a model's name: letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit; give another with --name"
        )
    if name == DEFAULT_MODEL.name:
        raise StartError(f"{name} is the default model's name: give another with --name")
    target = cache_dir.expanduser().absolute() / name
    refuse_taken(target)
    return target


def refuse_taken(target: Path) -> None:
    """Raise StartError where there is a model of that name."""
    if target.exists():
        raise StartError(f"{target} is there already: remove it, or give another name with --name")


def _take_in(path: Path, work: Path, name: str, progress: Progress) -> Path:
    """Convert or copy `path` into a folder of `work`. Raises UnservableError."""
    if path.is_dir():
        check_layout(path)
        files = [file for file in LAYOUT_FILES if (path / file).is_file()]
        folder = empty_folder(work)
        for file in files:
            (folder / file).parent.mkdir(exist_ok=True)
        if path.is_relative_to(work):
            for file in files:
                (folder / file).hardlink_to(path / file)
            return folder
        require_space(work, sum((path / file).stat().st_size for file in files), name)
        progress.begin(f"Copying {name}")
        for file in files:
            shutil.copyfile(path / file, folder / file)
        progress.end()
        return folder
    if not _is_gguf(path):
        raise UnservableError("it is neither a GGUF file nor a directory")
    require_space(work, path.stat().st_size + _MARGIN_BYTES, name)
    folder = empty_folder(work)
    convert_gguf(path, folder, progress)
    return folder


def _is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
