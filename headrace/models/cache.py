"""The cache folder: one model directory per name, and how a name becomes a path.

A folder of the cache is complete or absent: preparation happens beside it, under a name that starts
with a dot, and ends with a rename.
"""

from dataclasses import dataclass
from pathlib import Path

from headrace.models.default import DEFAULT_MODEL
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.models.receipt import find_wrong_sizes
from headrace.runtime.errors import StartError

DEFAULT_CACHE_DIR = Path("~/.cache/headrace/models")
_OPENVINO_FILES = ("openvino_model.xml", "openvino_model.bin")


def resolve_model(name_or_path: str, cache_dir: Path = DEFAULT_CACHE_DIR) -> Path:
    """The folder of a model: a path where it contains a slash, else a name in `cache_dir`.

    Raises StartError when there is no such folder; nothing is fetched here.
    """
    if "/" in name_or_path:
        folder = Path(name_or_path).expanduser().absolute()
        if not folder.is_dir():
            raise StartError(f"model directory {folder} does not exist")
        return folder
    cache = cache_dir.expanduser().absolute()
    folder = cache / name_or_path
    if folder.is_dir():
        return folder
    if name_or_path == DEFAULT_MODEL.name:
        raise StartError(
            f"the default model {name_or_path} is not in {cache}: run `headrace model pull`"
        )
    raise StartError(
        f"model {name_or_path} is not in {cache}; give a path (with a slash) or a name "
        "that `headrace model list` shows"
    )


@dataclass(frozen=True, slots=True)
class CachedModel:
    """One folder of the cache. `model` is None where it is broken, and `fault` says why.

    `engine_files`: engines whose own files are there; `paced` needs none.
    """

    path: Path
    model: ModelDirectory | None
    fault: str
    size_bytes: int
    engine_files: tuple[str, ...]


def list_models(cache_dir: Path) -> list[CachedModel]:
    """Every directory of the cache in order of name; contents are not read beyond the JSON."""
    cache = cache_dir.expanduser().absolute()
    if not cache.is_dir():
        return []
    folders = sorted(item for item in cache.iterdir() if item.is_dir())
    return [_described(folder) for folder in folders if not folder.name.startswith(".")]


def _described(folder: Path) -> CachedModel:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    has_openvino = all((folder / name).is_file() for name in _OPENVINO_FILES)
    model: ModelDirectory | None = None
    fault = "; ".join(find_wrong_sizes(folder))
    try:
        model = open_model_directory(folder) if not fault else None
    except StartError as error:
        fault = str(error)
    return CachedModel(folder, model, fault, sum(sizes), ("openvino",) if has_openvino else ())
