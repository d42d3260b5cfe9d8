"""The chart is well-formed for both Helms, and Kubernetes' own schemas take what it renders."""

from pathlib import Path

import kubernetes_validate
import pytest

from tests.helm.chart import CHART, EXAMPLES, HELMS, KUBERNETES, Object, helm, render
from tests.helm.custom_objects import custom_complaint, is_custom
from tests.helm.scenes import SCENES

each_scene = pytest.mark.parametrize("scene", SCENES)


def complaint(item: Object, version: str) -> str | None:
    """What Kubernetes has against it, strictly: unknown fields too."""
    try:
        kubernetes_validate.validate(dict(item), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{item['kind']} {item['metadata']['name']}: {error.message}"
    return None


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("values", EXAMPLES, ids=lambda file: file.stem)
def test_lint(values: Path, version: str) -> None:
    """Helm 3 and 4 find nothing, not even to warn of."""
    assert "0 chart(s) failed" in helm(
        "lint", "--strict", CHART, "--values", values, version=version
    )


@pytest.mark.parametrize("version", HELMS)
def test_lint_without_values(version: str) -> None:
    """So with the chart's own values alone."""
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, version=version)


@each_scene
@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_kubernetes_takes_it(scene: str, kubernetes: str, tmp_path: Path) -> None:
    """Every object is valid for every version of Kubernetes."""
    objects = render(SCENES[scene], tmp_path, kubernetes=kubernetes).objects

    own = [item for item in objects if not is_custom(item)]
    assert len(own) > 8
    assert [text for item in own if (text := complaint(item, kubernetes))] == []


@each_scene
def test_both_helms_render_the_same(scene: str, tmp_path: Path) -> None:
    """Object for object."""
    three, four = (render(SCENES[scene], tmp_path, version=version) for version in HELMS)

    assert three.objects == four.objects


def test_what_kubernetes_does_not_know_is_noticed(tmp_path: Path) -> None:
    """The validation bites: a field that is not there, and one of a wrong type."""
    deployment = render(SCENES["smallest"], tmp_path).named("Deployment", "headrace-edge")
    assert complaint(deployment, KUBERNETES[0]) is None

    deployment["spec"]["template"]["spec"]["runtimeKlass"] = "nvidia"
    assert "runtimeKlass" in (complaint(deployment, KUBERNETES[0]) or "")
    del deployment["spec"]["template"]["spec"]["runtimeKlass"]
    deployment["spec"]["replicas"] = "two"
    assert "two" in (complaint(deployment, KUBERNETES[0]) or "")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("kind", "ServiceMonitors", "there is no such kind"),
        ("apiVersion", "monitoring.coreos.com/v2", "apiVersion: Input should be"),
        ("spec", {"selector": {}}, "spec.endpoints: Field required"),
        ("endpoints", [{"port": 8081}], "spec.endpoints.0.port: Input should be a valid string"),
        ("endpoints", [{"interval": "15 s"}], "spec.endpoints.0.interval: String should match"),
        ("endpoints", [{"honorLabels": "no"}], "spec.endpoints.0.honorLabels: 'no' is taken for"),
        ("endpoints", [{"Path": "/metrics"}], "spec.endpoints.0.Path: there is no such field"),
        ("labels", {}, "spec.labels: there is no such field"),
    ],
)
def test_what_the_operator_does_not_know_is_noticed(field: str, value: object, told: str) -> None:
    """So does that of custom objects, where the models alone would pass over it."""
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "edge", "labels": {"a": "b"}},
        "spec": {"selector": {}, "endpoints": [{"port": "health"}]},
    }
    assert custom_complaint(monitor) is None

    part = monitor if field in monitor else monitor["spec"]
    assert isinstance(part, dict)
    part[field] = value
    assert (custom_complaint(monitor) or "").startswith(told)
