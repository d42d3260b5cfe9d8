"""Brings a model from a server into the cache: a hub's repository, or the address of a GGUF file.

A hub is a server with Hugging Face's layout: `api/models/ID` lists a repository's files and names
its revision, `ID/resolve/REVISION/FILE` gives one. All files come from the same revision.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from headrace.models.configuration_checks import LAYOUT_FILES, NEEDED_FILES
from headrace.models.download import Downloader, check_address
from headrace.models.importing import Trial, new_target, publish_served, refuse_taken
from headrace.models.preparation import locked
from headrace.models.receipt import read_receipt
from headrace.models.refusal import UnservableError
from headrace.models.settings import ModelsSettings
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def pull_model(
    model: str, settings: ModelsSettings, progress: Progress, trial: Trial, name: str | None = None
) -> Path:
    """The folder in the cache of a hub id or of a GGUF file's address.

    Raises StartError for what is no such thing, cannot be fetched or has a name that is taken;
    UnservableError for a model that cannot be served.
    """
    downloader = Downloader(progress, settings.download_timeout_seconds)
    if "://" in model:
        check_address(model)
        file = unquote(urlsplit(model).path).rpartition("/")[2]
        if not file.endswith(".gguf"):
            raise StartError(f"{model}: the address does not end in .gguf")
        name = name or file.removesuffix(".gguf")
    elif _HUB_ID.fullmatch(model):
        name = name or model.partition("/")[2]
    else:
        raise StartError(f"{model} is no hub id (owner/name) and no https:// address")
    target = settings.cache_dir.expanduser().absolute() / name
    if read_receipt(target).get("source") == model:
        return target
    target = new_target(name, settings.cache_dir)
    with locked(target, progress) as work:
        if read_receipt(target).get("source") == model:
            # Another process was quicker.
            return target
        refuse_taken(target)
        downloads = work / "download"
        downloads.mkdir(exist_ok=True)
        source = downloads
        origin: dict[str, str | int] = {"source": model}
        if "://" in model:
            source = downloads / "weights.gguf"
            downloader.fetch(model, source)
        else:
            origin["revision"] = _fetch_repository(model, settings, downloader, downloads)
        publish_served(source, target, work, origin, progress, trial)
    return target


def _fetch_repository(
    model: str, settings: ModelsSettings, downloader: Downloader, folder: Path
) -> str:
    """Fetch the files of the layout; gives the revision that they are of."""
    endpoint = settings.hub_endpoint.rstrip("/")
    listing = downloader.read_json(f"{endpoint}/api/models/{model}")
    revision, names = _read_listing(listing, model)
    missing = [name for name in NEEDED_FILES if name not in names]
    if missing:
        hint = ""
        if any(name.endswith(".gguf") for name in names):
            hint = "; it has GGUF files: pull one by its address, ending in .gguf"
        raise UnservableError(f"{model} has no {', no '.join(missing)}{hint}")
    _forget_other_revisions(folder, revision)
    for name in LAYOUT_FILES:
        if name in names:
            address = f"{endpoint}/{model}/resolve/{quote(revision)}/{name}"
            (folder / name).parent.mkdir(exist_ok=True)
            downloader.fetch(address, folder / name)
    return revision


def _read_listing(listing: Any, model: str) -> tuple[str, set[str]]:
    try:
        revision, siblings = listing["sha"], listing["siblings"]
        names = {item["rfilename"] for item in siblings}
    except (KeyError, TypeError) as error:
        raise StartError(f"the hub's answer about {model} is not understood: {error!r}") from error
    if not isinstance(revision, str) or not re.fullmatch(r"[0-9A-Za-z._-]+", revision):
        raise StartError(f"the hub names no revision of {model}")
    return revision, names


def _forget_other_revisions(folder: Path, revision: str) -> None:
    """What an earlier run fetched counts only when it is of the same revision."""
    note = folder / "revision"
    if not note.exists() or note.read_text(encoding="utf-8") != revision:
        for file in folder.rglob("*"):
            if not file.is_dir():
                file.unlink()
        note.write_text(revision, encoding="utf-8")
