"""The cache folder: one model directory per name, and how a name becomes a path.

A folder of the cache is complete or absent: preparation happens beside it, under a name that starts
with a dot, and ends with a rename.
"""

from pathlib import Path

from headrace.models.default import DEFAULT_MODEL
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.runtime.errors import StartError

DEFAULT_CACHE_DIR = Path("~/.cache/headrace/models")


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


def list_models(cache_dir: Path) -> list[ModelDirectory | StartError]:
    """Every directory of the cache in order of name; a broken one as the error that says why."""
    cache = cache_dir.expanduser().absolute()
    if not cache.is_dir():
        return []
    folders = sorted(item for item in cache.iterdir() if item.is_dir())
    return [_opened(folder) for folder in folders if not folder.name.startswith(".")]


def _opened(folder: Path) -> ModelDirectory | StartError:
    try:
        return open_model_directory(folder)
    except StartError as error:
        return error
