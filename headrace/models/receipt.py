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
    """What the receipt says; empty where there is none of the form that is written here."""
    try:
        value = json.loads((folder / RECEIPT).read_bytes())
        records = value.get("files", {}).values()
        is_whole = all({"bytes", "sha256"} <= record.keys() for record in records)
    except (OSError, ValueError, AttributeError):
        return {}
    return value if is_whole else {}


def find_faults(folder: Path) -> list[str]:
    """What differs between the directory and its receipt, a clause each; reads every file."""
    receipt = read_receipt(folder)
    if not receipt.get("files"):
        return [f"{RECEIPT} with hashes of its files is missing: pull or import it again"]
    faults = find_wrong_sizes(folder) or _wrong_hashes(folder, receipt["files"])
    faults += [
        f"{name} is not in {RECEIPT}" for name in _names(folder) if name not in receipt["files"]
    ]
    try:
        found = tokenizer_fingerprint(folder)
    except StartError as error:
        return [*faults, str(error)]
    recorded = receipt.get("tokenizer_fingerprint")
    if found != recorded:
        faults.append(f"the tokenizer's fingerprint is {found}, recorded is {recorded}")
    return faults


def find_wrong_sizes(folder: Path) -> list[str]:
    """The same by the files' sizes alone, which takes no time; nothing without a receipt."""
    faults = []
    for name, record in read_receipt(folder).get("files", {}).items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            faults.append(f"{name} is missing")
            continue
        if size != record["bytes"]:
            faults.append(f"{name} has {size} bytes, recorded are {record['bytes']}")
    return faults


def _wrong_hashes(folder: Path, records: Mapping[str, Any]) -> list[str]:
    found = {name: file_sha256(folder / name) for name in records}
    return [
        f"{name} has SHA-256 {found[name]}, recorded is {record['sha256']}"
        for name, record in records.items()
        if found[name] != record["sha256"]
    ]


def file_sha256(file: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _names(folder: Path) -> list[str]:
    files = (file for file in folder.rglob("*") if not file.is_dir())
    return sorted(str(file.relative_to(folder)) for file in files if file.name != RECEIPT)
