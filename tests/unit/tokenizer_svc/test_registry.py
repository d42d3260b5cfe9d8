"""Which output format each model has, and what stops the start."""

from pathlib import Path
from typing import Any

import pytest

from headrace.models.settings import ModelsSettings
from headrace.runtime.errors import StartError
from tests.support.tokenizer_models import TEMPLATE, write_model
from tokenizer_svc.main import load_models
from tokenizer_svc.settings import TokenizerSettings

HERMES = TEMPLATE + "{# <tool_call> #}"


def _settings(folder: Path, **formats: str) -> TokenizerSettings:
    return TokenizerSettings(models=(str(folder),), output_formats=formats)


def test_the_format_is_found_out(tmp_path: Path, document: dict[str, Any]) -> None:
    """The template says it, and answers are text all the same unless another is asked for."""
    write_model(tmp_path / "m", document, template=HERMES)
    model = load_models(_settings(tmp_path / "m"), ModelsSettings()).find("m")

    assert model.output_format == "hermes"
    assert model.decoder().output_format == "text"


def test_the_template_for_tools_tells_the_format_too(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    """Models with several templates write calls in that one only."""
    write_model(tmp_path / "m", document, more_templates={"tool_use": HERMES, "rag": "</think>"})
    model = load_models(_settings(tmp_path / "m"), ModelsSettings()).find("m")

    assert model.output_format == "hermes"


def test_a_template_for_tools_that_cannot_be_compiled_stops_the_start(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    """Else it would be found out with the first request that has tools."""
    write_model(tmp_path / "m", document, more_templates={"tool_use": "{% for %}"})

    with pytest.raises(StartError, match="cannot be compiled"):
        load_models(_settings(tmp_path / "m"), ModelsSettings())


def test_a_model_without_template_writes_text(tmp_path: Path, document: dict[str, Any]) -> None:
    """Nothing is known of it."""
    write_model(tmp_path / "m", document, template=None)
    model = load_models(_settings(tmp_path / "m"), ModelsSettings()).find("m")

    assert model.output_format == "text"


def test_the_setting_is_stronger(tmp_path: Path, document: dict[str, Any]) -> None:
    """What is configured for a model counts."""
    write_model(tmp_path / "m", document, template=HERMES)
    settings = _settings(tmp_path / "m", m="qwen3+mistral")

    assert load_models(settings, ModelsSettings()).find("m").output_format == "qwen3+mistral"


@pytest.mark.parametrize(
    ("formats", "part"), [({"m": "hermse"}, "`hermse`"), ({"n": "hermes"}, r"\['n'\]")]
)
def test_what_is_not_known_stops_the_start(
    tmp_path: Path, document: dict[str, Any], formats: dict[str, str], part: str
) -> None:
    """A format or a model of that name must be there."""
    write_model(tmp_path / "m", document)

    with pytest.raises(StartError, match=part):
        load_models(_settings(tmp_path / "m", **formats), ModelsSettings())
