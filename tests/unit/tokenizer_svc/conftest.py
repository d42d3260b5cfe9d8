"""A small model, trained once."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from headrace.models.directory import ModelDirectory
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.encoding import TextEncoder


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The parsed tokenizer.json."""
    return train_tokenizer()


@pytest.fixture(scope="session")
def tokenizer(document: dict[str, Any]) -> Tokenizer:
    """The same tokenizer, as its library reads it: the oracle."""
    return Tokenizer.from_str(json.dumps(document))


@pytest.fixture(scope="session")
def encoder(document: dict[str, Any]) -> TextEncoder:
    """The same tokenizer, as we use it."""
    return TextEncoder(document)


@pytest.fixture(scope="session")
def model_directory(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> ModelDirectory:
    """A model directory on disk."""
    folder: Path = tmp_path_factory.mktemp("models") / "small"
    return write_model(folder, document)
