"""Clients that read slowly, speak HTTP/1.0, reuse a connection, or ask before they send."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from edge.settings import EdgeSettings, ServerSettings, StreamingSettings
from tests.support.chat_client import (
    Answer,
    Connection,
    WorkerProbe,
    ask,
    chat_body,
    connected,
    eventually,
    http_get,
    http_request,
    metric,
)
from tests.support.stack import Service, Stack

_STALL_SECONDS = 2.0
_BODY_SECONDS = 1.0


@pytest.fixture(scope="module")
def impatient(paced: Stack) -> Iterator[Service]:
    """An edge that drops a reader after 2 s and a sender after 1 s, with two workers behind."""
    return paced.add_edge(
        EdgeSettings(
            streaming=StreamingSettings(
                stall_timeout_seconds=_STALL_SECONDS, high_water_bytes=2048, low_water_bytes=0
            ),
            server=ServerSettings(body_timeout_seconds=_BODY_SECONDS),
        )
    )


async def _read_a_byte_a_second(connection: Connection) -> None:
    # Time is what this client is about: there is no event to wait for.
    while await connection.reader.read(1):  # noqa: ASYNC110 (see above)
        await asyncio.sleep(1)


async def test_reader_of_one_byte_a_second(
    paced: Stack, impatient: Service, paced_text: str
) -> None:
    """It is dropped and its request aborted, while others get their tokens in time."""
    aborted = await metric(impatient, "headrace_edge_aborted_generations_total")
    slow = await Connection.open(impatient, receive_buffer=4096)
    await slow.send(http_request(chat_body(max_tokens=2000, n=128, stream=True)))
    reading = asyncio.create_task(_read_a_byte_a_second(slow))
    others = [ask(impatient, chat_body(max_tokens=250, stream=True)) for _ in range(4)]
    began = time.monotonic()
    answers = await asyncio.gather(*others)

    async def dropped() -> bool:
        return await metric(impatient, "headrace_edge_aborted_generations_total") == aborted + 1

    await eventually(dropped, "the slow reader is dropped", 60)
    dropped_after = time.monotonic() - began
    for worker in paced.workers:
        async with WorkerProbe(worker) as probe:
            await probe.until_running(0)
    slow.leave()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)

    assert dropped_after < 30
    assert all(answer.is_complete for answer in answers)
    assert {answer.text() for answer in answers} == {paced_text}
    # Who waited for the slow reader would wait until it is dropped.
    assert max(answer.longest_gap for answer in answers) < _STALL_SECONDS


@pytest.mark.parametrize("stream", [False, True])
async def test_http_1_0(paced: Stack, stream: bool) -> None:
    """HTTP/1.0 gets a body without chunks that ends with the connection."""
    async with connected(paced.edge) as connection:
        await connection.send(http_request(chat_body(max_tokens=8, stream=stream), version="1.0"))
        answer = await connection.read_answer()
        rest = await connection.reader.read()
    modern = await ask(paced.edge, chat_body(max_tokens=8))

    assert "transfer-encoding" not in answer.headers
    assert answer.is_complete
    assert answer.text() == modern.text()
    assert rest == b""


async def test_connection_is_reused(paced: Stack) -> None:
    """Streams, whole answers and refusals follow one another on one connection."""
    bodies = [
        chat_body(max_tokens=4, stream=True),
        chat_body(max_tokens=4),
        chat_body(temperature=9),
        chat_body(max_tokens=4, stream=True),
    ]
    answers = []
    async with connected(paced.edge) as connection:
        for body in bodies:
            await connection.send(http_request(body))
            answers.append(await connection.read_answer())

    assert [answer.status for answer in answers] == [200, 200, 400, 200]
    assert [answer.is_complete for answer in answers] == [True, True, False, True]


async def test_pipelined_requests(paced: Stack) -> None:
    """Requests that are sent without waiting are answered one after the other, in order."""
    async with connected(paced.edge) as connection:
        await connection.send(
            http_request(chat_body(max_tokens=6, stream=True))
            + http_get("/v1/models")
            + http_request(chat_body(max_tokens=3))
        )
        stream, models, whole = [await connection.read_answer() for _ in range(3)]

    assert stream.is_stream
    assert stream.is_complete
    assert models.json["object"] == "list"
    assert whole.usage["completion_tokens"] == 3


async def test_client_waits_for_100_continue(paced: Stack) -> None:
    """A client that asks first is told to go on, and then answered."""
    request = http_request(chat_body(max_tokens=4), headers=("Expect: 100-continue",))
    head, body = request.split(b"\r\n\r\n", 1)
    async with connected(paced.edge) as connection:
        await connection.send(head + b"\r\n\r\n")
        interim = await connection.read_until(b"\r\n\r\n")
        await connection.send(body)
        answer = await connection.read_answer()

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.is_complete


async def test_too_large_a_body_is_refused_before_it_is_sent(paced: Stack) -> None:
    """A client that announces too much and asks first is refused at once."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\nExpect: 100-continue\r\n"
        b"Content-Length: 100000000\r\n\r\n"
    )
    async with connected(paced.edge) as connection:
        await connection.send(head)
        answer = await connection.read_answer()

    assert answer.status == 413
    assert answer.error is not None
    assert answer.error["code"] == "request_too_large"


async def test_half_a_request(impatient: Service) -> None:
    """A body that does not come is answered with 408 when its time is over."""
    async with connected(impatient) as connection:
        await connection.send(http_request(chat_body())[:-10])
        answer = await connection.read_answer()

    assert answer.status == 408
    assert answer.error is not None
    assert answer.error["code"] == "request_timeout"


async def test_a_stream_is_not_held_back(paced: Stack) -> None:
    """Tokens arrive as they are made, not gathered at the end."""
    answer = Answer()
    began = time.monotonic()
    await ask(paced.edge, chat_body(max_tokens=50, stream=True), into=answer)
    seconds = time.monotonic() - began

    assert answer.is_complete
    assert len(answer.arrivals) > 10
    assert answer.arrivals[0] - began < seconds / 2
