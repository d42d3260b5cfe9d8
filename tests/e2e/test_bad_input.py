"""Bad input gets its 4xx in OpenAI's envelope and disturbs nobody.

Beside every piece of bad input a good stream runs, which must come whole and without a pause.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.chat_client import (
    CHAT_PATH,
    Answer,
    ask,
    chat_body,
    connected,
    eventually,
    http_request,
)
from tests.support.stack import Service, Stack

_LONGEST_GAP_SECONDS = 1.0
_HUNDRED_MEGABYTES = 100 * 10**6
_MESSAGES = b'"model": "SmolLM2-135M-Instruct", "messages": [{"role": "user", "content": "x"}]'


def _with(field: bytes) -> bytes:
    return b"{" + _MESSAGES + b", " + field + b"}"


_BAD_BODIES: dict[str, tuple[bytes, int, str | None]] = {
    "empty": (b"", 400, None),
    "broken JSON": (b'{"model": "x", "messages": [', 400, None),
    "an array": (b"[]", 400, None),
    "no messages": (b'{"model": "SmolLM2-135M-Instruct"}', 400, "messages"),
    "no model": (b'{"messages": [{"role": "user", "content": "x"}]}', 400, "model"),
    "model is a number": (b'{"model": 5, "messages": []}', 400, "model"),
    "messages are a string": (b'{"model": "SmolLM2-135M-Instruct", "messages": "x"}', 400, None),
    "messages are empty": (b'{"model": "SmolLM2-135M-Instruct", "messages": []}', 400, "messages"),
    "unknown role": (
        b'{"model": "SmolLM2-135M-Instruct", "messages": [{"role": "judge", "content": "x"}]}',
        400,
        "messages[0].role",
    ),
    "wrong type": (_with(b'"temperature": "hot"'), 400, "temperature"),
    "boolean for a number": (_with(b'"max_tokens": true'), 400, "max_tokens"),
    "out of range": (_with(b'"top_p": 1.5'), 400, "top_p"),
    "NaN": (_with(b'"temperature": NaN'), 400, None),
    "infinity": (_with(b'"temperature": Infinity'), 400, None),
    "1e999": (_with(b'"temperature": 1e999'), 400, None),
    "ten to the thirty": (_with(b'"max_tokens": 1' + b"0" * 30), 400, "max_tokens"),
    "minus ten to the thirty": (_with(b'"seed": -1' + b"0" * 30), 400, "seed"),
    "too many choices": (_with(b'"n": 1000'), 400, "n"),
    "too many stops": (_with(b'"stop": ["a", "b", "c", "d", "e"]'), 400, "stop"),
    "invalid UTF-8": (_with(b'"user": "\xff\xfe"'), 400, None),
    "half a surrogate": (_with(b'"stop": "\\ud800"'), 400, None),
    "deep arrays": (_with(b'"x": ' + b"[" * 100_000 + b"]" * 100_000), 400, None),
    "deep objects": (_with(b'"x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000), 400, None),
    "unclosed arrays": (b"[" * 100_000, 400, None),
    "millions of objects": (_with(b'"x": [' + b'{"a":[]},' * 1_600_000 + b"1]"), 400, None),
    "a million fields": (
        _with(b",".join(b'"k%d":1' % number for number in range(1_000_000))),
        400,
        None,
    ),
    "a model's name of a megabyte": (
        b'{"messages": [{"role": "user", "content": "x"}], "model": "' + b"m" * 10**6 + b'"}',
        404,
        None,
    ),
    "unknown model": (
        b'{"model": "no", "messages": [{"role": "user", "content": "x"}]}',
        404,
        None,
    ),
}


@asynccontextmanager
async def _undisturbed(edge: Service) -> AsyncIterator[None]:
    """A good stream that begins before and ends after what is done inside."""
    good = Answer()
    wanted = chat_body("Go on.", max_tokens=2000, stream=True)
    task = asyncio.create_task(ask(edge, wanted, into=good))

    async def has_text() -> bool:
        return good.has_text

    await eventually(has_text, "the good stream has text")
    yield
    num_seen = len(good.arrivals)

    async def goes_on() -> bool:
        return len(good.arrivals) >= num_seen + 3

    await eventually(goes_on, "the good stream goes on")
    gap = good.longest_gap
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert gap < _LONGEST_GAP_SECONDS


def _require_envelope(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body[:500]
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    error: dict[str, Any] = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    return error


@pytest.mark.parametrize("name", _BAD_BODIES)
async def test_bad_body(paced: Stack, name: str) -> None:
    """A body that is no good request gets the right status and names the parameter at fault."""
    body, status, param = _BAD_BODIES[name]
    async with _undisturbed(paced.edge):
        answer = await ask(paced.edge, body)

    error = _require_envelope(answer, status)
    assert param is None or error["param"] == param
    assert len(answer.body) < 1000


@pytest.mark.wire("E7.context_overflow")
@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_beyond_the_context(paced: Stack, stream: bool) -> None:
    """A prompt that is longer than the context is refused before anything is streamed."""
    async with _undisturbed(paced.edge):
        answer = await ask(paced.edge, chat_body("water " * 20_000, stream=stream))

    assert _require_envelope(answer, 400)["code"] == "context_length_exceeded"


async def test_hundred_megabytes_announced(paced: Stack) -> None:
    """A body of 100 MB is refused by its announced length, unread."""
    async with _undisturbed(paced.edge), connected(paced.edge) as connection:
        head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: edge\r\nContent-Length: {_HUNDRED_MEGABYTES}"
        await connection.send(head.encode() + b"\r\n\r\n" + b"x" * 1000)
        answer = await connection.read_answer()

    assert _require_envelope(answer, 413)["code"] == "request_too_large"


async def test_hundred_megabytes_in_chunks(paced: Stack) -> None:
    """A body of 100 MB without a length is refused at the bound, and the edge does not keep it."""
    before = paced.edge.memory_bytes
    part = b"x" * 65536
    chunk = b"%x\r\n%b\r\n" % (len(part), part)
    peak = before
    async with _undisturbed(paced.edge), connected(paced.edge) as connection:
        head = f"POST {CHAT_PATH} HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n"
        reading = asyncio.create_task(connection.read_answer())
        try:
            await connection.send(head.encode())
            for _ in range(_HUNDRED_MEGABYTES // len(part)):
                await connection.send(chunk)
                peak = max(peak, paced.edge.memory_bytes)
        except ConnectionError:
            pass
        answer = await reading

    assert peak - before < 60 * 10**6
    assert _require_envelope(answer, 413)["code"] == "request_too_large"


async def test_garbage_instead_of_http(paced: Stack) -> None:
    """What is no HTTP at all gets 400 in the envelope, and the connection ends."""
    async with _undisturbed(paced.edge), connected(paced.edge) as connection:
        await connection.send(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n")
        answer = await connection.read_answer()
        rest = await connection.reader.read()

    assert _require_envelope(answer, 400)
    assert rest == b""


async def test_half_a_request_line(paced: Stack) -> None:
    """A client that leaves amid its request line disturbs nobody."""
    async with _undisturbed(paced.edge), connected(paced.edge) as connection:
        await connection.send(b"POST /v1/chat/compl")


async def test_wrong_path_and_method(paced: Stack) -> None:
    """Unknown paths and wrong methods come in the envelope too."""
    async with connected(paced.edge) as connection:
        await connection.send(http_request(b"{}", path="/v1/unknown"))
        unknown = await connection.read_answer()
        await connection.send(http_request(b"{}").replace(b"POST", b"PUT", 1))
        wrong = await connection.read_answer()

    assert _require_envelope(unknown, 404)["code"] == "unknown_url"
    assert _require_envelope(wrong, 405)
    assert "POST" in wrong.headers["allow"]


async def test_bad_requests_in_a_crowd(paced: Stack) -> None:
    """Every bad body at once, each between good requests: all get what is due to them."""
    bad = list(_BAD_BODIES.values())
    good = json.dumps(chat_body(max_tokens=5)).encode()
    bodies = [body for each, *_ in bad for body in (each, good)]
    answers = await asyncio.gather(*(ask(paced.edge, body) for body in bodies))

    assert [answer.status for answer in answers[::2]] == [status for _, status, _ in bad]
    assert all(answer.is_complete for answer in answers[1::2])
