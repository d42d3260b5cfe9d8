"""The edge's spans: what they say of requests that end well, and of those that are refused."""

from typing import Any

import pytest

from headrace.client.answer_events import CallArguments, CallBegin, CallEnd
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.telemetry.spans import SpanKind
from tests.support.edge_server import CHAT, HELLO, ask, raw_client, running_edge, wait_until
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration
from tests.support.span_recorder import RecordedSpan, SpanRecorder

CALLER = f"00-{'a' * 32}-{'b' * 16}-01"
HTTP_NAME, CHAT_NAME = f"POST {CHAT}", f"chat {MODEL.name}"
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


async def spans_of(
    backend: FakeBackend, document: Any, *, status: int = 200, **options: Any
) -> tuple[SpanRecorder, dict[str, str]]:
    """Ask an edge once; its ended spans, and the answer's headers."""
    recorder = SpanRecorder()
    async with running_edge(backend, tracing=recorder) as edge:
        response = await ask(edge.port, document, **options)
        await wait_until(lambda: not recorder.unended)
    assert status == response.status
    return recorder, response.headers


def only(recorder: SpanRecorder, name: str) -> RecordedSpan:
    """The one span of that name."""
    (span,) = recorder.named(name)
    return span


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_a_server_span_and_a_model_span_within(stream: bool) -> None:
    """Kinds, parents and times are right, for whole answers and for streams."""
    recorder, _ = await spans_of(FakeBackend(), {**HELLO, "stream": stream})
    http, chat = only(recorder, HTTP_NAME), only(recorder, CHAT_NAME)

    assert 2 == len(recorder.spans)
    assert (SpanKind.SERVER, SpanKind.CLIENT) == (http.kind, chat.kind)
    assert ("", http.span_id) == (http.parent_id, chat.parent_id)
    assert http.end_ns is not None
    assert chat.end_ns is not None
    (first_at,) = chat.event_times_ns
    assert http.start_ns <= chat.start_ns <= first_at <= chat.end_ns <= http.end_ns
    assert (None, None) == (http.error, chat.error)


async def test_the_server_span_says_what_http_asked() -> None:
    """Stable names of HTTP, beside the request's id and profile; no query, no key."""
    headers = {"User-Agent": "x" * 300, "Authorization": "Bearer secret"}
    recorder, got = await spans_of(FakeBackend(), HELLO, headers=headers, path=f"{CHAT}?key=secret")
    found = only(recorder, HTTP_NAME).attributes
    port = found.pop("server.port")

    assert 80 == port
    assert {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "url.path": CHAT,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "edge",
        "client.address": "127.0.0.1",
        "user_agent.original": "x" * 256,
        "headrace.request.id": got["x-request-id"],
        "headrace.profile": "openai",
    } == found


async def test_the_model_span_says_what_was_asked_and_answered() -> None:
    """What the conventions require and recommend, by their current names."""
    asked = {
        **HELLO,
        "stream": True,
        "n": 2,
        "temperature": 1.5,
        "top_p": 1,
        "seed": -3,
        "max_tokens": 9,
        "stop": ["x" * 200],
        "response_format": {"type": "json_object"},
        "messages": [{"role": "user", "content": "some JSON"}],
        "presence_penalty": 0,
    }
    recorder, got = await spans_of(FakeBackend(play=_play_two), asked, path="/chat/completions")
    chat = only(recorder, CHAT_NAME)
    found = chat.attributes
    times = {
        name: found.pop(name)
        for name in (
            "headrace.admission.seconds",
            "headrace.detokenize.first_text_seconds",
            "headrace.detokenize.flush_seconds",
            "gen_ai.response.time_to_first_chunk",
        )
    }

    assert all(0 <= seconds < 30 for seconds in times.values())
    assert found.pop("gen_ai.response.id").startswith("chatcmpl-")
    assert ["first_token"] == [name for name, _ in chat.events]
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headrace",
        "gen_ai.output.type": "json",
        "gen_ai.request.model": MODEL.name,
        "gen_ai.request.stream": True,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.seed": -3,
        "gen_ai.request.temperature": 1.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.stop_sequences": ["x" * 128],
        "gen_ai.response.model": MODEL.name,
        "gen_ai.response.finish_reasons": ["stop", "length"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "headrace.request.id": got["x-request-id"],
        "headrace.profile": "lenient",
    } == found


def _play_two(generation: FakeGeneration) -> None:
    generation.start(cached=4)
    generation.text("a", 0)
    generation.text("b", 1)
    generation.text("c", 1)
    generation.finish(1, "length", reasoning=1)
    generation.finish(0, "stop")
    generation.done()


@pytest.mark.parametrize("stream", [False, True])
async def test_finish_reasons_are_those_that_the_client_saw(stream: bool) -> None:
    """An answer that ended with a call says so, though the worker only stopped."""

    def play(generation: FakeGeneration) -> None:
        generation.start()
        generation.events(CallBegin(0, "now"), CallArguments(0, "{}"), CallEnd(0, True))
        generation.finish()
        generation.done()

    recorder, _ = await spans_of(
        FakeBackend(play=play), {**HELLO, "stream": stream, "tools": [TOOL]}
    )

    found = only(recorder, CHAT_NAME).attributes
    assert ["tool_calls"] == found["gen_ai.response.finish_reasons"]
    assert ("gen_ai.response.time_to_first_chunk" in found) == stream


async def test_clamped_fields_are_named() -> None:
    """What was taken otherwise than it was asked for is told by its name."""
    asked = {**HELLO, "temperature": 5}
    recorder, _ = await spans_of(FakeBackend(), asked, path="/chat/completions")

    assert ["temperature"] == only(recorder, CHAT_NAME).attributes["headrace.request.clamped"]


async def test_a_bad_request_is_no_error_of_the_servers() -> None:
    """400: the server span has an error type and no error status, and no model was asked."""
    recorder, _ = await spans_of(FakeBackend(), {**HELLO, "n": "two"}, status=400)
    (http,) = recorder.spans

    assert http.error is None
    assert ("invalid_request", 400) == (
        http.attributes["error.type"],
        http.attributes["http.response.status_code"],
    )


@pytest.mark.parametrize("stage", ["render", "generate", "answer"])
async def test_a_failure_of_the_services_is_the_servers(stage: str) -> None:
    """5xx, wherever it comes from: both spans failed by its reason."""
    error = ServiceError(errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, "secret: none")
    backend = FakeBackend(
        render_error=error if stage == "render" else None,
        generate_error=error if stage == "generate" else None,
        play=(lambda generation: generation.fail(error)) if stage == "answer" else None,
    )
    recorder, _ = await spans_of(backend, HELLO, status=503)

    failures = [span.error for span in recorder.spans]
    assert [("no_worker_available", "")] * 2 == failures
    assert 503 == only(recorder, HTTP_NAME).attributes["http.response.status_code"]


async def test_an_error_frame_fails_a_stream_that_began_well() -> None:
    """The status that went out stays the truth, and both spans failed."""
    backend, recorder = FakeBackend(texts=None), SpanRecorder()
    async with running_edge(backend, tracing=recorder) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, "stream": True})
        generation = await backend.next_generation()
        generation.start()
        await client.head()
        generation.text("half")
        generation.fail(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "lost"))
        await wait_until(lambda: not recorder.unended)
    http, chat = only(recorder, HTTP_NAME), only(recorder, CHAT_NAME)

    assert (("worker_lost", ""), ("worker_lost", "")) == (http.error, chat.error)
    assert 200 == http.attributes["http.response.status_code"]
    assert 1 == chat.attributes["gen_ai.usage.output_tokens"]
    assert "gen_ai.response.finish_reasons" not in chat.attributes
    assert "headrace.detokenize.flush_seconds" not in chat.attributes


async def test_of_two_outputs_one_may_have_ended() -> None:
    """Its reason is told, and no flush: that is the time from the last end to the last text."""

    def play(generation: FakeGeneration) -> None:
        generation.start()
        generation.finish(1, "length")
        generation.fail(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "lost"))

    recorder, _ = await spans_of(FakeBackend(play=play), {**HELLO, "n": 2}, status=502)
    found = only(recorder, CHAT_NAME).attributes

    assert ["length"] == found["gen_ai.response.finish_reasons"]
    assert "headrace.detokenize.flush_seconds" not in found


async def test_an_unknown_method_and_path_make_no_name_of_their_own() -> None:
    """Names of spans stay few, whatever is asked for."""
    recorder = SpanRecorder()
    async with (
        running_edge(FakeBackend(), tracing=recorder) as edge,
        raw_client(edge.port) as client,
    ):
        client.send(b"PROPFIND /pot/secret HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 404 == (await client.response()).status
        await wait_until(lambda: not recorder.unended)
    (span,) = recorder.spans

    assert "HTTP /{path}" == span.name
    assert "_OTHER" == span.attributes["http.request.method"]


@pytest.mark.parametrize("host", [b"x:y", b"x:99999", b"\xff"])
async def test_a_host_that_is_none_is_answered_and_not_told(host: bytes) -> None:
    """Whatever the Host header says, the answer is ours and the span ends, without the server."""
    recorder = SpanRecorder()
    async with (
        running_edge(FakeBackend(), tracing=recorder) as edge,
        raw_client(edge.port) as client,
    ):
        client.send(b"GET /v1/models HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert 200 == (await client.response()).status
        await wait_until(lambda: not recorder.unended)
    (span,) = recorder.spans

    assert "server.address" not in span.attributes
    assert 200 == span.attributes["http.response.status_code"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_have_no_spans(path: str) -> None:
    """What comes every few seconds and says nothing leaves no trace."""
    recorder = SpanRecorder()
    async with (
        running_edge(FakeBackend(), tracing=recorder) as edge,
        raw_client(edge.port) as client,
    ):
        client.get(path)
        response = await client.response()

    assert [] == recorder.spans
    assert "traceparent" not in response.headers


@pytest.mark.parametrize("document", [HELLO, {**HELLO, "stream": True}, {"n": 0}])
@pytest.mark.parametrize("caller", [CALLER, None])
async def test_every_answer_names_its_trace(document: Any, caller: str | None) -> None:
    """Answers and errors carry the server span's context, of the caller's trace or of a new one."""
    headers = {} if caller is None else {"traceparent": caller, "tracestate": "a=1"}
    status = 200 if "model" in document else 400
    recorder, got = await spans_of(FakeBackend(), document, status=status, headers=headers)
    http = only(recorder, HTTP_NAME)

    assert http.context.traceparent == got["traceparent"]
    if caller is not None:
        assert ("a" * 32, "b" * 16, "a=1") == (http.trace_id, http.parent_id, http.state)


async def test_without_tracing_the_caller_gets_its_own_context_back() -> None:
    """Switched off, the edge makes up no trace, and loses none."""
    async with running_edge(FakeBackend()) as edge:
        with_trace = await ask(edge.port, HELLO, headers={"traceparent": CALLER})
        without = await ask(edge.port, HELLO)

    assert CALLER == with_trace.headers["traceparent"]
    assert "traceparent" not in without.headers


async def test_render_and_generate_belong_to_the_model_span() -> None:
    """What stands behind is handed the model span's context, and Render the request's id."""
    backend = FakeBackend()
    recorder, got = await spans_of(backend, HELLO)
    chat = only(recorder, CHAT_NAME)

    assert [(chat.context, got["x-request-id"])] == backend.render_traces
    assert chat.context == backend.generations[0].options.trace
