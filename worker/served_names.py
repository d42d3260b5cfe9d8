"""Which of a worker's names a caller may choose: pure.

An engine serves its base model and LoRA adapters on it, each under a name of its own; keys admit
names.
"""

from headrace.access.caller import Caller
from headrace.access.refusals import unknown_model
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import ModelInfo

_MOST_NAMED = 20


def admitted_names(info: ModelInfo, caller: Caller) -> tuple[str, ...]:
    """The names that a caller may choose, the base model's first where it is one of them."""
    if caller.models is None:
        return info.served_models
    return tuple(name for name in info.served_models if caller.may_use(name))


def chosen_name(info: ModelInfo, caller: Caller, name: str) -> str:
    """The served name that a caller means by `name`; empty means the first that is admitted.

    Raises ServiceError: model_not_found, which names what is served only to those who may use all.
    """
    admitted = admitted_names(info, caller)
    if name in admitted:
        return name
    if not name and admitted:
        return admitted[0]
    if caller.models is not None:
        raise unknown_model(name or info.model)
    raise ServiceError(
        errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
        f"The model `{name}` is not served here; this worker serves {_listed(admitted)}.",
        "model",
    )


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_MOST_NAMED])
    left = len(names) - _MOST_NAMED
    return f"{shown} and {left} more" if left > 0 else shown
