"""Callers without an edge: gRPC with a context in metadata or in the request, the typed client."""

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage
from headrace.telemetry import names
from headrace.telemetry.trace_context import TraceContext
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub
from tests.support.raw_attach import generation
from tests.support.stack import MODEL
from tests.support.trace_check import Row
from tests.telemetry.conftest import OpenStack
from tests.telemetry.span_table import (
    Asked,
    Failed,
    direct_generate,
    direct_render,
    phases,
)
from tests.telemetry.traced_stack import CallersTrace, TracedStack
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_GONE = Failed("client_cancelled", "CANCELLED")
_LATE = Failed("deadline_exceeded", "DEADLINE_EXCEEDED")


@pytest.fixture(scope="module")
def stack(open_stack: OpenStack) -> Iterator[TracedStack]:
    """One tokenizer, one worker, no edge."""
    with open_stack("traced-direct") as stack:
        engine = PacedSettings(tokens_per_second=100)
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        yield stack


@pytest.fixture
async def worker(stack: TracedStack) -> AsyncIterator[GenerationServiceStub]:
    async with grpc.aio.insecure_channel(stack.workers[0].address) as channel:
        yield GenerationServiceStub(channel)


@pytest.fixture
async def tokenizer(stack: TracedStack) -> AsyncIterator[TokenizerServiceStub]:
    async with grpc.aio.insecure_channel(stack.tokenizers[0].address) as channel:
        yield TokenizerServiceStub(channel)


def _metadata(trace: CallersTrace) -> tuple[tuple[str, str], ...]:
    return (("traceparent", trace.traceparent), ("x-request-id", "req_1"))


def _request(**fields: object) -> GenerateRequest:
    return GenerateRequest(request=generation(request_id="req_1", **fields))


async def _check(stack: TracedStack, tree: Row, trace: CallersTrace) -> None:
    await stack.check_trees([tree], trace.trace_id, trace.span_id)


async def test_generate(stack: TracedStack, worker: GenerationServiceStub) -> None:
    """A context in metadata: the worker's span and its phases, below the caller's."""
    trace = CallersTrace()
    call = worker.Generate(_request(max_tokens=9), metadata=_metadata(trace))
    assert [event async for event in call]

    asked = Asked(input_tokens=3, output_tokens=9)
    await _check(stack, direct_generate(asked, *phases(asked)), trace)


async def test_generate_with_context_inside(
    stack: TracedStack, worker: GenerationServiceStub
) -> None:
    """A context in the request, as on the shared stream, goes before that of the metadata."""
    trace, other = CallersTrace(), CallersTrace()
    stack.expect_nothing(other)
    request = _request(max_tokens=9, n=2, traceparent=trace.traceparent, tracestate="a=1")
    assert [event async for event in worker.Generate(request, metadata=_metadata(other))]

    asked = Asked(input_tokens=3, output_tokens=18, choices=2)
    await _check(stack, direct_generate(asked, *phases(asked)), trace)


async def test_generate_unsampled(stack: TracedStack, worker: GenerationServiceStub) -> None:
    """A caller who does not record gets no span; the log line names its trace all the same."""
    trace = CallersTrace(is_sampled=False)
    stack.expect_nothing(trace)
    call = worker.Generate(_request(max_tokens=2), metadata=_metadata(trace))
    assert [event async for event in call]

    assert stack.workers[0].events("request_ended")[-1]["trace_id"] == trace.trace_id


async def test_generate_cancelled(stack: TracedStack, worker: GenerationServiceStub) -> None:
    """Who reads a token and leaves is cancelled in decode."""
    trace = CallersTrace()
    call = worker.Generate(_request(max_tokens=2000), metadata=_metadata(trace))
    async for event in call:
        if event.HasField("tokens"):
            break
    call.cancel()

    asked = Asked(input_tokens=3)
    rows = phases(asked, names.DECODE_PHASE, _GONE)
    await _check(stack, direct_generate(asked, *rows, failed=_GONE), trace)


async def test_generate_deadline(stack: TracedStack, worker: GenerationServiceStub) -> None:
    """A caller's deadline amid decoding is no cancellation, though the call is cut by it."""
    trace = CallersTrace()
    call = worker.Generate(_request(max_tokens=2000), metadata=_metadata(trace), timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [event async for event in call]

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    asked = Asked(input_tokens=3)
    rows = phases(asked, names.DECODE_PHASE, _LATE)
    await _check(stack, direct_generate(asked, *rows, failed=_LATE), trace)


async def test_generate_refused(stack: TracedStack, worker: GenerationServiceStub) -> None:
    """A request that the worker does not take: one span, no phase."""
    trace = CallersTrace()
    call = worker.Generate(_request(max_tokens=0), metadata=_metadata(trace))
    with pytest.raises(grpc.aio.AioRpcError):
        _ = [event async for event in call]

    failed = Failed("invalid_request", "INVALID_ARGUMENT")
    await _check(stack, direct_generate(Asked(), failed=failed), trace)


def _render(text: str = "Hello") -> RenderRequest:
    return RenderRequest(model=MODEL, messages=[Message(role="user", content=text)])


async def test_render(stack: TracedStack, tokenizer: TokenizerServiceStub) -> None:
    """Rendering for a caller of its own: one span below the caller's."""
    trace = CallersTrace()
    await tokenizer.Render(_render(), metadata=_metadata(trace))

    await _check(stack, direct_render(), trace)


async def test_render_refused(stack: TracedStack, tokenizer: TokenizerServiceStub) -> None:
    """A refusal of the tokenizer has its code and its reason."""
    trace = CallersTrace()
    request = _render()
    request.model = "no-such-model"
    with pytest.raises(grpc.aio.AioRpcError):
        await tokenizer.Render(request, metadata=_metadata(trace))

    await _check(stack, direct_render(Failed("model_not_found", "NOT_FOUND")), trace)


async def test_typed_client(stack: TracedStack) -> None:
    """The typed client hands its caller's span on to both services."""
    trace = CallersTrace()
    addresses = [stack.workers[0].address], [stack.tokenizers[0].address]
    async with (
        HeadraceClient(*addresses) as client,
        client.chat(
            [ChatMessage("user", "Hello")], max_tokens=4, trace=TraceContext(trace.traceparent)
        ) as answer,
    ):
        await answer.text()

    asked = Asked(input_tokens=answer.usage.prompt_tokens, output_tokens=4)
    render, generate = direct_render(), direct_generate(asked, *phases(asked))
    spans = await stack.check_trees([render, generate], trace.trace_id, trace.span_id)
    ids = {span.attributes.get(names.REQUEST_ID) for span in spans} - {None}
    assert len(ids) == 1
