"""An Ingress lets streams pass: unbuffered, and as long as a request may take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.settings import EdgeSettings
from tests.helm.chart import Object, Rendered, render, smallest

PREFIX = "nginx.ingress.kubernetes.io"


def ingress(folder: Path, settings: dict[str, Any], **more: Any) -> Object:
    """The Ingress of an edge with these settings."""
    group = {"enabled": True, "hosts": ["a.test", "b.test"], **more}
    edge = {"insecure": True, "ingress": group, "settings": settings}
    [found] = render(smallest(edge=edge), folder).of("Ingress")
    return found


def test_by_default_as_long_as_the_settings_are(rendered: Callable[[str], Rendered]) -> None:
    """What the chart says for settings that nobody made is their real default."""
    [found] = rendered("eight-h100").of("Ingress")
    notes, defaults = found["metadata"]["annotations"], EdgeSettings()

    assert notes == {
        f"{PREFIX}/proxy-buffering": "off",
        f"{PREFIX}/proxy-request-buffering": "off",
        f"{PREFIX}/proxy-http-version": "1.1",
        f"{PREFIX}/proxy-read-timeout": f"{defaults.backend.request_timeout_seconds:.0f}",
        f"{PREFIX}/proxy-send-timeout": f"{defaults.backend.request_timeout_seconds:.0f}",
        f"{PREFIX}/proxy-body-size": str(defaults.server.max_body_bytes),
    }


def test_follows_the_settings(tmp_path: Path) -> None:
    """Rounded up, since nginx knows whole seconds; the user's annotations win."""
    settings = {
        "backend": {"request_timeout_seconds": 1800.5},
        "server": {"max_body_bytes": 33554432},
    }
    annotations = {f"{PREFIX}/proxy-send-timeout": "60", "a": "b"}

    found = ingress(tmp_path, settings, annotations=annotations)

    notes = found["metadata"]["annotations"]
    assert notes[f"{PREFIX}/proxy-read-timeout"] == "1801"
    assert notes[f"{PREFIX}/proxy-send-timeout"] == "60"
    assert notes[f"{PREFIX}/proxy-body-size"] == "33554432"
    assert notes["a"] == "b"
    assert [rule["host"] for rule in found["spec"]["rules"]] == ["a.test", "b.test"]


def test_what_is_null_is_as_by_default(tmp_path: Path) -> None:
    """For nginx as for the edge: nothing would time out at once."""
    settings = {"backend": {"request_timeout_seconds": None}, "server": {"max_body_bytes": None}}
    notes, defaults = ingress(tmp_path, settings)["metadata"]["annotations"], EdgeSettings()

    seconds = f"{defaults.backend.request_timeout_seconds:.0f}"
    assert notes[f"{PREFIX}/proxy-read-timeout"] == seconds
    assert notes[f"{PREFIX}/proxy-body-size"] == str(defaults.server.max_body_bytes)


def test_other_controllers_are_told_nothing(tmp_path: Path) -> None:
    """Their annotations are the user's."""
    assert "annotations" not in ingress(tmp_path, {}, controller="other")["metadata"]
