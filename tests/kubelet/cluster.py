"""A cluster of one node that runs what the chart renders as local processes; see the README."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.helm.chart import Rendered
from tests.kubelet.bell import Bell
from tests.kubelet.deployment import Deployment, DeploymentSpec
from tests.kubelet.endpoints import Endpoints, ServiceSpec
from tests.kubelet.events import EventLog
from tests.kubelet.fields import RefusedError
from tests.kubelet.node import Host, Node, Timing
from tests.kubelet.pod import Pod
from tests.kubelet.pod_template import PodTemplate

_USED = {"ConfigMap", "Deployment", "Service"}
_WITHOUT_EFFECT = {"NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"}
_HOOK = "helm.sh/hook"
_END_SECONDS = 30.0
_LOOK_SECONDS = 0.05


class Cluster:
    """Entered on the main thread; on leaving all pods are ended in order, after an error by force.

    `folder` is empty and takes all files. An error of a controller's own ends the block.
    """

    def __init__(
        self,
        folder: Path,
        images: Mapping[str, Path],
        *,
        host_paths: Mapping[str, Path] | None = None,
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        timing: Timing | None = None,
    ) -> None:
        host = Host(images, host_paths or {}, secrets or {})
        self._bell = Bell()
        self._node = Node(folder, host, timing or Timing(), self._changed)
        self._deployments: dict[str, Deployment] = {}
        self._controllers: dict[str, asyncio.Task[None]] = {}
        self._services: dict[str, Endpoints] = {}
        self._publish_names()

    @property
    def events(self) -> EventLog:
        """What happened."""
        return self._node.events

    @property
    def all_pods(self) -> Sequence[Pod]:
        """All that there ever were, in the order in which they were made."""
        return tuple(self._node.pods)

    async def __aenter__(self) -> Self:
        await self._node.tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self._end()
        finally:
            for task in self._controllers.values():
                task.cancel()
            for pod in self.all_pods:
                await pod.destroy()
            for service in self._services.values():
                service.close()
            self._node.addresses.release()
            # No pod is left: the group has nothing to be cancelled for, and the block's own error
            # is told as it is. A cancellation may be the group's own, of an error in a controller.
            if isinstance(error, asyncio.CancelledError):
                await self._node.tasks.__aexit__(kind, error, trace)
            else:
                await self._node.tasks.__aexit__(None, None, None)

    async def apply(self, rendered: Rendered) -> None:
        """Make this what is wanted, as `helm upgrade` does; controllers bring it about from now on.

        Files of ConfigMaps change in running pods too (in Kubernetes within a minute or so).
        Raises RefusedError, and then nothing has changed.
        """
        for item in rendered.objects:
            if item["kind"] not in _USED | _WITHOUT_EFFECT and not _is_hook(item):
                raise RefusedError(f"the mini-kubelet does not know objects of {item['kind']}")
        deployments = [DeploymentSpec.read(item) for item in rendered.of("Deployment")]
        services = [ServiceSpec.read(item) for item in rendered.of("Service")]
        config_maps = {item["metadata"]["name"]: item["data"] for item in rendered.of("ConfigMap")}
        for spec in deployments:
            self._node.check(PodTemplate.read(spec.name, spec.template), config_maps)
        self._node.config_maps = config_maps
        for pod in self.pods():
            pod.fill_volumes()
        self._apply_services(services)
        self._apply_deployments(deployments)

    async def restart(self, name: str) -> None:
        """As `kubectl rollout restart deployment`."""
        self._deployments[name].restart()

    async def rolled_out(self, name: str | None = None, seconds: float = 180.0) -> None:
        """Wait for a Deployment, or all, as `kubectl rollout status` does.

        Fails with what stands in the way when the time is over.
        """
        found = [self._deployments[name]] if name else list(self._deployments.values())

        def holds() -> bool:
            return all(deployment.is_rolled_out() for deployment in found)

        await self.until(holds, f"{name or 'everything'} is rolled out", seconds)

    async def until(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait for what pods, endpoints or logs show; fails with the state of all pods."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not holds():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                states = "\n".join(pod.describe() for pod in self.pods())
                raise AssertionError(f"{what}: not within {seconds:g} s\n{states}")
            # Logs and the passing of time ring no bell.
            await self._bell.wait(min(left, _LOOK_SECONDS))

    def pods(self, component: str | None = None) -> Sequence[Pod]:
        """Those not yet gone of one component (edge, tokenizer, worker), or all, oldest first."""
        return [
            pod for pod in self._node.pods if not pod.is_gone and component in (None, pod.component)
        ]

    def endpoints(self, service: str) -> Sequence[str]:
        """ip:port of each pod that the Service (by its first port) leads to now, oldest first."""
        return self._services[service].addresses

    def require_clean_logs(self) -> None:
        """Fail when any pod ever logged an error or a traceback."""
        for pod in self.all_pods:
            pod.require_clean_log()

    def _apply_services(self, specs: Sequence[ServiceSpec]) -> None:
        kept = {spec.name for spec in specs}
        for name in self._services.keys() - kept:
            self._services.pop(name).close()
        lag, events = self._node.timing.endpoint_lag, self._node.events
        for spec in specs:
            known = self._services.get(spec.name)
            if known is None or known.spec != spec:
                if known is not None:
                    known.close()
                self._services[spec.name] = Endpoints(spec, lag, events, self._publish_names)
        self._changed()
        self._publish_names()

    def _apply_deployments(self, specs: Sequence[DeploymentSpec]) -> None:
        kept = {spec.name for spec in specs}
        for name in self._deployments.keys() - kept:
            self._remove_deployment(name)
        for spec in specs:
            if spec.name in self._deployments:
                self._deployments[spec.name].apply(spec)
            else:
                self._deployments[spec.name] = made = Deployment(spec, self._node)
                run = made.run(self._bell)
                self._controllers[spec.name] = self._node.tasks.create_task(run, name=spec.name)

    def _remove_deployment(self, name: str) -> None:
        self._controllers.pop(name).cancel()
        for pod in self._deployments.pop(name).pods:
            pod.delete()

    async def _end(self) -> None:
        """As `helm uninstall`: everything at the same time."""
        for name in list(self._deployments):
            self._remove_deployment(name)
        seconds = max((pod.longest_end_seconds for pod in self.pods()), default=0.0)
        await self.until(lambda: not self.pods(), "all pods are gone", seconds + _END_SECONDS)

    def _changed(self) -> None:
        pods = self.pods()
        for service in self._services.values():
            service.follow(pods)
        self._bell.ring()

    def _publish_names(self) -> None:
        """Let pods see what the headless Services' names stand for."""
        names = {
            f"{service.spec.name}.{service.spec.namespace}.svc": service.hosts
            for service in self._services.values()
            if service.spec.is_headless
        }
        beside = self._node.names_file.with_suffix(".new")
        beside.write_text(json.dumps(names), encoding="utf-8")
        beside.replace(self._node.names_file)
        self._bell.ring()


def _is_hook(item: Mapping[str, Any]) -> bool:
    return _HOOK in item["metadata"].get("annotations", {})
