"""A pod: its one container started, probed, started again when it ends, and ended in order."""

import asyncio
import json
import operator
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tests.kubelet.container import Container
from tests.kubelet.node import Node
from tests.kubelet.pod_template import PodTemplate
from tests.kubelet.probes import Probe
from tests.kubelet.volumes import Volumes

_COMPONENT = "app.kubernetes.io/component"
_LAST_EVENTS, _LAST_LINES = 3, 12


class Pod:
    """Begun by `run`, which returns when nothing is left of it."""

    def __init__(self, name: str, template: PodTemplate, node: Node) -> None:
        self.name = name
        self.template = template
        self.address = node.addresses.take()
        """Its IP."""
        self.is_deleted = False
        """From the moment of its deletion; it may still run."""
        self.is_gone = False
        """Nothing of it is left."""
        self.num_restarts = 0
        self.ready_since: float | None = None
        """By time.monotonic; None where it is not ready."""
        self._node = node
        self._folder = node.folder / "pods" / name
        self._folder.mkdir(parents=True)
        self._log = self._folder / "log"
        self._log.touch()
        self._volumes = Volumes(template, self._folder, node.host.paths)
        self._container: Container | None = None
        self._is_forced = False
        self._deleted = asyncio.Event()
        self._graces: asyncio.Queue[float] = asyncio.Queue()
        """What the container that runs has left, in seconds, once it is to end."""
        self.fill_volumes()
        node.events.note("pod_created", name)

    @property
    def component(self) -> str:
        """edge, tokenizer or worker."""
        return self.template.labels.get(_COMPONENT, "")

    @property
    def image_tag(self) -> str:
        """Which version it runs."""
        return self.template.container.image_tag

    @property
    def pid(self) -> int:
        """Of the container's main process that runs now."""
        assert self._container is not None, f"{self.name} runs nothing"
        assert self._container.is_running, f"{self.name} runs nothing"
        return self._container.pid

    @property
    def is_ready(self) -> bool:
        """Whether Services may send to it."""
        return self.ready_since is not None

    def is_available(self, min_ready_seconds: float) -> bool:
        """Whether it has been ready for so long."""
        return self.ready_since is not None and (
            time.monotonic() - self.ready_since >= min_ready_seconds
        )

    def kill(self) -> None:
        """SIGKILL to the container, as the kernel's for want of memory: the pod stays."""
        assert self._container is not None, f"{self.name} runs nothing"
        self._container.kill()

    async def destroy(self) -> None:
        """End it by force, for good, if anything of it is left."""
        self._is_forced = True
        if not self.is_gone:
            self.delete()
        if self._container is not None:
            self._container.kill()
            await self._container.ended()

    def delete(self) -> None:
        """Begin its end, as `kubectl delete pod` does; it is not ready from now on."""
        if not self.is_deleted:
            self.is_deleted = True
            self._node.events.note("pod_deleted", self.name)
            self._deleted.set()
            self._graces.put_nowait(self.template.grace_seconds)
            self._set_ready(is_ready=False)
            self._node.changed()

    def fill_volumes(self) -> None:
        """Write ConfigMaps and Secrets into its volumes as they are now."""
        self._volumes.fill("configMap", self._node.config_maps)
        self._volumes.fill("secret", self._node.host.secrets)

    def log_lines(self, event: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The JSON lines that its containers logged so far, where said of one event alone."""
        lines = self._log.read_bytes().splitlines(keepends=True)
        whole = [json.loads(one) for one in lines if one.startswith(b"{") and one.endswith(b"\n")]
        return [line for line in whole if event in (None, line.get("event"))]

    def log_text(self) -> str:
        """All that it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def require_clean_log(self) -> None:
        """Fail when it logged an error or a traceback."""
        for line in self.log_text().splitlines():
            bad = "Traceback" in line or '"level": "error"' in line or '"level":"error"' in line
            assert not bad, f"{self.name} logged: {line[:4000]}"

    @property
    def longest_end_seconds(self) -> float:
        """From its deletion to its end by force."""
        return self.template.grace_seconds + self._node.timing.shortest_grace

    def describe(self) -> str:
        """Its state, what happened to it last, and the end of its log."""
        words = [self.name, self.address, "ready" if self.is_ready else "not ready"]
        words += ["deleted"] * self.is_deleted + [f"restarts: {self.num_restarts}"]
        own = [event for event in self._node.events if event.subject == self.name]
        words += [str(event) for event in own[-_LAST_EVENTS:]]
        return "\n    ".join([", ".join(words), *self.log_text().splitlines()[-_LAST_LINES:]])

    async def run(self) -> None:
        """Its whole life."""
        while not self.is_deleted:
            await self._run_container()
            if not self.is_deleted:
                await self._back_off()
                self.num_restarts += 1
        self.is_gone = True
        self._node.events.note("pod_gone", self.name)
        self._node.changed()

    async def _run_container(self) -> None:
        # What an earlier container was told concerns it alone.
        self._graces = asyncio.Queue()
        self._container = container = await self._start()
        self._node.events.note("pod_started", self.name)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._probe_all()),
                group.create_task(self._end_when_told(container)),
            ]
            code = await container.ended()
            self._node.events.note("exited", self.name, code=code)
            self._set_ready(is_ready=False)
            for task in tasks:
                task.cancel()

    async def _start(self) -> Container:
        spec = self.template.container
        home = self._volumes.path("/tmp") or self._folder  # noqa: S108 (a path in the pod)
        environment = self._node.environment(spec.image_tag, home)
        for name, value in spec.environment.items():
            environment[name] = self.address if value is None else self._volumes.translate(value)
        words = [self._volumes.translate(word) for word in spec.command]
        return await Container.start(
            self._node.program(words), environment, self._folder, self._log
        )

    async def _back_off(self) -> None:
        timing = self._node.timing
        if self.num_restarts:
            seconds = timing.restart_back_off * 2 ** (self.num_restarts - 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, timing.longest_back_off)):
                    await self._deleted.wait()

    async def _probe_all(self) -> None:
        """Readiness and liveness begin behind the start."""
        spec = self.template.container
        if spec.startup and not await spec.startup.run(self.address, lambda _verdict: True):
            self._give_up("startup", spec.startup)
            return
        async with asyncio.TaskGroup() as group:
            if spec.liveness:
                group.create_task(self._watch_life(spec.liveness))
            if spec.readiness:
                group.create_task(spec.readiness.run(self.address, self._take_readiness))
            else:
                self._set_ready(is_ready=True)

    async def _watch_life(self, probe: Probe) -> None:
        await probe.run(self.address, operator.not_)
        self._give_up("liveness", probe)

    def _take_readiness(self, verdict: bool) -> bool:
        self._set_ready(is_ready=verdict and not self.is_deleted)
        return False

    def _set_ready(self, *, is_ready: bool) -> None:
        if is_ready != self.is_ready:
            self.ready_since = time.monotonic() if is_ready else None
            self._node.events.note("pod_ready" if is_ready else "pod_unready", self.name)
            self._node.changed()

    def _give_up(self, kind: str, probe: Probe) -> None:
        """Have the container ended and started again; whoever is deleted ends anyway."""
        if not self.is_deleted:
            self._node.events.note("probe_failed", self.name, kind)
            self._graces.put_nowait(
                self.template.grace_seconds if probe.grace is None else probe.grace
            )

    async def _end_when_told(self, container: Container) -> None:
        """First comes preStop, which counts into the grace; but two seconds are left behind it."""
        if self._is_forced:
            container.kill()
        grace = await self._graces.get()
        deadline = time.monotonic() + grace
        if await container.ends_within(min(self.template.container.pre_stop_seconds, grace)):
            return
        container.terminate()
        shortest = self._node.timing.shortest_grace
        if not await container.ends_within(max(deadline - time.monotonic(), shortest)):
            self._node.events.note("killed", self.name, f"runs after its grace of {grace:g} s")
            container.kill()
