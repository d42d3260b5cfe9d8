"""The chart is well-formed for both Helms, and Kubernetes' own schemas take what it renders."""

from pathlib import Path

import kubernetes_validate
import pytest

from tests.helm.chart import CHART, EXAMPLES, HELMS, KUBERNETES, Object, helm, render
from tests.helm.scenes import SCENES

FOREIGN = {"ServiceMonitor", "PrometheusRule"}
"""Kinds that Kubernetes itself does not have."""

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

    own = [item for item in objects if item["kind"] not in FOREIGN]
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
