"""Names of models: aliases, the alias of every name, and who may see which."""

import dataclasses
import json

import pytest

from edge.openai.alias import Alias
from edge.openai.models import FoundModel, ModelCatalog, build_models
from headrace.access.caller import ANYBODY, Caller
from headrace.rpc.errors import ServiceError
from tests.support.fake_backend import MODEL

OTHER = dataclasses.replace(MODEL, name="other")
MODELS = (MODEL, OTHER)
ALIASES = {
    "llama-3.1-8b": Alias(model=MODEL.name, profile="polargrid"),
    "gone": Alias(model="not served"),
    "other": Alias(model=MODEL.name),
}
CATALOG = ModelCatalog(ALIASES)
OPEN = ModelCatalog({**ALIASES, "*": Alias(model=OTHER.name)})


def code_of(error: ServiceError) -> str | None:
    return error.row.openai_code


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (MODEL.name, MODEL),
        ("llama-3.1-8b", MODEL),
        ("other", MODEL),  # an alias goes before a model's own name
    ],
)
def test_find(name: str, found: object) -> None:
    """A model is found by its own name and by its aliases."""
    assert found is CATALOG.find(name, MODELS, ANYBODY)


@pytest.mark.parametrize("name", ["nobody", "gone", "*", ""])
def test_unknown(name: str) -> None:
    """A name that leads to no served model is OpenAI's 404, with a null param."""
    with pytest.raises(ServiceError) as caught:
        CATALOG.find(name, MODELS, ANYBODY)

    assert (404, None) == (caught.value.row.http_status, caught.value.param)
    assert caught.value.message == (
        f"The model `{name}` does not exist or you do not have access to it."
    )


def test_nothing_is_served() -> None:
    """While there is no model at all the caller is told to come back."""
    with pytest.raises(ServiceError) as caught:
        OPEN.find("anything", (), ANYBODY)

    assert 503 == caught.value.row.http_status


def test_any_name() -> None:
    """`*` stands for the names that are nobody's, and only for them."""
    assert OTHER is OPEN.find("<string>", MODELS, ANYBODY)
    assert MODEL is OPEN.find("llama-3.1-8b", MODELS, ANYBODY)
    assert MODEL is OPEN.find(MODEL.name, MODELS, ANYBODY)


@pytest.mark.parametrize("name", [None, 1, ["a"], {}])
def test_no_name(name: object) -> None:
    """What is no string has no alias."""
    assert None is OPEN.alias_of(name, MODELS)


def test_list() -> None:
    """Models and the aliases of served ones are listed, once each and by name; `*` is none."""
    listed = OPEN.list(MODELS, ANYBODY)

    assert ["llama-3.1-8b", "other", MODEL.name] == [found.name for found in listed]
    document = json.loads(build_models(listed))
    assert "list" == document["object"]
    assert {
        "id": "llama-3.1-8b",
        "object": "model",
        "created": MODEL.created,
        "owned_by": "headrace",
    } == document["data"][0]


@pytest.mark.parametrize("allowed", ["llama-3.1-8b", MODEL.name])
def test_models_of_a_key(allowed: str) -> None:
    """A key that names models finds and sees these alone, be they named as model or as alias."""
    caller = Caller(models=frozenset([allowed]))
    catalog = ModelCatalog({"llama-3.1-8b": Alias(model=MODEL.name)})

    assert MODEL is catalog.find("llama-3.1-8b", MODELS, caller)
    assert FoundModel("llama-3.1-8b", MODEL) in catalog.list(MODELS, caller)
    with pytest.raises(ServiceError) as caught:
        catalog.find("other", MODELS, caller)
    assert "model_not_found" == code_of(caught.value)
    assert "other" not in [found.name for found in catalog.list(MODELS, caller)]
