import json
from pathlib import Path

import pytest

from headrace.models.receipt import RECEIPT, find_faults, read_receipt, write_receipt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    (tmp_path / "weights").write_bytes(b"12345")
    write_receipt(tmp_path, {"source": "here"})
    return tmp_path


def test_an_untouched_directory_has_no_faults(folder: Path) -> None:
    """What was recorded is what is there; the origin is kept."""
    assert find_faults(folder) == []
    assert read_receipt(folder)["source"] == "here"


def test_another_byte_is_found(folder: Path) -> None:
    """A file of the same size and another content is told with both hashes."""
    recorded = read_receipt(folder)["files"]["weights"]["sha256"]
    (folder / "weights").write_bytes(b"12346")

    (fault,) = find_faults(folder)
    assert fault.startswith("weights has SHA-256 ")
    assert fault.endswith(f"recorded is {recorded}")


def test_missing_cut_and_added_files_are_found(folder: Path) -> None:
    """Every file that is gone, of another size or new is named."""
    (folder / "tokenizer.json").unlink()
    (folder / "weights").write_bytes(b"1")
    (folder / "chat_template.jinja").write_text("")

    faults = find_faults(folder)
    assert faults[:3] == [
        "tokenizer.json is missing",
        "weights has 1 bytes, recorded are 5",
        f"chat_template.jinja is not in {RECEIPT}",
    ]
    assert "tokenizer.json is missing" in faults[3]


def test_a_changed_tokenizer_changes_the_fingerprint(folder: Path) -> None:
    """The fingerprint is computed anew, also where the recorded hash was changed as well."""
    recorded = read_receipt(folder)["tokenizer_fingerprint"]
    (folder / "tokenizer.json").write_text('{"a": 2}')
    other = read_receipt(folder) | {"files": {}}
    write_receipt(folder, {})
    other["files"] = read_receipt(folder)["files"]
    (folder / RECEIPT).write_text(json.dumps(other))

    (fault,) = find_faults(folder)
    assert fault.endswith(f"recorded is {recorded}")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": {"bytes": 1}}}'])
def test_a_receipt_of_another_form_is_none(folder: Path, text: str) -> None:
    """Without hashes there is nothing to compare with, which is a fault."""
    (folder / RECEIPT).write_text(text)

    (fault,) = find_faults(folder)
    assert "missing: pull or import it again" in fault
