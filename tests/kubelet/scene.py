"""The laptop's example under clients: a cluster whose pods can be replaced and lost."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helm.chart import ROOT, Rendered
from tests.kubelet.cluster import Cluster
from tests.kubelet.laptop import host_paths, laptop
from tests.kubelet.pod import Pod
from tests.kubelet.questions import shared_out, undisturbed
from tests.support.answer_check import require_own_ids
from tests.support.chat_client import Answer
from tests.support.crowd import Crowd, gathered

THIS, PREVIOUS = "this", "previous"
"""Image tags."""
EDGE = "headrace-edge"
COMPONENTS: Mapping[str, str] = {
    "edge": EDGE,
    "tokenizer": "headrace-tokenizer",
    "worker": "headrace-worker-smollm",
}
"""Deployment and Service of each."""
_ENDED = {"worker": "request_ended", "tokenizer": "output_ended"}
"""What these log of each request that an edge gave them."""
_ENGINE = {"numerics": "reproducible", "kv_cache_bytes": 256 << 20}
# Longer than endpoints lag behind, and than edges take to look a new pod's name up and connect.
_SHORT = {"preStopSeconds": 3, "minReadySeconds": 4, "drainDelaySeconds": 1, "marginSeconds": 10}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What differs between scenes."""

    replicas: int = 2
    edge_drain_seconds: float = 90
    """Longer than a stream takes on a busy machine."""
    drain_seconds: float = 90
    """Of tokenizers and workers."""


def rendered(folder: Path, tag: str, tree: Path, sizes: Sizes) -> Rendered:
    """What `tree`'s chart makes of its example, with short waits."""
    each = {**_SHORT, "replicas": sizes.replicas, "drainSeconds": sizes.drain_seconds}
    return laptop(
        folder,
        tree=tree,
        worker={**each, "settings": {"openvino": _ENGINE}},
        edge={**each, "drainSeconds": sizes.edge_drain_seconds},
        tokenizer=each,
        image={"tag": tag},
    )


class Scene:
    """A cluster and what is asked of it."""

    def __init__(self, folder: Path, images: Mapping[str, Path], sizes: Sizes) -> None:
        home = folder / "cluster"
        home.mkdir()
        self.cluster = Cluster(home, images, host_paths=host_paths())
        self._renderings = {tag: rendered(folder, tag, tree, sizes) for tag, tree in images.items()}

    def listed(self) -> Sequence[str]:
        """The edges' addresses that the Service leads to."""
        return self.cluster.endpoints(EDGE)

    async def upgrade(self, tag: str) -> None:
        """As `helm upgrade --wait`."""
        await self.cluster.apply(self._renderings[tag])
        await self.cluster.rolled_out()

    async def restart(self, name: str) -> None:
        """As `kubectl rollout restart`; returns when the old pods are gone."""
        await self.cluster.restart(name)
        await self.cluster.rolled_out(name)
        await self.settle()

    def pod_at(self, address: str) -> Pod:
        """Whose address, host:port, it is or was."""
        host, _, _ = address.rpartition(":")
        [found] = [pod for pod in self.cluster.all_pods if pod.address == host]
        return found

    def edge_address(self, pod: Pod) -> str:
        """Where an edge that is listed listens, host:port."""
        [address] = [one for one in self.listed() if one.startswith(f"{pod.address}:")]
        return address

    async def settle(self) -> None:
        """Wait until all pods are wanted and ready, and everything that was lost is known."""

        def holds() -> bool:
            pods = self.cluster.pods()
            ready = {component: self._ready(component) for component in COMPONENTS}
            listed = {name: self.cluster.endpoints(COMPONENTS[name]) for name in COMPONENTS}
            return all(pod.is_ready for pod in pods) and all(
                len(ready[name]) == len(listed[name]) > 0 for name in COMPONENTS
            )

        await self.cluster.until(holds, "every pod is ready, and nothing else is listed", 120)

    def _ready(self, component: str) -> list[Pod]:
        return [pod for pod in self.cluster.pods(component) if pod.is_ready]

    async def answers(self, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        """What each is answered while nothing happens."""
        return await undisturbed(self.listed()[0], bodies)

    def crowd(
        self, bodies: Sequence[dict[str, Any]], count: int, *, keeping: bool = True
    ) -> AbstractAsyncContextManager[Crowd]:
        """So many clients that share the questions out among them."""
        return gathered(self.listed, shared_out(bodies, count), keeping=keeping)

    def meetings(self) -> set[tuple[str, str, str]]:
        """Which versions of edges had requests at which of whom: tag, component, tag."""
        edges = {
            line["request_id"]: edge.image_tag
            for edge in self._edges
            for line in edge.log_lines("request_served")
        }
        return {
            (edges[line["request_id"]], pod.component, pod.image_tag)
            for pod in self.cluster.all_pods
            if pod.component in _ENDED
            for line in pod.log_lines(_ENDED[pod.component])
            if line["request_id"] in edges
        }

    def num_cut(self) -> dict[str, int]:
        """By component, how many pods had something still running at their grace's end."""
        found = dict.fromkeys(COMPONENTS, 0)
        for pod in self.cluster.all_pods:
            found[pod.component] += len(pod.log_lines("drain_grace_over"))
        return found

    def num_continued(self) -> int:
        """Requests that had more than one worker."""
        lines = [line for pod in self._edges for line in pod.log_lines("request_served")]
        return sum(line.get("attempts", 0) > 1 for line in lines)

    @property
    def _edges(self) -> Sequence[Pod]:
        return [pod for pod in self.cluster.all_pods if pod.component == "edge"]

    def require_orderly_ends(self) -> None:
        """Whoever was asked to go went by itself, and said nothing of an error."""
        events = self.cluster.events
        assert events.of("killed") == []
        assert events.of("probe_failed") == []
        assert {event.code for event in events.of("exited")} <= {0}
        self.cluster.require_clean_logs()


@asynccontextmanager
async def opened(
    folder: Path,
    images: Mapping[str, Path] | None = None,
    *,
    first: str = THIS,
    sizes: Sizes | None = None,
) -> AsyncIterator[Scene]:
    """A scene whose first version is rolled out."""
    scene = Scene(folder, images or {THIS: ROOT}, sizes or Sizes())
    async with scene.cluster:
        await scene.upgrade(first)
        await scene.settle()
        yield scene


def judge(crowd: Crowd, answers: Sequence[Answer]) -> None:
    """Nothing was refused, lost or altered."""
    crowd.require_no_problems(shared_out(answers, len(crowd.of_clients)))
    require_own_ids([exchange.answer for exchange in crowd.exchanges])
