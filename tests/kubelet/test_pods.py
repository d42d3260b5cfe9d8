"""One pod of the mini-kubelet: what its container sees, probes, restarts and its end."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.cluster import Cluster
from tests.kubelet.conftest import BACK_OFF_SECONDS, LAG_SECONDS
from tests.kubelet.events import Event
from tests.kubelet.fake_objects import (
    IDLE,
    config_map,
    deployment,
    fake_service,
    probe,
    rendered,
    service,
)
from tests.kubelet.pod import Pod

pytestmark = pytest.mark.slow

_SLACK_SECONDS = 0.1
_SHOW = """
import asyncio, json, os, signal, socket, sys, uvloop
def names(host):
    try:
        return sorted({found[4][0] for found in socket.getaddrinfo(host, 80)})
    except socket.gaierror as error:
        return str(error)
async def looped(host):
    found = await asyncio.get_running_loop().getaddrinfo(host, 80, type=socket.SOCK_STREAM)
    return sorted({address[0] for *_, address in found})
shown = {
    "args": sys.argv[1:],
    "config": open(sys.argv[1]).read(),
    "secret": open("%s/key" % os.environ["SECRET"]).read(),
    "variables": {name: os.environ.get(name) for name in ("ADDRESS", "PLAIN", "PATHS", "LEAK")},
    "home": os.environ["HOME"],
    "temporary": os.environ["TMPDIR"],
    "socket": names("front.test.svc"),
    "loop": uvloop.run(looped("front.test.svc")),
    "empty": names("nobody.test.svc"),
    "local": names("localhost"),
}
print(json.dumps(shown), flush=True)
signal.pause()
"""


def _of(cluster: Cluster, kind: Any) -> list[Event]:
    return list(cluster.events.of(kind))


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _runs(pid: int) -> bool:
    """Not gone, nor only waiting for init to notice."""
    try:
        return _text(Path("/proc", str(pid), "stat")).rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def _first(cluster: Cluster) -> Pod:
    await cluster.rolled_out(seconds=20)
    [pod] = cluster.pods()
    return pod


def _showing() -> dict[str, Any]:
    variables = [
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PLAIN", "value": "x/etc/app"},
        {"name": "PATHS", "value": "/etc/app/a:/etc/app:/etc/application"},
        {"name": "SECRET", "value": "/etc/app/keys"},
    ]
    return deployment(
        ["python", "-c", _SHOW],
        args=["/etc/app/main.conf"],
        env=variables,
        volumeMounts=[
            {"name": "config", "mountPath": "/etc/app"},
            {"name": "keys", "mountPath": "/etc/app/keys", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a path in the pod)
        ],
        pod={
            "volumes": [
                {"name": "config", "configMap": {"name": "files"}},
                {"name": "keys", "secret": {"secretName": "known"}},
                {"name": "tmp", "emptyDir": {}},
            ]
        },
    )


async def test_what_a_container_sees(cluster: Cluster, monkeypatch: Any) -> None:
    """Its address, its own variables alone, translated paths, Services' names as DNS has them."""
    monkeypatch.setenv("LEAK", "out of the machine")
    front = deployment(IDLE, name="front", replicas=2)
    objects = [front, service("front"), service("nobody")]
    before, after = (config_map("files", main_conf=text) for text in ("at /etc/app/keys!", "new"))
    async with cluster:
        await cluster.apply(rendered(*objects))
        await cluster.rolled_out(seconds=20)
        await cluster.apply(rendered(*objects, before, _showing()))
        await cluster.until(lambda: any(pod.log_lines() for pod in cluster.pods("web")), "shown")
        [pod] = cluster.pods("web")
        [shown] = pod.log_lines()
        behind = [pod.address for pod in cluster.pods("front")]
        config = Path(shown["args"][0])
        await cluster.apply(rendered(*objects, after, _showing()))
        refreshed = _text(config)

    folder, keys = config.parent, config.parent.with_name("keys")
    assert "main.conf" == config.name
    assert pod.address == shown["variables"]["ADDRESS"]
    assert "x/etc/app" == shown["variables"]["PLAIN"]
    assert f"{folder}/a:{folder}:/etc/application" == shown["variables"]["PATHS"]
    assert shown["variables"]["LEAK"] is None
    assert f"at {keys}!" == shown["config"]
    assert "s3cret" == shown["secret"]
    assert str(folder.with_name("tmp")) == shown["home"] == shown["temporary"]
    assert behind == shown["socket"] == shown["loop"]
    assert "[Errno -2] Name or service not known" == shown["empty"]
    assert "127.0.0.1" in shown["local"]
    assert "new" == refreshed


async def test_readiness_and_endpoints(cluster: Cluster, switches: Path) -> None:
    """An address enters at once, leaves a while after its pod is unready, or not if that passes."""
    command = fake_service()
    pods = deployment(command, replicas=1, readinessProbe=probe(""))
    async with cluster:
        await cluster.apply(rendered(pods, service()))
        pod = await _first(cluster)
        address = f"{pod.address}:7000"
        found = [list(cluster.endpoints("web"))]
        switch = switches / f"{pod.address}:"
        for awaited in ("endpoint_removed", "pod_unready"):
            switch.touch()
            count = len(_of(cluster, awaited))
            await cluster.until(lambda c=count, a=awaited: len(_of(cluster, a)) > c, awaited)
            found.append(list(cluster.endpoints("web")))
            switch.unlink()
            await cluster.until(lambda: pod.is_ready, "ready again")
            found.append(list(cluster.endpoints("web")))
        over = _of(cluster, "pod_unready")[-1].seconds + LAG_SECONDS + _SLACK_SECONDS
        await cluster.until(lambda: time.monotonic() > over, "time enough to leave has passed")
        found.append(list(cluster.endpoints("web")))

    assert [[address], [], [address], [address], [address], [address]] == found
    ready, unready = _of(cluster, "pod_ready"), _of(cluster, "pod_unready")
    added, removed = _of(cluster, "endpoint_added"), _of(cluster, "endpoint_removed")
    # The second time it was ready again before the address would have left.
    assert [3, 3, 2, 1] == [len(events) for events in (ready, unready, added, removed)]
    assert added[0].seconds - ready[0].seconds < LAG_SECONDS / 2
    assert removed[0].seconds - unready[0].seconds >= LAG_SECONDS
    assert [0] == [event.code for event in _of(cluster, "exited")]


async def test_liveness(cluster: Cluster, switches: Path) -> None:
    """Who fails it is ended, after its own grace by force, and started again at its address."""
    live = probe("live", terminationGracePeriodSeconds=0.2)
    command = fake_service("--stubborn")
    pods = deployment(command, livenessProbe=live, startupProbe=probe("", failureThreshold=100))
    async with cluster:
        await cluster.apply(rendered(pods))
        pod = await _first(cluster)
        switch = switches / f"{pod.address}:live"
        switch.touch()
        await cluster.until(lambda: bool(_of(cluster, "exited")), "ended")
        switch.unlink()
        await cluster.until(lambda: pod.is_ready, "started again")
        after = cluster.pods()
        await pod.destroy()

    [failed], [killed, *_] = _of(cluster, "probe_failed"), _of(cluster, "killed")
    assert [pod] == list(after)
    assert 1 == pod.num_restarts
    assert "liveness" == failed.detail
    assert 0.2 <= killed.seconds - failed.seconds < 2
    assert -9 == _of(cluster, "exited")[0].code


async def test_a_start_that_fails(cluster: Cluster, switches: Path) -> None:
    """Liveness and readiness are not asked before the start; a start that takes too long ends."""
    (switches / "never").touch()
    pods = deployment(
        fake_service(),
        startupProbe=probe("never", failureThreshold=3),
        livenessProbe=probe("live", failureThreshold=1),
        readinessProbe=probe(""),
    )
    async with cluster:
        await cluster.apply(rendered(pods))
        await cluster.until(lambda: bool(cluster.pods()), "made")
        [pod] = cluster.pods()
        for name in ("never", "live"):
            (switches / f"{pod.address}:{name}").touch()
        await cluster.until(lambda: len(_of(cluster, "pod_started")) == 2, "started again")

    assert {"startup"} == {event.detail for event in _of(cluster, "probe_failed")}
    assert [] == _of(cluster, "pod_ready")
    assert 0 == _of(cluster, "exited")[0].code


async def test_restarts(cluster: Cluster) -> None:
    """A container that ends, or is killed, starts again: at once, then later and later."""
    async with cluster:
        await cluster.apply(rendered(deployment(IDLE)))
        pod = await _first(cluster)
        pids = []
        for count in (1, 2, 3):
            pids.append(pod.pid)
            pod.kill()
            await cluster.until(lambda c=count: pod.num_restarts == c and pod.is_ready, "again")

    exited, started = _of(cluster, "exited"), _of(cluster, "pod_started")
    waits = [start.seconds - end.seconds for end, start in zip(exited, started[1:], strict=False)]
    assert [-9, -9, -9, -15] == [event.code for event in exited]
    assert 3 == len(set(pids))
    assert waits[0] < BACK_OFF_SECONDS
    assert BACK_OFF_SECONDS <= waits[1] < 2 * BACK_OFF_SECONDS <= waits[2]
    assert exited[0].seconds <= _of(cluster, "pod_unready")[0].seconds


async def test_a_container_ends_as_a_whole(cluster: Cluster) -> None:
    """What a container started ends with it, also what has ignored every signal."""
    program = (
        "import json, subprocess, sys, time\n"
        "ignore = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', ignore])\n"
        "print(json.dumps({'pid': child.pid}), flush=True)\n"
        "time.sleep(600)"
    )
    async with cluster:
        await cluster.apply(rendered(deployment(["python", "-c", program])))
        pod = await _first(cluster)
        await cluster.until(lambda: bool(pod.log_lines()), "started a child")
        [line] = pod.log_lines()
        ran = _runs(line["pid"])

    assert ran
    assert not _runs(line["pid"])


async def test_an_orderly_end(cluster: Cluster) -> None:
    """A deleted pod is unready at once, sleeps, is told to end, and is gone when it has."""
    hook = {"preStop": {"sleep": {"seconds": 0.4}}}
    pods = deployment(fake_service("--linger", "0.3"), readinessProbe=probe(""), lifecycle=hook)
    async with cluster:
        await cluster.apply(rendered(pods))
        pod = await _first(cluster)
        await cluster.apply(rendered())
        was_ready, was_there = pod.is_ready, pod in cluster.pods()

    [deleted], [unready] = _of(cluster, "pod_deleted"), _of(cluster, "pod_unready")
    [exited], [gone] = _of(cluster, "exited"), _of(cluster, "pod_gone")
    assert (False, True) == (was_ready, was_there)
    assert deleted.seconds <= unready.seconds < deleted.seconds + 0.1
    assert 0 == exited.code
    assert 0.7 <= exited.seconds - deleted.seconds < 3
    assert exited.seconds <= gone.seconds
    assert [] == _of(cluster, "killed")


async def test_an_end_by_force(cluster: Cluster) -> None:
    """The grace counts from the deletion, preStop within it; what is forced is told."""
    pods = deployment(
        fake_service("--stubborn"),
        readinessProbe=probe(""),
        lifecycle={"preStop": {"sleep": {"seconds": 0.3}}},
        pod={"terminationGracePeriodSeconds": 0.8},
    )
    async with cluster:
        await cluster.apply(rendered(pods))
        await _first(cluster)

    [deleted], [killed] = _of(cluster, "pod_deleted"), _of(cluster, "killed")
    assert 0.8 <= killed.seconds - deleted.seconds < 2
    assert [-9] == [event.code for event in _of(cluster, "exited")]
