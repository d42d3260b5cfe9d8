"""How objects of a rendered chart belong together."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from tests.helm.chart import Object, Rendered

POLICED = ("edge", "tokenizer", "worker")
"""Components whose pods take calls."""
_TABLES_OF_TEXTS = frozenset({"labels", "annotations", "matchLabels", "nodeSelector"})
_TEXTS = frozenset(
    {
        *("name", "namespace", "host", "claimName", "secretName", "subPath", "path"),
        *("serviceAccountName", "priorityClassName", "runtimeClassName", "ingressClassName"),
    }
)


def is_selected(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector of plain labels finds them."""
    return bool(selector) and selector.items() <= labels.items()


def selected_pods(rendered: Rendered, selector: Mapping[str, str]) -> list[Object]:
    """The pods that have the labels."""
    return [
        pod
        for _, pod in rendered.pods()
        if is_selected(selector, pod["metadata"].get("labels", {}))
    ]


def main_container(pod: Object) -> Object:
    """The one that serves."""
    [container] = pod["spec"]["containers"]
    return container


def port_numbers(pod: Object) -> dict[str, int]:
    """A pod's ports by name."""
    return {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    }


def config_of(rendered: Rendered, pod: Object) -> Mapping[str, Any]:
    """The whole headrace.toml that a pod mounts."""
    return tomllib.loads(config_text(rendered, pod))


def config_text(rendered: Rendered, pod: Object) -> str:
    """The same as text."""
    [volume] = [item for item in pod["spec"]["volumes"] if item["name"] == "config"]
    text: str = rendered.named("ConfigMap", volume["configMap"]["name"])["data"]["headrace.toml"]
    return text


def own_table(rendered: Rendered, pod: Object) -> Mapping[str, Any]:
    """The table of the pod's service."""
    table: Mapping[str, Any] = config_of(rendered, pod)[component(pod)]
    return table


def component(item: Object) -> str:
    """The component to which an object belongs."""
    name: str = item["metadata"]["labels"]["app.kubernetes.io/component"]
    return name


def deployments(rendered: Rendered) -> Iterator[tuple[str, Object, Object]]:
    """Name, whole object, and pod of each."""
    for item in rendered.of("Deployment"):
        yield item["metadata"]["name"], item, item["spec"]["template"]


def scaled(rendered: Rendered) -> Mapping[str, Object]:
    """Autoscalers by the name of what they scale."""
    return {
        item["spec"]["scaleTargetRef"]["name"]: item
        for item in rendered.of("HorizontalPodAutoscaler")
    }


def strings(value: object) -> Iterator[str]:
    """Every string within nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def is_derived(variable: str) -> bool:
    """Whether the chart itself sets a variable."""
    return variable.startswith("HEADRACE_")


def named_texts(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Whatever in an object must be a text, or is a table of texts, by its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in _TABLES_OF_TEXTS and isinstance(item, Mapping):
                yield from ((f"{path}.{key}.{name}", text) for name, text in item.items())
            elif key in _TEXTS and not isinstance(item, Mapping):
                yield f"{path}.{key}", item
            yield from named_texts(item, f"{path}.{key}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from named_texts(item, f"{path}.{number}")
