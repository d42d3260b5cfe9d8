"""What the mini-kubelet does not do it refuses by name, before anything has changed."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.kubelet.cluster import Cluster
from tests.kubelet.fake_objects import IDLE, config_map, deployment, probe, rendered, service
from tests.kubelet.fields import RefusedError

pytestmark = pytest.mark.slow
_Objects = list[dict[str, Any]]


def _spec(objects: _Objects) -> dict[str, Any]:
    return objects[0]["spec"]


def _pod(objects: _Objects) -> dict[str, Any]:
    return _spec(objects)["template"]["spec"]


def _container(objects: _Objects) -> dict[str, Any]:
    return _pod(objects)["containers"][0]


def _variable(objects: _Objects, **fields: Any) -> None:
    _container(objects)["env"] = [{"name": "X", **fields}]


def _volume(objects: _Objects, **fields: Any) -> None:
    _pod(objects)["volumes"].append({"name": "more", **fields})


_BROKEN: dict[str, Callable[[_Objects], object]] = {
    "objects of StatefulSet": lambda o: o.append({"kind": "StatefulSet", "metadata": {}}),
    "does not know paused": lambda o: _spec(o).update(paused=True),
    "render replicas": lambda o: _spec(o).pop("replicas"),
    "type 'RollingUpdate' only, not 'Recreate'": lambda o: _spec(o).update(
        strategy={"type": "Recreate"}
    ),
    "counts, not both 0": lambda o: _spec(o)["strategy"].update(
        rollingUpdate={"maxSurge": 0, "maxUnavailable": 0}
    ),
    "maxSurge and maxUnavailable are counts": lambda o: _spec(o)["strategy"].update(
        rollingUpdate={"maxSurge": "25%", "maxUnavailable": 1}
    ),
    "does not know initContainers": lambda o: _pod(o).update(initContainers=[]),
    "does not know hostNetwork": lambda o: _pod(o).update(hostNetwork=True),
    "enableServiceLinks False only, not None": lambda o: _pod(o).pop("enableServiceLinks"),
    "pods of one container only": lambda o: _pod(o)["containers"].append(_container(o)),
    "does not know envFrom": lambda o: _container(o).update(envFrom=[]),
    "no image's own command": lambda o: _container(o).pop("command"),
    "there is no command curl": lambda o: _container(o).update(command=["curl"]),
    "there is no image of the tag 2": lambda o: _container(o).update(image="fake:2"),
    "images by tag only": lambda o: _container(o).update(image="fake@sha256:00"),
    r"expands no \$\(…\)": lambda o: _container(o).update(args=["$(X)"]),
    "valueFrom .*only": lambda o: _variable(o, valueFrom={"secretKeyRef": {}}),
    "the whole machine's address": lambda o: _variable(o, value="0.0.0.0"),  # noqa: S104 (refused)
    "does not know protocol": lambda o: _container(o)["ports"][0].update(protocol="UDP"),
    "does not know subPath": lambda o: _container(o)["volumeMounts"][0].update(subPath="x"),
    "nothing declares the volume switches": lambda o: _pod(o).update(volumes=[]),
    "does not know volumes of persistentVolumeClaim": lambda o: _volume(
        o, persistentVolumeClaim={"claimName": "x"}
    ),
    "configMap: the mini-kubelet does not know items": lambda o: _volume(
        o, configMap={"name": "there", "items": []}
    ),
    "there is no configMap missing": lambda o: _volume(o, configMap={"name": "missing"}),
    "there is no secret missing": lambda o: _volume(o, secret={"secretName": "missing"}),
    "there is no hostPath /elsewhere": lambda o: _volume(o, hostPath={"path": "/elsewhere"}),
    "does not know postStart": lambda o: _container(o).update(lifecycle={"postStart": {}}),
    "preStop: the mini-kubelet does not know exec": lambda o: _container(o).update(
        lifecycle={"preStop": {"exec": {}}}
    ),
    "livenessProbe: the mini-kubelet does not know httpGet": lambda o: _container(o).update(
        livenessProbe={"httpGet": {"port": 1}}
    ),
    "knows grpc probes only": lambda o: _container(o).update(livenessProbe={"periodSeconds": 1}),
    "grpc: the mini-kubelet does not know mode": lambda o: _container(o).update(
        readinessProbe={"grpc": {**probe("")["grpc"], "mode": "TLS"}}
    ),
    "no type LoadBalancer": lambda o: o[1]["spec"].update(type="LoadBalancer"),
    "does not know publishNotReadyAddresses": lambda o: o[1]["spec"].update(
        publishNotReadyAddresses=True
    ),
}
"""Changes to a good rendering, by what is said of them."""


@pytest.mark.parametrize("said", _BROKEN)
async def test_refusals(cluster: Cluster, said: str) -> None:
    """Each is refused by its name, and nothing is started."""
    objects = [deployment(IDLE), service(), config_map("there")]
    _BROKEN[said](objects)
    async with cluster:
        with pytest.raises(RefusedError, match=said):
            await cluster.apply(rendered(*objects))
        pods = cluster.pods()

    assert [] == list(pods)
    assert [] == list(cluster.events)


async def test_without_effect(cluster: Cluster) -> None:
    """Hooks, policies and accounts may be there."""
    kinds = ("NetworkPolicy", "PodDisruptionBudget", "ServiceAccount")
    objects = [{"kind": kind, "metadata": {"name": "x"}} for kind in kinds]
    hook = {"kind": "Pod", "metadata": {"name": "x", "annotations": {"helm.sh/hook": "test"}}}
    async with cluster:
        await cluster.apply(rendered(*objects, hook))
        pods = cluster.pods()

    assert [] == list(pods)
