"""An orderly end: SIGTERM under load."""

import asyncio
from collections.abc import Iterator

import pytest

from edge.settings import EdgeSettings, ServerSettings
from tests.e2e.conftest import open_stack
from tests.support.chat_client import (
    Answer,
    WorkerProbe,
    ask,
    chat_body,
    connected,
    eventually,
    get,
    http_get,
)
from tests.support.stack import Service, Stack
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

_TOKENS = 100
_REQUESTS = 32


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers and two tokenizers behind one edge."""
    with open_stack(tmp_path_factory, "drain") as stack:
        stack.start_backend([WorkerSettings(engine="paced")] * 2, [TokenizerSettings()] * 2)
        stack.add_edge()
        yield stack


class _Load:
    """Requests at work, half of them streams."""

    def __init__(self, edge: Service) -> None:
        self.edge = edge
        self.streams = [Answer() for _ in range(_REQUESTS // 2)]
        self._tasks: list[asyncio.Task[Answer]] = []

    async def start(self) -> None:
        """Return when every stream has text."""
        for answer in self.streams:
            self.ask_another(stream=True, into=answer)
            self.ask_another(stream=False)

        async def has_text() -> bool:
            return all(answer.has_text for answer in self.streams)

        await eventually(has_text, "every stream has text")

    def ask_another(self, *, stream: bool, into: Answer | None = None) -> None:
        """One more request."""
        body = chat_body(max_tokens=_TOKENS, stream=stream)
        self._tasks.append(asyncio.create_task(ask(self.edge, body, into=into)))

    async def answers(self) -> list[Answer]:
        """All answers."""
        return await asyncio.gather(*self._tasks)


async def _drain_unseen(stack: Stack, service: Service) -> None:
    """Drain one of two under load, with new requests all the while."""
    load = _Load(stack.edge)
    await load.start()
    ended = asyncio.create_task(asyncio.to_thread(service.stop))
    while not ended.done():
        load.ask_another(stream=True)
        await asyncio.wait([ended], timeout=0.05)
    code = await ended
    answers = await load.answers()
    service.start()
    await asyncio.to_thread(stack.await_connected, stack.edge)

    assert code == 0
    assert len(answers) > _REQUESTS
    assert [answer.body[-300:] for answer in answers if not answer.is_complete] == []
    assert len({answer.text() for answer in answers}) == 1


async def test_draining_worker(pairs: Stack) -> None:
    """SIGTERM to one of two workers under load: no client notices, and it ends with 0."""
    await _drain_unseen(pairs, pairs.workers[0])


@pytest.mark.slow
async def test_draining_tokenizer(pairs: Stack) -> None:
    """SIGTERM to one of two tokenizers under load: no client notices, and it ends with 0."""
    await _drain_unseen(pairs, pairs.tokenizers[0])


async def test_draining_edge(pairs: Stack) -> None:
    """SIGTERM to an edge: streams finish, idle connections end, new ones are refused."""
    edge = pairs.add_edge()
    load = _Load(edge)
    await load.start()
    async with connected(edge) as idle:
        await idle.send(http_get("/health"))
        await idle.read_answer()
        ended = asyncio.create_task(asyncio.to_thread(edge.stop))

        async def refuses() -> bool:
            try:
                await get(edge, "/health")
            except ConnectionRefusedError:
                return True
            return False

        await eventually(refuses, "new connections are refused")
        is_early = not any(answer.is_done for answer in load.streams)
        rest = await idle.reader.read()
        answers = await load.answers()
    code = await ended
    pairs.edges.remove(edge)

    assert is_early
    assert rest == b""
    assert all(answer.is_complete for answer in answers)
    assert code == 0
    edge.require_clean_log()


async def test_grace_is_over(pairs: Stack) -> None:
    """What runs longer than the edge's grace ends with an error, its work at the worker too."""
    edge = pairs.add_edge(EdgeSettings(server=ServerSettings(drain_grace_seconds=0.5)))
    streamed = Answer()
    body = chat_body(max_tokens=3000, stream=True)
    tasks = [
        asyncio.create_task(ask(edge, body, into=streamed)),
        asyncio.create_task(ask(edge, chat_body(max_tokens=3000))),
    ]

    async def has_text() -> bool:
        return streamed.has_text

    await eventually(has_text, "the stream has text")
    code = await asyncio.to_thread(edge.stop)
    _, whole = await asyncio.gather(*tasks)
    pairs.edges.remove(edge)
    for worker in pairs.workers:
        async with WorkerProbe(worker) as probe:
            await probe.until_running(0)

    assert code == 0
    assert streamed.error is not None
    assert streamed.error["code"] == "draining"
    assert not streamed.is_done
    assert whole.status == 503
    assert whole.error is not None
    assert whole.error["code"] == "draining"
    edge.require_clean_log()
