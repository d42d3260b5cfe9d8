"""Renderings of small pods, for tests of the mini-kubelet itself.

Their times are fractions of seconds, which Kubernetes would refuse and the mini-kubelet takes.
"""

from collections.abc import Mapping
from typing import Any

from tests.helm.chart import Object, Rendered

PORT = 7000
SWITCHES = "/switches"
"""The folder in whose files the fake service finds what it does not serve."""
IDLE = ["python", "-c", "import signal; print('{}', flush=True); signal.pause()"]
"""A container that logs a line and waits for any signal, by which it is ended."""
_ADDRESS = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
_ROLLING: Mapping[str, Any] = {"maxSurge": 1, "maxUnavailable": 0}


def fake_service(*options: str) -> list[str]:
    """The command of a fake service at the pod's own address."""
    module = "tests.kubelet.fake_service"
    program = (
        "import os, runpy, sys; sys.argv[1:1] = [os.environ['ADDRESS']]; "
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    return ["python", "-c", program, str(PORT), SWITCHES, *options]


def probe(service: str, **fields: Any) -> dict[str, Any]:
    """A gRPC probe, many times a second; a start may take many more."""
    asked = {"port": PORT, "service": service}
    often = {"periodSeconds": 0.05, "timeoutSeconds": 0.5, "failureThreshold": 2}
    return {"grpc": asked, **often, **fields}


def deployment(
    command: list[str],
    *,
    name: str = "web",
    replicas: int = 1,
    rolling: Mapping[str, Any] = _ROLLING,
    min_ready: float = 0.0,
    pod: Mapping[str, Any] | None = None,
    **container: Any,
) -> dict[str, Any]:
    """One Deployment; `pod` and `container` are laid over the pod's and its container's spec."""
    labels = {"app": name, "app.kubernetes.io/component": name}
    own = {
        "name": name,
        "image": "fake:1",
        "command": command,
        "env": [_ADDRESS],
        "ports": [{"name": "main", "containerPort": PORT}],
        "volumeMounts": [{"name": "switches", "mountPath": SWITCHES}],
        **container,
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "containers": [own],
        "volumes": [{"name": "switches", "hostPath": {"path": SWITCHES}}],
        **(pod or {}),
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "test"},
        "spec": {
            "replicas": replicas,
            "minReadySeconds": min_ready,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": dict(rolling)},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    """The headless Service of a Deployment's pods."""
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "test"},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": name},
            "ports": [{"name": "main", "port": PORT, "targetPort": "main"}],
            **spec,
        },
    }


def config_map(name: str, **files: str) -> dict[str, Any]:
    """One ConfigMap; of `a_b` becomes the file `a.b`."""
    data = {file.replace("_", "."): content for file, content in files.items()}
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": "test"}, "data": data}


def rendered(*objects: Object) -> Rendered:
    """All of a release."""
    return Rendered(objects)
