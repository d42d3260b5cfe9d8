"""headrace.json: where a model directory of the cache comes from, and what its files are.

Written last, by what made the directory; size and SHA-256 of every other file and the tokenizer's
fingerprint stand in it, so that damage and later changes can be told.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.models.directory import tokenizer_fingerprint
from headrace.runtime.errors import StartError

RECEIPT = "headrace.json"


def write_receipt(folder: Path, origin: Mapping[str, str | int]) -> None:
    """Record `origin` and all files of `folder`. Raises StartError without a tokenizer."""
    receipt = {
        **origin,
        "tokenizer_fingerprint": tokenizer_fingerprint(folder),
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
            for name in _names(folder)
        },
    }
    text = json.dumps(receipt, indent=2) + "\n"
    (folder / RECEIPT).write_text(text, encoding="utf-8")


def read_receipt(folder: Path) -> dict[str, Any]:
    """What the receipt says; empty where there is none that can be read."""
    try:
        value = json.loads((folder / RECEIPT).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def find_faults(folder: Path) -> list[str]:
    """What differs between the directory and its receipt, a clause each; reads every file."""
    receipt = read_receipt(folder)
    recorded = receipt.get("files")
    if not isinstance(recorded, dict) or not all(map(_is_record, recorded.values())):
        return [f"{RECEIPT} with hashes of its files is missing: pull or import it again"]
    faults = [
        fault
        for name, record in recorded.items()
        if (fault := _fault(folder / name, record)) is not None
    ]
    faults += [f"{name} is not in {RECEIPT}" for name in _names(folder) if name not in recorded]
    try:
        found = tokenizer_fingerprint(folder)
    except StartError as error:
        return [*faults, str(error)]
    if found != receipt.get("tokenizer_fingerprint"):
        faults.append(
            f"the tokenizer's fingerprint is {found}, recorded is "
            f"{receipt.get('tokenizer_fingerprint')}"
        )
    return faults


def file_sha256(file: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name != RECEIPT)


def _is_record(record: object) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("bytes"), int)
        and isinstance(record.get("sha256"), str)
    )


def _fault(file: Path, record: Mapping[str, Any]) -> str | None:
    try:
        size = file.stat().st_size
        if size != record["bytes"]:
            return f"{file.name} has {size} bytes, recorded are {record['bytes']}"
        found = file_sha256(file)
    except OSError as error:
        return f"{file.name}: {(error.strerror or '').lower()}"
    if found != record["sha256"]:
        return f"{file.name} has SHA-256 {found}, recorded is {record['sha256']}"
    return None
