"""Objects of the API stand-in: in memory, checked as by Kubernetes, at once as they should be.

It stands in for a cluster, and is none: nothing is scheduled, defaulted, admitted or authorised.
"""

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import kubernetes_validate

from tests.helm.custom_objects import custom_complaint, is_custom

KUBERNETES = "1.34"
_CORE = "ConfigMap Secret Service ServiceAccount Pod PersistentVolumeClaim Event Endpoints"
_GROUPS = {
    "v1": _CORE,
    "apps/v1": "Deployment ReplicaSet StatefulSet DaemonSet",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "monitoring.coreos.com/v1": "ServiceMonitor PrometheusRule",
    "networking.k8s.io/v1": "Ingress NetworkPolicy",
    "policy/v1": "PodDisruptionBudget",
}


def plural(kind: str) -> str:
    """As it stands in addresses."""
    name = kind.lower()
    if name.endswith(("s", "ss")):
        return name if name == "endpoints" else f"{name}es"
    return f"{name[:-1]}ies" if name.endswith("cy") else f"{name}s"


KINDS: Mapping[str, Mapping[str, str]] = {
    version: {plural(kind): kind for kind in kinds.split()} for version, kinds in _GROUPS.items()
}
"""Kinds by plural, by apiVersion; all have namespaces."""

Key = tuple[str, str, str]
"""Namespace, plural, name."""


class RefusedError(Exception):
    """The API would refuse it: a code, a reason, a message."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


@dataclass
class Objects:
    """All objects; `events` wakes whoever watches."""

    test_phase: str = "Succeeded"
    """How a pod ends that runs once."""
    objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    history: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """What has happened: ADDED, MODIFIED or DELETED, the plural, the object then."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, key: Key, item: dict[str, Any], *, is_new: bool) -> dict[str, Any]:
        """Create or replace an object. Raises RefusedError."""
        before = self.objects.get(key)
        if is_new and before is not None:
            raise RefusedError(409, "AlreadyExists", f'{key[1]} "{key[2]}" already exists')
        _check(item, before)
        kept = self._completed(copy.deepcopy(item), before)
        self.objects[key] = kept
        await self._tell("ADDED" if before is None else "MODIFIED", key[1], kept)
        return kept

    async def delete(self, key: Key) -> dict[str, Any]:
        """Remove an object. Raises RefusedError."""
        item = self.get(key)
        del self.objects[key]
        await self._tell("DELETED", key[1], item)
        return item

    def get(self, key: Key) -> dict[str, Any]:
        """One object. Raises RefusedError."""
        if key not in self.objects:
            raise RefusedError(404, "NotFound", f'{key[1]} "{key[2]}" not found')
        return self.objects[key]

    def listed(self, namespace: str, kind: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """All of a kind in a namespace that have the labels."""
        return [
            item
            for (space, name, _), item in self.objects.items()
            if (space, name) == (namespace, kind)
            and labels.items() <= item["metadata"].get("labels", {}).items()
        ]

    async def _tell(self, event: str, kind: str, item: dict[str, Any]) -> None:
        async with self.changed:
            self.history.append((event, kind, item))
            self.changed.notify_all()

    def _completed(self, item: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
        """With what the server adds, and the status that all is well."""
        metadata = item["metadata"]
        earlier = before["metadata"] if before else {}
        is_same = before is not None and before.get("spec") == item.get("spec")
        metadata["uid"] = earlier.get("uid", f"uid-{len(self.history)}")
        metadata["generation"] = earlier.get("generation", 0) + (0 if is_same else 1)
        metadata["resourceVersion"] = str(len(self.history) + 1)
        metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
        item["status"] = self._status(item, metadata["generation"])
        return item

    def _status(self, item: Mapping[str, Any], generation: int) -> dict[str, Any]:
        match item["kind"]:
            case "Deployment":
                pods = item["spec"].get("replicas", 1)
                names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
                conditions = [
                    {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
                    {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
                ]
                counts = dict.fromkeys(names, pods)
                return {"observedGeneration": generation, "conditions": conditions, **counts}
            case "PodDisruptionBudget":
                return {"observedGeneration": generation, "currentHealthy": 2, "desiredHealthy": 1}
            case "Pod":
                return {"phase": self.test_phase}
            case "PersistentVolumeClaim":
                return {"phase": "Bound"}
            case _:
                return {}


def _complaint(item: Mapping[str, Any]) -> str | None:
    """What Kubernetes has against one of its own."""
    try:
        kubernetes_validate.validate(dict(item), KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        message: str = error.message
        return message
    return None


def _check(item: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    complaint = custom_complaint(item) if is_custom(item) else _complaint(item)
    if complaint is not None:
        raise RefusedError(400, "BadRequest", f"strict decoding error: {complaint}")
    is_deployment = before is not None and item["kind"] == "Deployment"
    if is_deployment and before["spec"]["selector"] != item["spec"]["selector"]:
        raise RefusedError(422, "Invalid", "spec.selector: field is immutable")
