"""What the Prometheus operator's own definitions have against an object of the chart, strictly.

The models are made from those definitions (CRDs), of operator 0.80.1: fields of v1 are only added,
so what it takes later ones take. They pass over fields that they do not know, and turn values of a
wrong type into right ones where they can: both show when what was read is written again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import ValidationError

from tests.helm.chart import Rendered

CUSTOM_GROUP = "monitoring.coreos.com"
"""Of the kinds that Kubernetes itself does not have."""
_MODELS = {model.gvk().kind: model for model in (PrometheusRule, ServiceMonitor)}


def operators_take_their_objects(rendered: Rendered) -> Iterator[str]:
    """Each object of the Prometheus operator is one by its definitions."""
    for item in rendered.objects:
        complaint = custom_complaint(item) if is_custom(item) else None
        if complaint is not None:
            yield f"{item['kind']} {item['metadata']['name']}: {complaint}"


def is_custom(item: Mapping[str, Any]) -> bool:
    """Whether Kubernetes alone does not know it."""
    return str(item["apiVersion"]).startswith(f"{CUSTOM_GROUP}/")


def custom_complaint(item: Mapping[str, Any]) -> str | None:
    """What is wrong with such an object; None for nothing."""
    if item["kind"] not in _MODELS:
        return "there is no such kind"
    try:
        model = _MODELS[item["kind"]].model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    read = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return next(_differences(dict(item), read, ""), None)


def _differences(given: Any, read: Any, path: str) -> Iterator[str]:
    """What of the object does not come back as it was."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key in given.keys() - read.keys():
            yield f"{path}{key}: there is no such field"
        for key in given.keys() & read.keys():
            yield from _differences(given[key], read[key], f"{path}{key}.")
    elif isinstance(given, list) and isinstance(read, list):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from _differences(one, other, f"{path}{number}.")
    elif (type(given), given) != (type(read), read):
        yield f"{path.rstrip('.')}: {given!r} is taken for {read!r}"
