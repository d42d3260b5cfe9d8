"""Deployments of the mini-kubelet: how pods follow one another, and what an end leaves behind."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import ROOT
from tests.kubelet.addresses import AddressBlock
from tests.kubelet.cluster import Cluster
from tests.kubelet.fake_objects import IDLE, deployment, probe, rendered
from tests.kubelet.pod import Pod
from tests.support.stack import group_runs, wait_for

pytestmark = pytest.mark.slow

_MIN_READY = 0.3
_KUBELET = """
import asyncio, pathlib, sys
from tests.helm.chart import ROOT
from tests.kubelet.cluster import Cluster
from tests.kubelet.fake_objects import IDLE, SWITCHES, deployment, rendered
async def run():
    folder, switches = map(pathlib.Path, sys.argv[1:])
    async with Cluster(folder, {"1": ROOT}, host_paths={SWITCHES: switches}) as cluster:
        await cluster.apply(rendered(deployment(IDLE, replicas=2)))
        await cluster.rolled_out()
        await cluster.until(lambda: all(pod.log_lines() for pod in cluster.pods()), "run")
        print(*(pod.pid for pod in cluster.pods()), flush=True)
        await asyncio.Event().wait()
asyncio.run(run())
"""
_BAD = ["python", "-c", "import sys; sys.exit('there is no such setting')"]


def _version(number: int, command: list[str] = IDLE, **spec: Any) -> dict[str, Any]:
    """Two replicas of a template that differs by an annotation alone."""
    made = deployment(command, **{"replicas": 2, "min_ready": _MIN_READY, **spec})
    made["spec"]["template"]["metadata"]["annotations"] = {"checksum/config": str(number)}
    return made


def _names(pods: Any) -> set[str]:
    return {pod.name for pod in pods}


class _Replay:
    """How many pods there were at once, from a moment on, as the events tell it."""

    def __init__(self, cluster: Cluster, pods: list[Pod], since: int) -> None:
        self._active = _names(pods)
        self._ready = _names(pods)
        self.most_active = self.least_ready = len(pods)
        for event in list(cluster.events)[since:]:
            self._take(event.kind, event.subject)

    def _take(self, kind: str, name: str) -> None:
        if kind == "pod_created":
            self._active.add(name)
        elif kind == "pod_deleted":
            self._active.discard(name)
        elif kind == "pod_ready":
            self._ready.add(name)
        elif kind == "pod_unready":
            self._ready.discard(name)
        self.most_active = max(self.most_active, len(self._active))
        self.least_ready = min(self.least_ready, len(self._ready))


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), (2, 1)])
async def test_rolling(cluster: Cluster, surge: int, unavailable: int) -> None:
    """A changed template replaces all pods, never with more nor with fewer than allowed."""
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    async with cluster:
        await cluster.apply(rendered(_version(1, rolling=rolling)))
        await cluster.rolled_out(seconds=20)
        old, since = list(cluster.pods("web")), len(list(cluster.events))
        await cluster.apply(rendered(_version(2, rolling=rolling)))
        await cluster.rolled_out("web", seconds=20)
        await cluster.until(lambda: len(cluster.pods()) == 2, "the old ones are gone")
        new = list(cluster.pods("web"))
        replay = _Replay(cluster, old, since)

    assert not _names(old) & _names(new)
    assert 4 == len({pod.address for pod in (*old, *new)})
    assert 2 + surge == replay.most_active
    assert 2 - unavailable == replay.least_ready


async def test_min_ready_seconds(cluster: Cluster) -> None:
    """The next old pod goes only when a new one has been ready for so long."""
    async with cluster:
        await cluster.apply(rendered(_version(1)))
        await cluster.rolled_out(seconds=20)
        old = _names(cluster.pods())
        await cluster.apply(rendered(_version(2)))
        await cluster.rolled_out(seconds=20)
        deleted = [event for event in cluster.events.of("pod_deleted") if event.subject in old]

    ready = [event for event in cluster.events.of("pod_ready") if event.subject not in old]
    assert 2 == len(deleted) == len(ready)
    for event, follower in zip(deleted, ready, strict=True):
        assert event.seconds - follower.seconds >= _MIN_READY
    assert deleted[0].seconds <= ready[1].seconds


async def test_a_version_that_does_not_start(cluster: Cluster) -> None:
    """Its rollout stands still, whoever waits is told why, and the way back is open."""
    async with cluster:
        await cluster.apply(rendered(_version(1)))
        await cluster.rolled_out(seconds=20)
        old = _names(cluster.pods())
        await cluster.apply(rendered(_version(2, _BAD, readinessProbe=probe(""))))
        with pytest.raises(AssertionError, match="no such setting") as told:
            await cluster.rolled_out(seconds=2)
        meanwhile = cluster.pods()
        await cluster.apply(rendered(_version(1)))
        await cluster.rolled_out(seconds=20)
        back = _names(pod for pod in cluster.pods() if not pod.is_deleted)

    assert "everything is rolled out: not within 2 s" in str(told.value)
    assert "exited 1" in str(told.value)
    assert old < _names(meanwhile)
    assert 3 == len(meanwhile)
    assert old == back
    assert 1 in {event.code for event in cluster.events.of("exited")}


async def test_restart(cluster: Cluster) -> None:
    """All pods are replaced, and an upgrade that changes nothing leaves them."""
    async with cluster:
        await cluster.apply(rendered(_version(1, min_ready=0)))
        await cluster.rolled_out(seconds=20)
        before = _names(cluster.pods())
        await cluster.restart("web")
        await cluster.rolled_out(seconds=20)
        after = [pod for pod in cluster.pods() if not pod.is_deleted]
        await cluster.apply(rendered(_version(1, min_ready=0)))
        await cluster.rolled_out(seconds=20)
        num_created = len(cluster.events.of("pod_created"))

    assert 2 == len(after)
    assert not before & _names(after)
    assert 4 == num_created


async def test_scaling_and_removal(cluster: Cluster) -> None:
    """Replicas are made and let go without a rollout; what is not rendered any more goes."""
    async with cluster:
        counts = []
        for replicas in (1, 3, 2):
            spec = _version(1, replicas=replicas, min_ready=0)
            await cluster.apply(rendered(spec, deployment(IDLE, name="other")))
            await cluster.rolled_out(seconds=20)
            counts.append(len([pod for pod in cluster.pods("web") if not pod.is_deleted]))
        oldest = cluster.pods("web")[0]
        await cluster.apply(rendered(deployment(IDLE, name="other")))
        is_deleted = [pod.is_deleted for pod in cluster.pods("other")]
        await cluster.until(lambda: not cluster.pods("web"), "gone")

    assert [1, 3, 2] == counts
    assert [False] == is_deleted
    # The youngest went first.
    assert oldest.name == cluster.events.of("pod_created")[0].subject
    assert 4 == len(cluster.all_pods)


async def test_an_error_ends_all(cluster: Cluster) -> None:
    """Where the block fails nobody waits for graces, and the block's own error is told."""
    hook = {"preStop": {"sleep": {"seconds": 600}}}
    pids: list[int] = []

    async def fail() -> None:
        async with cluster:
            await cluster.apply(rendered(deployment(IDLE, replicas=2, lifecycle=hook)))
            await cluster.rolled_out(seconds=20)
            pids.extend(pod.pid for pod in cluster.pods())
            raise LookupError("the test's own")

    with pytest.raises(LookupError, match="the test's own"):
        await fail()

    assert 2 == len(pids)
    assert not any(map(group_runs, pids))


async def test_an_error_of_its_own(cluster: Cluster) -> None:
    """Where a controller fails the block is ended, and everything with it."""
    pids: list[int] = []

    async def fail() -> None:
        raise LookupError("the controller's own")

    async def wait() -> None:
        async with cluster:
            await cluster.apply(rendered(deployment(IDLE)))
            await cluster.rolled_out(seconds=20)
            pids.extend(pod.pid for pod in cluster.pods())
            cluster._node.tasks.create_task(fail())
            await cluster.until(lambda: False, "never")

    with pytest.raises(ExceptionGroup) as told:
        await wait()

    assert ["the controller's own"] == [str(error) for error in told.value.exceptions]
    assert [False] == [group_runs(pid) for pid in pids]


async def test_clean_logs(cluster: Cluster) -> None:
    """A pod that logged an error is told on demand, also when it is long gone."""
    program = 'import signal; print(\'{"level": "error"}\', flush=True); signal.pause()'
    async with cluster:
        await cluster.apply(rendered(deployment(IDLE)))
        await cluster.rolled_out(seconds=20)
        cluster.require_clean_logs()
        await cluster.apply(rendered(deployment(["python", "-c", program])))
        await cluster.rolled_out(seconds=20)
        await cluster.until(lambda: "error" in cluster.pods()[-1].log_text(), "logged")

    with pytest.raises(AssertionError, match="logged: "):
        cluster.require_clean_logs()


def test_clusters_side_by_side() -> None:
    """Each has a block of addresses of its own, which the next one may have."""
    one, other = AddressBlock(), AddressBlock()
    try:
        taken = [block.take() for block in (one, one, other)]
    finally:
        one.release()
        other.release()

    assert 3 == len(set(taken))
    assert 2 == len({address.split(".")[1] for address in taken})
    assert all(64 <= int(address.split(".")[1]) < 128 for address in taken)


def test_the_end_of_the_kubelet(tmp_path: Path, switches: Path) -> None:
    """Pods end with the process that runs them, however that one ends."""
    command = [sys.executable, "-c", _KUBELET, str(tmp_path), str(switches)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as kubelet:
        assert kubelet.stdout is not None
        pids = [int(word) for word in kubelet.stdout.readline().split()]
        ran = [group_runs(pid) for pid in pids]
        kubelet.kill()
    wait_for(lambda: not any(map(group_runs, pids)), "the pods are gone", 10)

    assert [True, True] == ran
