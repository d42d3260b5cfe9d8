"""What the tokenizer tells of unary calls: span, line and figures, the truth however they end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from headrace.access.key_ring import KeyRing
from headrace.rpc.bearer import bearer_metadata
from headrace.rpc.call_metadata import call_metadata
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import TraceContext
from headrace.tokenizer.v1.encoding_pb2 import CountTokensRequest, DecodeRequest, EncodeRequest
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from tests.support.in_process import small_registry
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys
from tests.support.raw_detokenize import RawDetokenize, RunningTokenizer, running_tokenizer
from tests.support.span_recorder import RecordedSpan, SpanRecorder
from tokenizer_svc.registry import ModelRegistry
from tokenizer_svc.settings import LimitSettings

SERVICE = "headrace.tokenizer.v1.TokenizerService"
SECRET = "Hello, my secret world!"  # noqa: S105 (what must not be told)
RENDER = RenderRequest(messages=[Message(role="user", content=SECRET)])
TRACE = TraceContext(f"00-{7:032x}-{9:016x}-01", "vendor=x")
TIMES = ("thread_wait_seconds", "template_seconds", "encoding_seconds", "guide_seconds")


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """One small model, `small`."""
    return small_registry(tmp_path)


class NoticingRecorder(SpanRecorder):
    """Lets a test wait for the first call; it is then where its handler first waits."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    def begin(self, *args: Any, **kwargs: Any) -> RecordedSpan:
        self.begun.set()
        return super().begin(*args, **kwargs)


@pytest.fixture
def recorder() -> NoticingRecorder:
    """The tokenizer's spans."""
    return NoticingRecorder()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """What is logged."""
    with capture_logs() as logs:
        yield logs


def told(
    recorder: SpanRecorder, logs: list[Any], method: str = "Render"
) -> tuple[RecordedSpan, Any]:
    """The span and the line of the only call of a method; neither tells what was said."""
    (span,) = recorder.named(f"{SERVICE}/{method}")
    (line,) = (line for line in logs if line.get("method") == method)
    assert line["event"] == "call_ended"
    assert line["code"] == span.attributes["rpc.response.status_code"]
    assert span.error == ((line["reason"], "") if "reason" in line else None)
    assert "secret" not in repr((span, line))
    assert KEY not in repr((span, line))
    assert span.end_ns is not None
    return span, line


def figure(tokenizer: RunningTokenizer, name: str, **labels: str) -> float | None:
    """A figure as Prometheus gets it."""
    return tokenizer.metrics.registry.get_sample_value(f"headrace_tokenizer_{name}", labels)


async def code(call: Awaitable[Any]) -> str:
    """The status with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return str(caught.value.code().name)


@asynccontextmanager
async def busy(tokenizer: RunningTokenizer, jobs: int = 2) -> AsyncIterator[None]:
    """Keep the threads at work; returns once they are."""
    gate, loop = threading.Event(), asyncio.get_running_loop()
    begun = asyncio.Semaphore(0)

    def work() -> None:
        loop.call_soon_threadsafe(begun.release)
        assert gate.wait(20)

    running = [asyncio.ensure_future(tokenizer.pool.run(1, work)) for _ in range(jobs)]
    try:
        for _ in range(min(jobs, 2)):
            await begun.acquire()
        yield
    finally:
        gate.set()
        await asyncio.gather(*running)


async def test_a_render_tells_where_its_time_went(
    registry: ModelRegistry, recorder: SpanRecorder, logs: list[Any], tmp_path: Path
) -> None:
    """One span of the caller's trace, and one line: model, tenant, sizes, parts of the time."""
    keys = KeyRing(write_keys(tmp_path / "keys.toml", entry(KEY, tenant="acme")))
    metadata = (*bearer_metadata(KEY), *call_metadata(TRACE, "req_1"))
    async with running_tokenizer(registry, keys=keys, tracing=recorder) as tokenizer:
        answer = await tokenizer.stub.Render(RENDER, metadata=metadata)
        encoded = figure(tokenizer, "encoded_tokens_total")
        count = figure(tokenizer, "calls_total", method="Render", code="OK")
        timed = figure(tokenizer, "call_seconds_count", method="Render")

    span, line = told(recorder, logs)
    tokens = len(answer.prompt_token_ids)
    assert (span.kind, span.context.trace_id) == (SpanKind.SERVER, TRACE.trace_id)
    assert (span.parent_id, span.state) == (f"{9:016x}", "vendor=x")
    times = [span.attributes.pop(f"headrace.render.{name}") for name in TIMES]
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/Render",
        "rpc.response.status_code": "OK",
        "headrace.request.id": "req_1",
        "headrace.tenant": "acme",
        "gen_ai.request.model": "small",
        "headrace.text.characters": len(SECRET),
        "headrace.text.tokens": tokens,
    }
    assert all(seconds > 0 for seconds in times)
    assert sum(times) <= line["seconds"]
    assert [line[name] for name in TIMES] == pytest.approx(times, abs=1e-6)
    expected = {
        "trace_id": TRACE.trace_id,
        "request_id": "req_1",
        "tenant": "acme",
        "model": "small",
        "characters": len(SECRET),
        "tokens": tokens,
        "log_level": "info",
    }
    assert expected.items() <= line.items()
    assert (encoded, count, timed) == (tokens, 1, 1)


async def test_the_other_texts_are_told_too(
    registry: ModelRegistry, recorder: SpanRecorder, logs: list[Any]
) -> None:
    """Encode, CountTokens and Decode; what is decoded was not encoded."""
    async with running_tokenizer(registry, tracing=recorder) as tokenizer:
        ids = (await tokenizer.stub.Encode(EncodeRequest(text=SECRET))).token_ids
        await tokenizer.stub.CountTokens(CountTokensRequest(text=SECRET))
        await tokenizer.stub.Decode(DecodeRequest(token_ids=ids))
        encoded = figure(tokenizer, "encoded_tokens_total")

    lines = [told(recorder, logs, method)[1] for method in ("Encode", "CountTokens", "Decode")]
    assert [line["tokens"] for line in lines] == [len(ids)] * 3
    assert [line.get("characters") for line in lines] == [len(SECRET)] * 2 + [None]
    assert encoded == 2 * len(ids)


async def test_what_is_no_work_of_a_request_has_no_span(
    registry: ModelRegistry, recorder: SpanRecorder, logs: list[Any]
) -> None:
    """GetModel and health are asked all the time."""
    async with running_tokenizer(registry, tracing=recorder) as tokenizer:
        await tokenizer.stub.GetModel(GetModelRequest())
        address = f"127.0.0.1:{tokenizer.server.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())

    assert not recorder.spans
    assert not [line for line in logs if line["event"] == "call_ended"]


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (RenderRequest(), "INVALID_ARGUMENT", "invalid_request"),
        (RenderRequest(model="secret"), "NOT_FOUND", "model_not_found"),
        (RenderRequest(messages=RENDER.messages, max_prompt_tokens=1), "OUT_OF_RANGE", ""),
    ],
)
async def test_a_refusal_is_told_by_its_reason(
    registry: ModelRegistry,
    recorder: SpanRecorder,
    logs: list[Any],
    request_: RenderRequest,
    status: str,
    reason: str,
) -> None:
    """The status that the caller got, and how far the work came."""
    reason = reason or "context_length_exceeded"
    async with running_tokenizer(registry, tracing=recorder) as tokenizer:
        assert await code(tokenizer.stub.Render(request_)) == status
        refused = figure(tokenizer, "refusals_total", reason=reason, tenant_class="anonymous")

    span, line = told(recorder, logs)
    assert (line["code"], line["reason"]) == (status, reason)
    assert ("headrace.render.template_seconds" in span.attributes) == (status == "OUT_OF_RANGE")
    assert refused == 1


async def test_a_key_that_is_not_known_is_told(
    registry: ModelRegistry, recorder: SpanRecorder, logs: list[Any], tmp_path: Path
) -> None:
    """Nobody knows whose it is; the key itself is nowhere. Streams are counted too."""
    keys = KeyRing(write_keys(tmp_path / "keys.toml", entry(OTHER_KEY)))
    async with running_tokenizer(registry, keys=keys, tracing=recorder) as tokenizer:
        call = tokenizer.stub.Render(RENDER, metadata=bearer_metadata(KEY))
        assert await code(call) == "UNAUTHENTICATED"
        detokenize = RawDetokenize(tokenizer.stub, KEY)
        assert await code(detokenize.call.read()) == "UNAUTHENTICATED"
        labels = {"reason": "invalid_api_key", "tenant_class": "anonymous"}
        refused = figure(tokenizer, "refusals_total", **labels)

    assert told(recorder, logs)[1]["reason"] == "invalid_api_key"
    assert refused == 2


async def test_too_many_calls_are_refused_and_counted(
    registry: ModelRegistry, recorder: SpanRecorder, logs: list[Any]
) -> None:
    """Overload is a refusal; meanwhile the figures say what is at work and what waits."""
    limits = LimitSettings(max_pending_encodings=3)
    async with running_tokenizer(registry, limits=limits, tracing=recorder) as tokenizer:
        idle = [figure(tokenizer, name) for name in ("threads_busy", "encodings_waiting")]
        async with busy(tokenizer, 3):
            assert await code(tokenizer.stub.Render(RENDER)) == "RESOURCE_EXHAUSTED"
            load = [figure(tokenizer, name) for name in ("threads_busy", "encodings_waiting")]

    assert told(recorder, logs)[1]["reason"] == "overloaded"
    assert (idle, load) == ([0, 0], [2, 1])


@pytest.mark.parametrize(
    ("seconds", "status", "reason"),
    [
        (0.05, "DEADLINE_EXCEEDED", "deadline_exceeded"),
        (None, "CANCELLED", "client_cancelled"),
    ],
)
async def test_a_caller_that_does_not_wait_is_told_while_threads_work(
    registry: ModelRegistry,
    recorder: NoticingRecorder,
    logs: list[Any],
    seconds: float | None,
    status: str,
    reason: str,
) -> None:
    """The span ends with the call, and says how long it has waited for a thread in vain."""
    async with running_tokenizer(registry, tracing=recorder) as tokenizer:
        async with busy(tokenizer):
            call = tokenizer.stub.Render(RENDER, timeout=seconds)
            await recorder.begun.wait()
            if seconds is None:
                call.cancel()
            await asyncio.gather(_ended(call), tokenizer.servicer.activity.idle())
            _, line = told(recorder, logs)
        refusals = dict(tokenizer.servicer.activity.refusals)

    assert (line["code"], line["reason"]) == (status, reason)
    assert 0 < line["thread_wait_seconds"] <= line["seconds"]
    assert "tokens" not in line
    assert not refusals


async def _ended(call: Any) -> None:
    await asyncio.wait([asyncio.ensure_future(call.code())])


async def test_a_crash_is_told_and_nothing_of_its_cause(
    registry: ModelRegistry, recorder: SpanRecorder, logs: list[Any]
) -> None:
    """INTERNAL, as the caller sees it; the stack is in the log of the boundary."""
    async with running_tokenizer(registry, tracing=recorder) as tokenizer:
        tokenizer.pool.close()
        assert await code(tokenizer.stub.Render(RENDER)) == "INTERNAL"
        refusals = dict(tokenizer.servicer.activity.refusals)

    assert told(recorder, logs)[1]["reason"] == "engine_failure"
    assert not refusals
