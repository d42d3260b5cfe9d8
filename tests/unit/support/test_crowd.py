"""What a crowd notices: the tests of rollouts and losses rest on it."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.answer_check import difference
from tests.support.chat_client import DONE, Answer
from tests.support.crowd import Crowd, gathered, streamed
from tests.support.edge_server import wait_until

_QUESTION = streamed("Hello", 3)


def _events(*texts: str, finish: str = "stop", tokens: int = 3) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    events = [{"id": "a", "choices": [choice]} for choice in choices]
    events.append({"id": "a", "choices": [], "usage": usage})
    written = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join(written).encode() + DONE + b"\n\n"


def _answer(body: bytes, **fields: object) -> Answer:
    answer = Answer(200, {"content-type": "text/event-stream"}, body)
    for name, value in fields.items():
        setattr(answer, name, value)
    return answer


_WHOLE = _events("some", " text")


def test_the_same_in_other_pieces_is_the_same() -> None:
    """Where an answer is cut into chunks does not count."""
    assert "" == difference(_answer(_events("so", "me te", "xt")), _answer(_WHOLE))


@pytest.mark.parametrize(
    "wrong",
    [
        _answer(_events("some", " text", " text")),
        _answer(_events("some")),
        _answer(_events("some", " text", finish="length")),
        _answer(_events("some", " text", tokens=4)),
        _answer(_WHOLE.replace(b'"id": "a"', b'"id": "b"', 1)),
        _answer(_WHOLE, is_cut=True),
        _answer(_WHOLE, status=503),
        _answer(_WHOLE.removesuffix(DONE + b"\n\n")),
        _answer(b'data: {"error": {"code": "worker_lost"}}\n\n'),
    ],
    ids=["repeated", "lost", "finish", "tokens", "id", "cut", "status", "quiet", "error"],
)
def test_whatever_differs_is_found(wrong: Answer) -> None:
    """Text, finish reason, counts, ids, and how it ended."""
    assert difference(wrong, _answer(_WHOLE))


_REFUSAL = b'{"error": {"code": "draining"}}'


def _reply(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@asynccontextmanager
async def _edge(*replies: bytes) -> AsyncIterator[str]:
    """Gives the requests of each connection these replies in turn, and then closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            for reply in replies:
                head = await reader.readuntil(b"\r\n\r\n")
                [length] = re.findall(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length))
                writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def _ended(crowd: Crowd, count: int) -> None:
    """Return when the second client, which keeps its connection, has been answered so often."""

    def holds() -> bool:
        return sum(exchange.ended is not None for exchange in crowd.of_clients[1]) >= count

    await wait_until(holds)


async def test_connections_that_are_closed_are_opened_again() -> None:
    """Whether the client hears of it before or after its request, it asks once more."""
    async with _edge(_reply(_WHOLE)) as address:
        async with gathered(lambda: [address], [_QUESTION] * 2, keeping=True) as crowd:
            await _ended(crowd, 4)

        assert not crowd.turned_away
        crowd.require_no_problems([_answer(_WHOLE)] * 2)


async def test_a_refusal_counts_where_the_edge_is_listed() -> None:
    """Also on a connection that was kept."""
    refused = _reply(_REFUSAL, "503 Service Unavailable")
    async with _edge(_reply(_WHOLE), refused) as address:
        async with gathered(lambda: [address], [_QUESTION] * 2, keeping=True) as crowd:
            await _ended(crowd, 2)

        with pytest.raises(AssertionError, match=r"\(listed, kept connection\).*503"):
            crowd.require_no_problems([_answer(_WHOLE)] * 2)


async def test_a_client_that_is_turned_away_goes_to_a_listed_edge() -> None:
    """An edge that has left the list and still has a client's connection may refuse."""
    refused = _reply(_REFUSAL, "503 Service Unavailable")
    async with _edge(_reply(_WHOLE), refused) as old, _edge(_reply(_WHOLE)) as new:
        # Each of the two looks once before anybody is answered.
        listed = itertools.chain([[old]] * 2, itertools.repeat([new]))
        async with gathered(lambda: next(listed), [_QUESTION] * 2, keeping=True) as crowd:
            await _ended(crowd, 3)

        assert [old] == [each.address for each in crowd.turned_away]
        crowd.require_no_problems([_answer(_WHOLE)] * 2)


async def test_nobody_listens() -> None:
    """A connection that is refused is a refusal, and so is an empty list."""
    async with _edge() as address:
        pass
    for listed in ([address], []):
        async with gathered(lambda listed=listed: listed, [_QUESTION]) as crowd:
            crowd.stop_asking()

        with pytest.raises(AssertionError, match=r"1 of 1 are wrong:\n.*(refused|no address)"):
            crowd.require_no_problems([_answer(_WHOLE)])
