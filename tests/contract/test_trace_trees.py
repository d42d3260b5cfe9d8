"""One trace over all services, in one process: the trees of tests/telemetry without a collector."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headrace.client.backend import GrpcChatBackend
from headrace.telemetry.clock import SpanClock
from headrace.telemetry.spans import Attributes, SpanKind
from headrace.telemetry.trace_context import TraceContext
from tests.support.edge_server import RawClient, raw_client, running_edge, wait_until
from tests.support.in_process import NoticingPacedEngine, small_registry
from tests.support.raw_attach import running_worker
from tests.support.raw_detokenize import running_tokenizer
from tests.support.seen_spans import from_recorder
from tests.support.span_recorder import RecordedSpan, SpanRecorder
from tests.support.trace_check import differences
from tests.telemetry.span_table import EDGE, SCENARIOS, TOKENIZER, WORKER, Asked
from tests.telemetry.worker_thread import BreakingEngine
from tokenizer_svc.registry import ModelRegistry
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import EngineRequest, EventSink
from worker.request_report import RequestReports

_CALLER = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
_END_SECONDS = 10.0
_SLOW = PacedSettings(prefill_tokens_per_second=0.1, max_running_outputs=1)


class _ServiceTracing:
    """A service's part of a recorder that all share, so that ids are those of one trace."""

    def __init__(self, recorder: SpanRecorder, service: str, services: dict[str, str]) -> None:
        self._recorder, self._service, self._services = recorder, service, services

    @property
    def clock(self) -> SpanClock:
        return self._recorder.clock

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext,
        attributes: Attributes | None = None,
        *,
        at_ns: int | None = None,
    ) -> RecordedSpan:
        span = self._recorder.begin(name, kind, parent, attributes, at_ns=at_ns)
        self._services[span.span_id] = self._service
        return span


class _NoticingBreakingEngine(NoticingPacedEngine, BreakingEngine):
    """Breaks, and lets a test wait for requests."""

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        super().submit(request, sink)


@dataclass
class _Scene:
    """A client in front of all services."""

    client: RawClient
    engine: NoticingPacedEngine
    model: str
    recorder: SpanRecorder
    services: Mapping[str, str] = field(default_factory=dict)

    def ask(self, **fields: Any) -> None:
        """Send a request."""
        messages = [{"role": "user", "content": "Hello, world!"}]
        document = {"model": self.model, "messages": messages, **fields}
        self.client.post(document, headers={"traceparent": _CALLER.traceparent})

    async def require(self, scenario: str, **known: Any) -> None:
        """The trace becomes what the table says of the scenario."""
        tree = SCENARIOS[scenario](Asked(model=self.model, **known))

        def is_over() -> bool:
            return len(self.recorder.spans) >= tree.size and not self.recorder.unended

        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await wait_until(is_over)
        assert not self.recorder.unended
        spans = [from_recorder(s, self.services[s.span_id]) for s in self.recorder.spans]
        faults = differences(spans, [tree], _CALLER.traceparent[36:52])
        assert not faults, "\n".join(faults)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model."""
    folder: Path = tmp_path_factory.mktemp("models")
    return small_registry(folder)


@asynccontextmanager
async def _scene(
    registry: ModelRegistry,
    settings: PacedSettings | None = None,
    engine_type: type[NoticingPacedEngine] = NoticingPacedEngine,
) -> AsyncIterator[_Scene]:
    recorder, services = SpanRecorder(), dict[str, str]()
    model = registry.find("").directory
    engine = engine_type(model, settings or PacedSettings(tokens_per_second=1000))
    reports = RequestReports(_ServiceTracing(recorder, WORKER, services))
    edge_tracing = _ServiceTracing(recorder, EDGE, services)
    rendering = _ServiceTracing(recorder, TOKENIZER, services)
    async with (
        running_worker(engine, reports=reports) as worker,
        running_tokenizer(registry, tracing=rendering) as tokenizer,
    ):
        tokenizer_address = f"127.0.0.1:{tokenizer.server.port}"
        backend = GrpcChatBackend([worker.address], [tokenizer_address], tracing=edge_tracing)
        await backend.start()
        try:
            await backend.ready()
            async with (
                running_edge(backend, tracing=edge_tracing) as edge,
                raw_client(edge.port) as client,
            ):
                yield _Scene(client, engine, model.name, recorder, services)
        finally:
            await backend.stop()


@pytest.mark.parametrize("stream", [False, True])
async def test_answered(registry: ModelRegistry, stream: bool) -> None:
    """A whole answer: nine spans of one trace, in the caller's."""
    async with _scene(registry) as scene:
        scene.ask(max_tokens=6, stream=stream)
        assert (await scene.client.response()).status == 200
        await scene.require("answered", stream=stream, output_tokens=6)


async def test_several_choices(registry: ModelRegistry) -> None:
    """Two choices are one request, with one attempt and one set of phases."""
    async with _scene(registry) as scene:
        scene.ask(max_tokens=6, n=2)
        assert (await scene.client.response()).status == 200
        reasons = ("length", "length")
        await scene.require("answered", choices=2, output_tokens=12, finish_reasons=reasons)


@pytest.mark.parametrize("stream", [False, True])
async def test_left_in_prefill(registry: ModelRegistry, stream: bool) -> None:
    """A client that leaves before the first token: prefill was cancelled, the queue was not."""
    async with _scene(registry, _SLOW) as scene:
        scene.ask(max_tokens=6, stream=stream)
        await scene.engine.has_submitted(1)
        await wait_until(lambda: scene.engine.load.queued_outputs == 0)
        scene.client.close()
        await scene.require("left in prefill", stream=stream)


async def test_left_in_decode(registry: ModelRegistry) -> None:
    """A client that leaves amid the answer: decoding was cancelled."""
    async with _scene(registry, PacedSettings(tokens_per_second=20)) as scene:
        scene.ask(max_tokens=200, stream=True)
        await scene.client.head()
        for _ in range(2):  # the role, and the first text
            await scene.client.event()
        scene.client.close()
        await scene.require("left in decode", stream=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_engine_fails(registry: ModelRegistry, stream: bool) -> None:
    """An engine that fails amid the answer: decoding failed, and all that waited for it."""
    # Slow enough that the first text is out before the third token breaks it.
    slow = PacedSettings(tokens_per_second=20)
    async with _scene(registry, slow, engine_type=_NoticingBreakingEngine) as scene:
        scene.ask(max_tokens=6, stream=stream)
        response = await scene.client.response()
        assert response.status == (200 if stream else 500)
        await scene.require("engine fails", stream=stream)
