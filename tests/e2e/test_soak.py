"""bench.soak in short: the stack keeps every verdict, and the verdicts notice what does not."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest

from bench.services import Services, running_services
from bench.soak.outcomes import Outcomes
from bench.soak.plan import TABLES, SoakPlan
from bench.soak.run import Soak
from bench.soak.sampling import Sample
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.generation_pb2 import GenerationRequest
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub
from tests.support.stack import MODEL

pytestmark = [pytest.mark.slow, pytest.mark.model]

_COMMAND = [sys.executable, "-m", "bench.soak", "--clients", "8", "--rate", "3"]


def test_a_short_run_keeps_its_verdicts(tmp_path: Path) -> None:
    """Twenty seconds with a burst: exit code 0, nothing broken, every sample written."""
    options = ["--minutes", "0.3", "--burst-every", "8", "--sample-every", "2"]
    done = subprocess.run(
        [*_COMMAND, *options, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "soak.json").read_text())
    assert [each for each in document["verdicts"] if each["is_kept"] is False] == []
    assert len(document["samples"]) >= 10
    assert document["unexpected"] == []


def test_an_interrupted_run_judges_what_ran(tmp_path: Path) -> None:
    """Ctrl-C ends the load early; the verdicts follow as usual."""
    with subprocess.Popen(
        [*_COMMAND, "--minutes", "5", "--sample-every", "4", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        shown = [child.stdout.readline() for _ in range(3)]
        child.send_signal(signal.SIGINT)
        shown += child.stdout.readlines()

    assert child.returncode == 0, "".join(shown)
    assert any(line.startswith("interrupted") for line in shown)
    assert any(line.startswith("| worker requests | kept") for line in shown)


class _Saboteur:
    """Takes connections and a worker's attention once the run has begun, and gives none back."""

    def __init__(self, services: Services, held: ExitStack) -> None:
        self._services = services
        self._held = held
        self._begun = asyncio.Event()

    def on_sample(self, sample: Sample, outcomes: Outcomes) -> None:
        self._begun.set()

    async def run(self) -> None:
        await self._begun.wait()
        for _ in range(10):
            address = ("127.0.0.1", self._services.edge_port)
            self._held.enter_context(socket.create_connection(address))
        endless = GenerationRequest(request_id="endless", prompt_token_ids=[1], ignore_eos=True)
        async with grpc.aio.insecure_channel(self._services.worker_address) as channel:
            async for _ in GenerationServiceStub(channel).Generate(
                GenerateRequest(request=endless)
            ):
                pass


async def test_what_does_not_come_back_is_found(tmp_path: Path) -> None:
    """Ten connections that stay open and a request that goes on break just their verdicts."""
    plan = SoakPlan(
        MODEL, minutes=0.05, clients=4, rate=2, sample_seconds=1, settle_seconds=1, seed=2
    )
    with running_services(MODEL, TABLES, tmp_path) as services, ExitStack() as held:
        saboteur = _Saboteur(services, held)
        sabotage = asyncio.create_task(saboteur.run())
        verdicts = await Soak(plan, services, saboteur.on_sample).run()
        assert not sabotage.done()
        sabotage.cancel()
        with suppress(asyncio.CancelledError):
            await sabotage

    broken = {each.quantity for each in verdicts if each.is_kept is False}
    assert broken == {"worker requests", "referenced blocks", "blocks", "descriptors of edge"}
