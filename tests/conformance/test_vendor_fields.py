"""The tables of the four vendors' pages: defaults, ranges and forms of each documented field.

A request has a vendor's profile by its Host. `DEFAULTS` are the values that a page gives, `TAKEN`
what it documents as legal and how that is seen, `OUTSIDE` what lies just outside a stated range.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from edge.http_server import EdgeServer
from headrace.client.answers import GenerationOptions
from headrace.client.prompt_request import ContentGuide, Function
from tests.conformance.rows import ROWS
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import HELLO, RawResponse, ask, running_edge
from tests.support.fake_backend import MODEL, FakeBackend

HOSTS = {
    "pinstripes": "api.pinstripes.io",
    "polargrid": "api.ymq-01.edge.polargrid.ai:55111",
    "openpipe": "api.openpipe.ai",
    "premai": "studio.premai.io",
}
PATHS = {"pinstripes": "/v1", "polargrid": "/v1", "openpipe": "/api/v1", "premai": "/api/v1"}
# Temperature, top_p and the limit of tokens where a request gives none; None is OpenAI's 1, and
# the context's end.
DEFAULTS: dict[str, tuple[float | None, float | None, int | None]] = {
    "pinstripes": (None, None, None),
    "polargrid": (0.7, 0.9, 150),
    "openpipe": (None, None, None),
    "premai": (0.7, None, None),
}
_SYSTEM = {"role": "system", "content": "Be brief."}
_USER = {"role": "user", "content": "Hello."}
_SAID = {"role": "assistant", "content": "Hi."}
_NAMED = {**_USER, "name": "<string>"}
_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_CALLED = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
_RESULT = {"role": "tool", "content": "5", "tool_call_id": "c"}
_FUNCTION = {"name": "<string>", "parameters": {}, "description": "<string>", "strict": True}
_TOOL = {"type": "function", "function": _FUNCTION}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
Observe = Callable[[GenerationOptions], Any]


def _sampled(name: str) -> Observe:
    return lambda options: round(getattr(options.sampling, name), 6)


def _option(name: str) -> Observe:
    return lambda options: getattr(options, name)


def _nothing(_options: GenerationOptions) -> None:
    return None


_NUMBERS: dict[str, list[tuple[Any, Observe, Any]]] = {
    "temperature": [(0, _sampled("temperature"), 0), (2, _sampled("temperature"), 2)],
    "top_p": [(0, _sampled("top_p"), 0), (0.9, _sampled("top_p"), 0.9)],
    "frequency_penalty": [
        (-2, _sampled("frequency_penalty"), -2),
        (2, _sampled("frequency_penalty"), 2),
    ],
    "presence_penalty": [
        (-2, _sampled("presence_penalty"), -2),
        (2, _sampled("presence_penalty"), 2),
    ],
}
_STOP_STRING = ("END", _option("stop_strings"), ("END",))
_STOP_ARRAY = (["a", "b", "c", "d"], _option("stop_strings"), ("a", "b", "c", "d"))
_TURNS = ([_SYSTEM, _USER, _SAID, _USER], _nothing, None)
_STREAM = [(False, _nothing, None), (True, _nothing, None)]
# By vendor and field: legal values, where they are seen, and as what.
TAKEN: dict[str, dict[str, list[tuple[Any, Observe, Any]]]] = {
    "pinstripes": {
        **_NUMBERS,
        "messages": [_TURNS],
        "stream": _STREAM,
        "stop": [_STOP_STRING, _STOP_ARRAY],
        "max_tokens": [(1, _option("max_tokens"), 1), (9999, _option("max_tokens"), 9999)],
    },
    "polargrid": {
        **_NUMBERS,
        "messages": [_TURNS],
        "stream": _STREAM,
        "stop": [_STOP_ARRAY],
        "max_tokens": [(1, _option("max_tokens"), 1), (4096, _option("max_tokens"), 4096)],
        "top_k": [(40, _sampled("top_k"), 40)],
        "user": [("user-1", _nothing, None)],
    },
    "openpipe": {
        **_NUMBERS,
        "messages": [([_NAMED], _nothing, None), ([_SYSTEM], _nothing, None)],
        "stream": _STREAM,
        "stop": [_STOP_STRING],
        "audio": [({"format": "wav", "voice": "alloy"}, _nothing, None)],
        "function_call": [("none", _nothing, None)],
        "tool_choice": [("none", _nothing, None)],
        "n": [(3, _option("n"), 3)],
        "max_tokens": [(9, _option("max_tokens"), 9)],
        "max_completion_tokens": [(9, _option("max_tokens"), 9)],
        "response_format": [({"type": "text"}, _nothing, None)],
        "logprobs": [(True, _option("logprobs"), 0)],
        "stream_options": [({"include_usage": True}, _nothing, None)],
        "store": [(True, _nothing, None)],
        "metadata": [({"a": "b"}, _nothing, None)],
    },
    "premai": {
        **_NUMBERS,
        "messages": [_TURNS, ([_USER, _CALLED, _RESULT], _nothing, None)],
        "stream": _STREAM,
        "stop": [_STOP_STRING, _STOP_ARRAY],
        "max_completion_tokens": [
            (9, _option("max_tokens"), 9),
            (None, _option("max_tokens"), None),
        ],
        "seed": [(123, _sampled("seed"), 123)],
        "tools": [([None], _nothing, None), ([], _nothing, None)],
        "tool_choice": [("none", _nothing, None), ("auto", _nothing, None)],
    },
}
# Documented fields whose tests stand further below.
ELSEWHERE = {
    "pinstripes": {"model"},
    "polargrid": {"model"},
    "openpipe": {"model", "functions", "tools", "top_logprobs", "name"},
    "premai": {"model", "response_format"},
}
_NO_FIELDS = frozenset(
    ("path", "auth", "response", "sse", "reuse", "curl", "finish_reasons", "usage")
)
_OUT = {
    "temperature": [-0.1, 2.1],
    "top_p": [-0.1, 1.1],
    "frequency_penalty": [-2.1, 2.1],
    "presence_penalty": [-2.1, 2.1],
}
OUTSIDE: dict[str, dict[str, list[Any]]] = {
    "pinstripes": {**_OUT, "max_tokens": [0], "messages": [[]]},
    "polargrid": {**_OUT, "max_tokens": [0, 4097], "stop": [list("abcde")]},
    "premai": {
        **_OUT,
        "max_completion_tokens": [0],
        "messages": [[], [_USER, _SYSTEM]],
        "response_format": [{"type": "xml"}, {"type": "json_schema"}],
    },
}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(models=(WHOLE,))


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    hosts = {host.partition(":")[0]: vendor for vendor, host in HOSTS.items()}
    aliases = {"*": {"model": MODEL.name}}
    async with running_edge(backend, hosts=hosts, aliases=aliases) as edge:
        yield edge


async def ask_vendor(edge: EdgeServer, vendor: str, **fields: Any) -> RawResponse:
    """A request as this vendor's clients send it."""
    path = f"{PATHS[vendor]}/chat/completions"
    return await ask(edge.port, {**HELLO, **fields}, path=path, headers={"Host": HOSTS[vendor]})


def _each(table: dict[str, dict[str, list[Any]]]) -> pytest.MarkDecorator:
    rows = [
        pytest.param(vendor, name, value, id=f"{vendor}-{name}-{number}")
        for vendor, fields in table.items()
        for name, values in fields.items()
        for number, value in enumerate(values)
    ]
    return pytest.mark.parametrize(("vendor", "name", "value"), rows)


@pytest.mark.parametrize(("part", "vendor"), [*zip(("A1", "A2", "A3", "A4"), HOSTS, strict=True)])
def test_every_documented_field_is_asked_for(part: str, vendor: str) -> None:
    """No field of a page is missing from the table of its vendor."""
    rows = {row.partition(".")[2] for row in ROWS if row.startswith(f"{part}.")}

    assert TAKEN[vendor].keys() | ELSEWHERE[vendor] == rows - _NO_FIELDS


@pytest.mark.wire("A1.temperature", "A1.top_p", "A1.frequency_penalty", "A1.presence_penalty")
@pytest.mark.wire("A1.messages", "A1.stream", "A1.stop", "A1.max_tokens")
@pytest.mark.wire("A2.temperature", "A2.top_p", "A2.frequency_penalty", "A2.presence_penalty")
@pytest.mark.wire("A2.messages", "A2.stream", "A2.stop", "A2.max_tokens", "A2.top_k", "A2.user")
@pytest.mark.wire("A3.temperature", "A3.top_p", "A3.frequency_penalty", "A3.presence_penalty")
@pytest.mark.wire("A3.messages", "A3.name", "A3.stream", "A3.stop", "A3.audio", "A3.function_call")
@pytest.mark.wire("A3.tool_choice", "A3.n", "A3.max_tokens", "A3.max_completion_tokens")
@pytest.mark.wire("A3.response_format", "A3.logprobs", "A3.store", "A3.metadata")
@pytest.mark.wire("A4.temperature", "A4.top_p", "A4.frequency_penalty", "A4.presence_penalty")
@pytest.mark.wire("A4.messages", "A4.stream", "A4.stop", "A4.max_completion_tokens", "A4.seed")
@pytest.mark.wire("A4.tools", "A4.tool_choice", "A5.stop", "A5.roles")
@_each(TAKEN)
async def test_documented_values(
    edge: EdgeServer, backend: FakeBackend, vendor: str, name: str, value: Any
) -> None:
    """Whatever a page documents as legal is taken, up to the very bounds, and arrives."""
    given, observe, expected = value

    response = await ask_vendor(edge, vendor, **{name: given})

    assert response.status == 200, response.body
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    assert is_stream == (name == "stream" and given)
    assert "x-headrace-clamped" not in response.headers
    assert observe(backend.generations[0].options) == expected


@pytest.mark.wire("A2.max_tokens", "A5.max_tokens_range", "A5.out_of_range", "A5.stop")
@pytest.mark.wire("A4.messages", "A4.response_format", "A5.system_message")
@_each(OUTSIDE)
async def test_beyond_the_documented_values(
    edge: EdgeServer, backend: FakeBackend, vendor: str, name: str, value: Any
) -> None:
    """Just beyond a stated range a request is refused, the field named."""
    response = await ask_vendor(edge, vendor, **{name: value})

    assert response.status == 400, response.body
    assert response.error["param"].startswith(name)
    assert backend.conversations == []


@pytest.mark.wire("A5.temperature_default", "A5.top_p_default", "A5.max_tokens_default")
@pytest.mark.parametrize("vendor", DEFAULTS)
async def test_documented_defaults(edge: EdgeServer, backend: FakeBackend, vendor: str) -> None:
    """What a request leaves open is what the vendor's page says; only where it says something."""
    await ask_vendor(edge, vendor)

    options = backend.generations[0].options
    temperature, top_p, limit = DEFAULTS[vendor]
    for name, expected in (("temperature", temperature), ("top_p", top_p)):
        found = getattr(options.sampling, name) if options.sampling.HasField(name) else None
        assert (None if found is None else round(found, 6)) == expected
    assert options.max_tokens == limit
    assert not options.sampling.HasField("frequency_penalty")
    assert not options.sampling.HasField("presence_penalty")


@pytest.mark.wire("A1.model", "A2.model", "A3.model", "A4.model", "A5.model_in_response")
@pytest.mark.parametrize("vendor", HOSTS)
@pytest.mark.parametrize("model", ["ps/qwen3.6-35b-a3b", "llama-3.1-8b", "<string>"])
async def test_model(edge: EdgeServer, vendor: str, model: str) -> None:
    """Any of the documented ids is served; PremAI's answers name what an alias stands for."""
    answer = (await ask_vendor(edge, vendor, model=model)).json()

    assert answer["model"] == (MODEL.name if vendor == "premai" else model)


@pytest.mark.wire("A4.response_format")
async def test_json_schema(edge: EdgeServer, backend: FakeBackend) -> None:
    """A schema constrains the output, whatever it is."""
    response = await ask_vendor(edge, "premai", response_format=_SCHEMA)

    assert response.status == 200, response.body
    assert backend.requests[0].content_guide == ContentGuide("json_schema", "{}")


@pytest.mark.wire("A4.tools", "A4.tool_choice")
async def test_tools_that_may_be_called(edge: EdgeServer, backend: FakeBackend) -> None:
    """The array may contain null; a particular tool can be chosen."""
    choice = {"type": "function", "function": {"name": "f"}}
    response = await ask_vendor(
        edge,
        "premai",
        tools=[None, {"function": {"name": "f"}, "type": "function"}],
        tool_choice=choice,
    )

    assert response.status == 200, response.body
    assert backend.requests[0].tools == (Function("f"),)
    assert backend.requests[0].tool_choice.allowed_names == ("f",)


@pytest.mark.wire("A3.functions", "A3.tools", "A3.function_call", "A3.tool_choice")
async def test_tools_that_nobody_may_call(edge: EdgeServer, backend: FakeBackend) -> None:
    """Tools and functions together, with choice none, change nothing, whatever is in them."""
    response = await ask_vendor(
        edge,
        "openpipe",
        tools=[_TOOL],
        tool_choice="none",
        functions=[_FUNCTION],
        function_call="none",
    )

    assert response.status == 200
    (message,) = [choice["message"] for choice in response.json()["choices"]]
    assert message["content"] == "Hello world"
    assert "tool_calls" not in message
    assert ["hello"] == [message.content for message in backend.conversations[0]]


@pytest.mark.wire("A3.max_completion_tokens", "A5.token_limit_field")
@pytest.mark.parametrize(("older", "newer", "told"), [(9, 9, None), (9, 5, "max_tokens=5")])
async def test_both_limits(
    edge: EdgeServer, backend: FakeBackend, older: int, newer: int, told: str | None
) -> None:
    """Equal limits are no conflict; of two the smaller holds and is told."""
    response = await ask_vendor(edge, "openpipe", max_tokens=older, max_completion_tokens=newer)

    assert response.headers.get("x-headrace-clamped") == told
    assert backend.generations[0].options.max_tokens == min(older, newer)


@pytest.mark.wire("A3.top_logprobs", "A3.stream_options")
async def test_what_only_means_something_beside_another(edge: EdgeServer) -> None:
    """Without logprobs and without a stream the two are named as ignored."""
    response = await ask_vendor(
        edge, "openpipe", top_logprobs=3, stream_options={"include_usage": True}
    )

    assert response.headers["x-headrace-ignored"] == "stream_options, top_logprobs"


@pytest.mark.wire("A2.finish_reasons", "A2.response", "E3")
@pytest.mark.parametrize("reason", ["stop", "length"])
@pytest.mark.parametrize("stream", [False, True])
async def test_finish_reasons(
    edge: EdgeServer, backend: FakeBackend, reason: Any, stream: bool
) -> None:
    """Of PolarGrid's three reasons the two that a model without a filter can have."""
    backend.texts = None

    async def play() -> None:
        (await backend.next_generation()).answer(["x"], reason)

    response, _ = await asyncio.gather(ask_vendor(edge, "polargrid", stream=stream), play())

    assert b'"finish_reason":"%b"' % reason.encode() in response.body
