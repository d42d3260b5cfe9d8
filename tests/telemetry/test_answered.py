"""Requests that are answered: the whole tree of each, with what is known of them exactly."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from headrace.telemetry import names
from tests.support.chat_client import Answer, ask, chat_body, connected, http_get
from tests.support.seen_spans import SeenSpan
from tests.support.stack import Service
from tests.telemetry.conftest import OpenStack
from tests.telemetry.span_table import SCENARIOS, Asked, http
from tests.telemetry.traced_stack import CallersTrace, TracedStack, ask_traced
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_TOKENS_PER_SECOND = 100.0


@pytest.fixture(scope="module")
def paced(open_stack: OpenStack) -> Iterator[TracedStack]:
    """One tokenizer, one paced worker, one edge."""
    with open_stack("traced-paced") as stack:
        engine = PacedSettings(tokens_per_second=_TOKENS_PER_SECOND)
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        stack.add_edge()
        yield stack


def _asked(answer: Answer, **known: object) -> Asked:
    """What the client knows of its answer, which the trace must say too."""
    usage = answer.usage
    values = {
        "input_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "output_tokens": usage["completion_tokens"],
        **known,
    }
    return Asked(**values)  # type: ignore[arg-type]


def _named(spans: list[SeenSpan], name: str) -> SeenSpan:
    return next(span for span in spans if span.name == name)


@pytest.mark.parametrize("stream", [False, True])
async def test_whole_answer(paced: TracedStack, stream: bool) -> None:
    """Nine spans of one trace, in the caller's, each with what the client was told."""
    trace = CallersTrace()
    options = {"stream_options": {"include_usage": True}} if stream else {}
    body = chat_body(max_tokens=20, stream=stream, **options)
    answer = await ask_traced(paced.edge, body, trace)

    spans = await paced.check("answered", _asked(answer, stream=stream), trace)
    decode = _named(spans, names.DECODE_PHASE)
    assert answer.is_complete
    assert decode.attributes[names.OUTPUT_TOKENS] == 20
    # The first token comes with the end of prefill.
    assert decode.seconds == pytest.approx(19 / _TOKENS_PER_SECOND, abs=0.1)


async def test_several_choices(paced: TracedStack) -> None:
    """Two choices are one request: one tree, which tells their number and both ends."""
    trace = CallersTrace()
    answer = await ask_traced(paced.edge, chat_body(max_tokens=5, n=2), trace)

    asked = _asked(answer, choices=2, finish_reasons=("length", "length"))
    assert answer.usage["completion_tokens"] == 10
    await paced.check("answered", asked, trace)


async def test_own_trace(paced: TracedStack) -> None:
    """Without a caller's context a trace begins at the edge; the client is told its id."""
    answer = await ask(paced.edge, chat_body(max_tokens=3))

    trace_id, span_id = answer.headers["traceparent"].split("-")[1:3]
    spans = await paced.check_trees([SCENARIOS["answered"](_asked(answer))], trace_id, "")
    assert _named(spans, "POST /v1/chat/completions").span_id == span_id


async def test_callers_own_decision(paced: TracedStack) -> None:
    """Who does not record gets no span recorded, and its own trace's id all the same."""
    trace = CallersTrace(is_sampled=False)
    paced.expect_nothing(trace)
    answer = await ask_traced(paced.edge, chat_body(max_tokens=3), trace)

    worker_line = paced.workers[0].events("request_ended")[-1]
    assert answer.is_complete
    assert answer.headers["traceparent"].split("-")[1] == trace.trace_id
    assert answer.headers["traceparent"].endswith("-00")
    assert worker_line["trace_id"] == trace.trace_id


async def test_state_is_handed_on(paced: TracedStack) -> None:
    """The caller's tracestate is on every span."""
    trace = CallersTrace()
    state = "tracestate: vendor=opaque,other=1"
    answer = await ask_traced(paced.edge, chat_body(max_tokens=3), trace, state)

    spans = await paced.check("answered", _asked(answer), trace)
    assert {span.state for span in spans} == {"vendor=opaque,other=1"}


async def test_malformed_context(paced: TracedStack) -> None:
    """A context that nobody can read begins a trace, and refuses nothing."""
    answer = await ask(paced.edge, chat_body(max_tokens=3), "traceparent: 00-nonsense-01")

    trace_id = answer.headers["traceparent"].split("-")[1]
    await paced.check_trees([SCENARIOS["answered"](_asked(answer))], trace_id, "")


async def test_options_of_the_request(paced: TracedStack) -> None:
    """What was asked for is on the model span under the conventions' names, as it was taken."""
    trace = CallersTrace()
    body = chat_body(max_tokens=4, temperature=0.5, top_p=0.25, seed=7, stop=["\u2603"])
    answer = await ask_traced(paced.edge, body, trace)

    spans = await paced.check("answered", _asked(answer), trace)
    attributes = _named(spans, f"chat {body['model']}").attributes
    expected = {
        names.REQUEST_MAX_TOKENS: 4,
        names.REQUEST_TEMPERATURE: 0.5,
        names.REQUEST_TOP_P: 0.25,
        names.REQUEST_SEED: 7,
        names.REQUEST_STOP_SEQUENCES: ["\u2603"],
        names.RESPONSE_ID: answer.json["id"],
    }
    assert {name: attributes.get(name) for name in expected} == expected


async def test_clamped_values(paced: TracedStack) -> None:
    """Values that are taken otherwise than asked for are told as they were taken, and named."""
    trace = CallersTrace()
    path = "/api/v1/chat/completions"
    body = chat_body(max_tokens=4, temperature=7)
    answer = await ask_traced(paced.edge, body, trace, path=path)

    asked = _asked(answer, route=path, path=path)
    spans = await paced.check("answered", asked, trace)
    attributes = _named(spans, f"chat {body['model']}").attributes
    assert answer.headers["x-headrace-clamped"] == "temperature=2"
    assert attributes[names.CLAMPED_FIELDS] == ["temperature"]
    assert attributes[names.REQUEST_TEMPERATURE] == 2


async def test_no_content(paced: TracedStack) -> None:
    """Neither the prompt nor the answer nor a key is anywhere in the trace."""
    trace = CallersTrace()
    body = chat_body("Marzipan, please.", max_tokens=20)
    answer = await ask_traced(paced.edge, body, trace, "Authorization: Bearer hidden-key")

    spans = await paced.check("answered", _asked(answer), trace)
    shown = repr([(span.attributes, span.events, span.resource) for span in spans])
    words = [answer.text().strip()[:10], "Marzipan", "hidden-key"]
    assert [word for word in words if word in shown] == []


async def test_who_sent_it(paced: TracedStack) -> None:
    """Every service names itself: its kind, its build, and which start of it."""
    trace = CallersTrace()
    answer = await ask_traced(paced.edge, chat_body(max_tokens=3), trace)

    spans = await paced.check("answered", _asked(answer), trace)
    resources = {span.service: span.resource for span in spans}
    ids = [resource["service.instance.id"] for resource in resources.values()]
    assert len(set(ids)) == 3
    assert all(resource["service.version"] for resource in resources.values())


async def _get(edge: Service, path: str, trace: CallersTrace) -> Answer:
    async with connected(edge) as connection:
        await connection.send(http_get(path, trace.header))
        return await connection.read_answer()


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_probes_make_no_trace(paced: TracedStack, path: str) -> None:
    """What probes and scrapers ask for makes no spans."""
    trace = CallersTrace()
    paced.expect_nothing(trace)
    assert (await _get(paced.edge, path, trace)).status == 200


async def test_other_paths(paced: TracedStack) -> None:
    """Whatever else is asked of the edge is one span of its server."""
    trace = CallersTrace()
    answer = await _get(paced.edge, "/v1/models", trace)

    asked = Asked(route="/v1/models", path="/v1/models")
    await paced.check_trees([http(asked, 200, method="GET")], trace.trace_id, trace.span_id)
    assert answer.status == 200


@pytest.mark.model
async def test_real_model(open_stack: OpenStack) -> None:
    """With the default model: streamed, and once more with most of its prompt cached."""
    engine = OpenVinoSettings(kv_cache_bytes=256 << 20)
    with open_stack("traced-real") as stack:
        stack.start_backend([WorkerSettings(openvino=engine)])
        stack.add_edge()
        body = chat_body(
            "The river is long. " * 30,
            max_tokens=12,
            min_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
        prefills = []
        for number in range(2):
            trace = CallersTrace()
            answer = await ask_traced(stack.edge, body, trace)
            assert answer.is_complete
            asked = _asked(answer, stream=True)
            assert (asked.cached_tokens > 64) == (number == 1)
            spans = await stack.check("answered", asked, trace)
            prefills.append(_named(spans, names.PREFILL_PHASE))

    assert all(later.seconds < earlier.seconds for earlier, later in pairwise(prefills))


async def test_content_where_it_is_wanted(paced: TracedStack) -> None:
    """Where the operator switched it on, prompt and answer are on the model span, and no other."""
    edge = paced.add_edge(capture_messages=True)
    trace = CallersTrace()
    body = chat_body("Marzipan, please.", max_tokens=20)
    answer = await ask_traced(edge, body, trace, "Authorization: Bearer hidden-key")

    spans = await paced.check("answered", _asked(answer), trace)
    model = _named(spans, f"chat {body['model']}")
    shown = repr([span.attributes for span in spans if span is not model])
    assert "Marzipan" in model.attributes[names.INPUT_MESSAGES]
    assert answer.text() in model.attributes[names.OUTPUT_MESSAGES]
    assert "Marzipan" not in shown
    assert "hidden-key" not in repr(spans)
