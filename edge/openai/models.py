"""The models list in OpenAI's form."""

from collections.abc import Sequence

import orjson

from edge.openai.problems import shown
from headrace.client.answers import ServedModel
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_SHOWN_NAME_CHARACTERS = 256


def build_models(models: Sequence[ServedModel]) -> bytes:
    """The answer of GET /v1/models."""
    return orjson.dumps({"object": "list", "data": [_model(model) for model in models]})


def build_model(model: ServedModel) -> bytes:
    """The answer of GET /v1/models/{id}."""
    return orjson.dumps(_model(model))


def find_model(models: Sequence[ServedModel], name: str) -> ServedModel:
    """The model of that name.

    Raises ServiceError: model_not_found, or no_worker_available while no model is known at all.
    """
    for model in models:
        if model.name == name:
            return model
    if not models:
        raise ServiceError(
            errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, "No worker is connected yet."
        )
    raise ServiceError(
        errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
        f"The model `{shown(name, _SHOWN_NAME_CHARACTERS)}` does not exist or you do not have "
        "access to it.",
    )


def _model(model: ServedModel) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "headrace"}
