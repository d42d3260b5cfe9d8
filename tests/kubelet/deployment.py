"""A Deployment's controller: pods of one template replaced by those of another, a few at a time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.kubelet.bell import Bell
from tests.kubelet.fields import RefusedError, require_known, require_value
from tests.kubelet.node import Node
from tests.kubelet.pod import Pod
from tests.kubelet.pod_template import PodTemplate

_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_WITHOUT_EFFECT = {"progressDeadlineSeconds", "revisionHistoryLimit"}


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """As rendered."""

    name: str
    replicas: int
    max_surge: int
    max_unavailable: int
    min_ready_seconds: float
    template: Mapping[str, Any]

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> Self:
        """Raises RefusedError."""
        name = item["metadata"]["name"]
        where = f"Deployment {name}"
        spec = item["spec"]
        used = {"replicas", "minReadySeconds", "selector", "strategy", "template"}
        require_known(where, spec, used, _WITHOUT_EFFECT)
        if "replicas" not in spec:
            raise RefusedError(f"{where}: the mini-kubelet scales nothing; render replicas")
        require_value(where, spec["strategy"], "type", "RollingUpdate")
        limits = [
            spec["strategy"]["rollingUpdate"].get(key) for key in ("maxSurge", "maxUnavailable")
        ]
        if not all(isinstance(limit, int) for limit in limits) or sum(limits) < 1:
            raise RefusedError(f"{where}: maxSurge and maxUnavailable are counts, not both 0")
        return cls(
            name=name,
            replicas=spec["replicas"],
            max_surge=limits[0],
            max_unavailable=limits[1],
            min_ready_seconds=spec.get("minReadySeconds", 0.0),
            template=spec["template"],
        )

    def restarted(self, at: str | None) -> Mapping[str, Any]:
        """The template with `kubectl rollout restart`'s annotation, which outlives upgrades."""
        if at is None:
            return self.template
        metadata = self.template["metadata"]
        annotations = {**metadata.get("annotations", {}), _RESTARTED_AT: at}
        return {**self.template, "metadata": {**metadata, "annotations": annotations}}


class Deployment:
    """Its pods, of the template that holds now and of earlier ones."""

    def __init__(self, spec: DeploymentSpec, node: Node) -> None:
        self._node = node
        self._restarted_at: str | None = None
        self._num_made = 0
        self.pods: list[Pod] = []
        """Not yet gone, in the order in which they were made."""
        self.apply(spec)

    @property
    def name(self) -> str:
        """Its name."""
        return self._spec.name

    def apply(self, spec: DeploymentSpec) -> None:
        """Make this what is wanted. Raises RefusedError."""
        self._spec = spec
        self._template = PodTemplate.read(
            f"Deployment {spec.name}", spec.restarted(self._restarted_at)
        )
        self._node.changed()

    def restart(self) -> None:
        """As `kubectl rollout restart`."""
        self._restarted_at = str(time.time_ns())
        self.apply(self._spec)

    async def run(self, bell: Bell) -> None:
        """Bring about what is wanted until cancelled."""
        while True:
            self._reconcile()
            await bell.wait(self._seconds_to_next())

    def is_rolled_out(self) -> bool:
        """As `kubectl rollout status` judges: all wanted pods are new and available, no others are.

        Pods that are on their way out do not count.
        """
        active = self._active()
        new = [pod for pod in active if self._is_new(pod)]
        return len(active) == len(new) == len(self._available(new)) == self._spec.replicas

    def _active(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.is_deleted]

    def _is_new(self, pod: Pod) -> bool:
        return pod.template.revision == self._template.revision

    def _available(self, pods: Sequence[Pod]) -> list[Pod]:
        return [pod for pod in pods if pod.is_available(self._spec.min_ready_seconds)]

    def _seconds_to_next(self) -> float | None:
        """How long until the next pod that is ready counts as available."""
        now, wait = time.monotonic(), self._spec.min_ready_seconds
        waiting = [pod for pod in self._active() if pod not in self._available([pod])]
        due = [pod.ready_since + wait - now for pod in waiting if pod.ready_since is not None]
        return max(min(due), 0.0) if due else None

    def _reconcile(self) -> None:
        self.pods = [pod for pod in self.pods if not pod.is_gone]
        new = [pod for pod in self._active() if self._is_new(pod)]
        for pod in _first_to_go(new)[: max(len(new) - self._spec.replicas, 0)]:
            pod.delete()
        self._grow()
        self._shrink()

    def _grow(self) -> None:
        active = self._active()
        num_new = sum(self._is_new(pod) for pod in active)
        room = self._spec.replicas + self._spec.max_surge - len(active)
        for _ in range(min(room, self._spec.replicas - num_new)):
            self._make_pod()

    def _make_pod(self) -> None:
        self._num_made += 1
        name = f"{self.name}-{self._template.revision}-{self._num_made}"
        pod = Pod(name, self._template, self._node)
        self._node.pods.append(pod)
        self.pods.append(pod)
        self._node.tasks.create_task(pod.run(), name=name)

    def _shrink(self) -> None:
        """Old pods go: first those that serve nobody, then as many as others stand in for."""
        active = self._active()
        old = [pod for pod in active if not self._is_new(pod)]
        new = [pod for pod in active if self._is_new(pod)]
        least = self._spec.replicas - self._spec.max_unavailable
        num_coming = len(new) - len(self._available(new))
        limit = max(len(active) - least - num_coming, 0)
        idle = [pod for pod in _first_to_go(old) if not self._available([pod])][:limit]
        for pod in idle:
            pod.delete()
        serving = [pod for pod in _first_to_go(old) if self._available([pod])]
        num_spare = max(len(self._available(active)) - least, 0) if limit else 0
        for pod in serving[:num_spare]:
            pod.delete()


def _first_to_go(pods: Sequence[Pod]) -> list[Pod]:
    """In the order in which a ReplicaSet lets go: not ready, ready the shortest, the youngest."""
    newest = list(reversed(pods))
    return sorted(newest, key=lambda pod: -(pod.ready_since or float("inf")))
