"""The models that can be asked for, by their own names and by aliases, and their list as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from edge.openai.alias import Alias
from edge.openai.problems import shown
from headrace.access.caller import Caller
from headrace.client.answers import ServedModel
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

ANY_NAME = "*"
_SHOWN_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model under the name that was asked for."""

    name: str
    model: ServedModel


class ModelCatalog:
    """Names of models: an alias goes before a model's own name, `*` is what nobody else is."""

    def __init__(self, aliases: Mapping[str, Alias]) -> None:
        self._aliases = {name: alias for name, alias in aliases.items() if name != ANY_NAME}
        self._any = aliases.get(ANY_NAME)

    def alias_of(self, name: object, models: Sequence[ServedModel]) -> Alias | None:
        """The alias that `name` falls under; None for a model's plain name, and for nobody's."""
        if not isinstance(name, str):
            return None
        alias = self._aliases.get(name)
        if alias is None and not any(model.name == name for model in models):
            return self._any
        return alias

    def find(self, name: str, models: Sequence[ServedModel], caller: Caller) -> ServedModel:
        """The model that answers for `name`.

        Raises ServiceError: model_not_found, also for one that the caller may not use, or
        no_worker_available while no model is known at all.
        """
        alias = self.alias_of(name, models)
        target = name if alias is None else alias.model
        if not (caller.may_use(name) or caller.may_use(target)):
            raise _unknown_model(name)
        for model in models:
            if model.name == target:
                return model
        if not models:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, "No worker is connected yet."
            )
        raise _unknown_model(name)

    def list(self, models: Sequence[ServedModel], caller: Caller) -> list[FoundModel]:
        """What a caller may ask for: models and the aliases of those that are served, by name."""
        by_name = {model.name: model for model in models}
        targets = {name: name for name in by_name}
        targets.update({name: alias.model for name, alias in self._aliases.items()})
        return [
            FoundModel(name, by_name[target])
            for name, target in sorted(targets.items())
            if target in by_name and (caller.may_use(name) or caller.may_use(target))
        ]


def build_models(models: Sequence[FoundModel]) -> bytes:
    """The answer of GET /v1/models."""
    return orjson.dumps({"object": "list", "data": [_model(model) for model in models]})


def build_model(model: FoundModel) -> bytes:
    """The answer of GET /v1/models/{id}."""
    return orjson.dumps(_model(model))


def _unknown_model(name: str) -> ServiceError:
    return ServiceError(
        errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
        f"The model `{shown(name, _SHOWN_NAME_CHARACTERS)}` does not exist or you do not have "
        "access to it.",
    )


def _model(found: FoundModel) -> dict[str, object]:
    return {
        "id": found.name,
        "object": "model",
        "created": found.model.created,
        "owned_by": "headrace",
    }
