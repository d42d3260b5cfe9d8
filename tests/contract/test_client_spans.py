"""The typed client's own span of a request: above those of its calls, below its caller's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.worker.v1.generation_pb2 import SamplingParams
from tests.support.in_process import HELLO, in_process_stack, small_registry
from tests.support.span_recorder import RecordedSpan, SpanRecorder
from tokenizer_svc.registry import ModelRegistry
from worker.engine.paced_settings import PacedSettings

CALLER = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
QUICK = PacedSettings(tokens_per_second=2000)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model."""
    return small_registry(tmp_path_factory.mktemp("models"))


@asynccontextmanager
async def traced(registry: ModelRegistry) -> AsyncIterator[tuple[HeadraceClient, SpanRecorder]]:
    """A client whose spans are recorded."""
    recorder = SpanRecorder()
    async with (
        in_process_stack(registry, QUICK) as stack,
        HeadraceClient(
            stack.worker_addresses, stack.tokenizer_addresses, tracing=recorder
        ) as client,
    ):
        yield client, recorder


def tree(recorder: SpanRecorder) -> tuple[RecordedSpan, list[str]]:
    """The one span of the request, and the names of those below; all have ended."""
    assert [] == recorder.unended
    (chat,) = [span for span in recorder.spans if span.name.startswith("chat ")]
    return chat, [span.name for span in recorder.children(chat)]


@pytest.mark.parametrize("caller", [NO_TRACE, CALLER])
async def test_an_answer_is_one_tree(registry: ModelRegistry, caller: TraceContext) -> None:
    """Render and Generate are below one span, whether the caller has one or not."""
    async with traced(registry) as (client, recorder):
        options: dict[str, Any] = {"sampling": SamplingParams(seed=7), "stop": ["never"]}
        async with client.chat(HELLO, max_tokens=5, trace=caller, **options) as answer:
            await answer.text()
        chat, below = tree(recorder)

    assert [names.RENDER_METHOD, names.GENERATE_METHOD] == below
    assert caller.traceparent[36:52] == chat.parent_id
    assert (None, ["first_token"]) == (chat.error, [name for name, _ in chat.events])
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.seed": 7,
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.stop_sequences": ["never"],
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }.items() <= chat.attributes.items()


async def test_an_answer_that_is_left_says_so(registry: ModelRegistry) -> None:
    """Leaving the context early cancels the request, whatever made the reader leave."""
    async with traced(registry) as (client, recorder):
        with pytest.raises(LookupError):
            await _read_one(client)
        chat, below = tree(recorder)

    assert [names.RENDER_METHOD, names.GENERATE_METHOD] == below
    assert ("client_cancelled", "") == chat.error


async def _read_one(client: HeadraceClient) -> None:
    """Take a piece of an answer, and fail for a reason of the reader's own."""
    async with client.chat(HELLO, max_tokens=200) as answer:
        async for _ in answer:
            raise LookupError


async def test_what_cannot_be_rendered_fails_the_request(registry: ModelRegistry) -> None:
    """The tokenizer's refusal is the request's, and nothing is generated."""
    async with traced(registry) as (client, recorder):
        with pytest.raises(ServiceError):
            async with client.chat([ChatMessage("user", "word " * 2_000)]):
                pass
        chat, below = tree(recorder)

    assert [names.RENDER_METHOD] == below
    assert ("context_length_exceeded", "") == chat.error
