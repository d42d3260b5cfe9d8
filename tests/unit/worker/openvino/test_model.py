"""What an engine says of itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from headrace.models.directory import ModelDirectory
from tests.support.models import fake_model
from worker.engine.openvino.model import HONOURED_FIELDS, system_fingerprint
from worker.request_mapping import OPTIONAL_FIELDS


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    """A model directory with 3 MiB of weights."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "openvino_model.bin").write_bytes(bytes(3 << 20))
    return replace(fake_model(), path=tmp_path)


def test_the_fingerprint_is_repeatable(directory: ModelDirectory) -> None:
    """The same files give the same fingerprint, which names engine and numerics."""
    fingerprint = system_fingerprint(directory, "fast")

    assert fingerprint == system_fingerprint(directory, "fast")
    assert fingerprint.startswith("openvino-")
    assert "-fast-" in fingerprint


@pytest.mark.parametrize("place", [0, (3 << 20) - 1])
def test_other_weights_have_another_fingerprint(directory: ModelDirectory, place: int) -> None:
    """A byte at either end, or another size, is seen."""
    before = system_fingerprint(directory, "fast")
    weights = bytearray(3 << 20)
    weights[place] = 1
    (directory.path / "openvino_model.bin").write_bytes(weights)
    changed = system_fingerprint(directory, "fast")
    (directory.path / "openvino_model.bin").write_bytes(bytes((3 << 20) + 1))

    assert len({before, changed, system_fingerprint(directory, "fast")}) == 3


@pytest.mark.wire("E14")
def test_config_tokenizer_and_numerics_each_change_the_fingerprint(
    directory: ModelDirectory,
) -> None:
    """Whatever may change the text is part of it."""
    prints = {system_fingerprint(directory, numerics) for numerics in ("fast", "reproducible")}
    prints.add(system_fingerprint(replace(directory, tokenizer_fingerprint="0" * 32), "fast"))
    (directory.path / "config.json").write_text('{"rope_theta": 1}')
    prints.add(system_fingerprint(directory, "fast"))

    assert len(prints) == 4


def test_honoured_fields_are_fields() -> None:
    """Every name is one that the mapping knows, so that none is honoured by a misspelling."""
    assert set(OPTIONAL_FIELDS) >= HONOURED_FIELDS
