"""Thresholds of probes, by a script of answers instead of a service."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.kubelet.fake_objects import probe
from tests.kubelet.probes import Probe

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class _Scripted(Probe):
    """Answers as written, `+` and `-`; notes how far it has come."""

    script: list[str] = field(default_factory=list)

    async def ask(self, address: str) -> bool:
        """The next answer; ends the run behind the last."""
        if not self.script:
            raise EOFError
        return self.script.pop(0) == "+"


async def _verdicts(script: str, successes: int, failures: int) -> str:
    """What was told at each answer: `+`, `-`, or `.` for nothing."""
    told: list[str] = []
    scripted = _Scripted(
        1,
        "",
        period=0,
        success_threshold=successes,
        failure_threshold=failures,
        script=list(script),
    )

    def tell(verdict: bool) -> bool:
        told.extend("." * (len(script) - len(scripted.script) - len(told) - 1))
        told.append("+" if verdict else "-")
        return False

    with pytest.raises(EOFError):
        await scripted.run("nowhere", tell)
    return "".join(told)


@pytest.mark.parametrize(
    ("script", "thresholds", "verdicts"),
    [
        ("+", (1, 3), "+"),
        ("--+--+---", (1, 3), "..+..+..-"),
        ("----+", (1, 3), "..--+"),
        ("-++-+++", (3, 1), "-..-..+"),
        ("-+-+-+", (2, 2), ""),
        ("--++", (2, 2), ".-.+"),
    ],
)
async def test_thresholds(script: str, thresholds: Sequence[int], verdicts: str) -> None:
    """So many answers alike in a row make a verdict, and each further one makes it again."""
    assert verdicts == await _verdicts(script, *thresholds)


def test_as_rendered() -> None:
    """What is not rendered has Kubernetes' defaults."""
    asked = {"port": 8081, "service": "live"}

    read = Probe.read("x", {"grpc": asked})

    assert Probe(8081, "live", 0, 10, 1, 3, 1, None) == read
    assert 7 == Probe.read("x", probe("", initialDelaySeconds=7)).initial_delay


async def test_a_silent_port() -> None:
    """Who accepts a connection and says nothing has failed when the time is over."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = {"port": listener.getsockname()[1], "service": ""}
        silent = Probe.read("x", {"grpc": asked, "timeoutSeconds": 0.2})
        began = loop.time()
        is_good = await silent.ask("127.0.0.1")

    assert not is_good
    assert 0.2 <= loop.time() - began < 5
