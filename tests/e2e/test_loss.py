"""Workers and tokenizers that die or freeze under 64 requests.

Three of four requests stream. The paced engine says the same words to everybody, so that every
answer is known: while there is another service to go on at, every one must be complete and whole. A
lost service is used again when it is back, by the same edge.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from edge.settings import BackendSettings, EdgeSettings
from tests.e2e.conftest import Measured, open_stack
from tests.support.chat_client import (
    Answer,
    Connection,
    WorkerProbe,
    ask,
    chat_body,
    eventually,
    get,
    http_request,
)
from tests.support.stack import Service, Stack
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_STREAMS = 64
_TOKENS = 110
_HEARTBEAT, _SILENCE = 0.5, 3.0
_END_SECONDS = 60.0


def _start(stack: Stack, workers: int, tokenizers: int) -> None:
    limits = {"heartbeat_seconds": _HEARTBEAT, "silence_seconds": _SILENCE}
    engine = PacedSettings(tokens_per_second=50)
    worker = WorkerSettings(engine="paced", paced=engine, **limits)
    stack.start_backend([worker] * workers, [TokenizerSettings(**limits)] * tokenizers)
    stack.add_edge(EdgeSettings(backend=BackendSettings(**limits)))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers, two tokenizers, one edge that counts a peer as dead after 3 s of silence."""
    with open_stack(tmp_path_factory, "pairs") as stack:
        _start(stack, 2, 2)
        yield stack


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One worker, two tokenizers, one edge."""
    with open_stack(tmp_path_factory, "lonely") as stack:
        _start(stack, 1, 2)
        yield stack


class _Crowd:
    """64 requests at once, and what becomes of each."""

    def __init__(self, edge: Service) -> None:
        self._edge = edge
        self.answers = [Answer() for _ in range(_STREAMS)]
        self._tasks: list[asyncio.Task[Answer]] = []

    @staticmethod
    def is_stream(number: int) -> bool:
        """Three of four."""
        return number % 4 != 0

    async def ask_all(self) -> None:
        """Send all requests and wait until every stream has text."""
        for number, answer in enumerate(self.answers):
            body = chat_body(max_tokens=_TOKENS, stream=self.is_stream(number))
            self._tasks.append(asyncio.create_task(ask(self._edge, body, into=answer)))
        streams = [a for number, a in enumerate(self.answers) if self.is_stream(number)]

        async def have_text() -> bool:
            return all(answer.has_text for answer in streams)

        await eventually(have_text, "every stream has text")

    async def read_all(self) -> list[Answer]:
        """Every answer once all of them have ended."""
        async with asyncio.timeout(_END_SECONDS):
            return await asyncio.gather(*self._tasks)

    async def leave(self) -> None:
        """Close what is still open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def _crowd(edge: Service) -> AsyncIterator[_Crowd]:
    crowd = _Crowd(edge)
    try:
        yield crowd
    finally:
        await crowd.leave()


def _judge(answers: list[Answer], text: str) -> None:
    """Every answer is complete, and none lacks a word or has one twice."""
    assert len(answers) == _STREAMS
    assert not [answer.body[-200:] for answer in answers if not answer.is_complete]
    assert len({answer.text() for answer in answers}) == 1
    assert text.startswith(answers[0].text())
    for answer in answers:
        assert answer.finish_reason() == "length"
        assert answer.is_stream or answer.usage["completion_tokens"] == _TOKENS


async def _used_by(edge: Service, worker: Service) -> bool:
    """Whether one of two requests at once runs on that worker."""
    async with WorkerProbe(worker) as probe:
        connections = [await Connection.open(edge) for _ in range(2)]
        try:
            for connection in connections:
                await connection.send(http_request(chat_body(max_tokens=100, stream=True)))
            for connection in connections:
                await connection.read_until(b'"content":" ')
            return await probe.running() == 1
        finally:
            for connection in connections:
                connection.leave()


async def _lose_and_regain(
    stack: Stack,
    lose: Callable[[], None],
    regain: Callable[[], None],
    is_back: Callable[[], Awaitable[bool]],
    measured: Measured,
    text: str,
) -> None:
    """Lose a service under 64 requests, ask again, bring it back, see it used."""
    async with _crowd(stack.edge) as crowd:
        await crowd.ask_all()
        began = time.monotonic()
        lose()
        try:
            answers = await crowd.read_all()
            settled = time.monotonic() - began
            _judge(answers, text)
            following = await ask(stack.edge, chat_body(max_tokens=10))
        finally:
            regain()
    seconds = await eventually(is_back, "it is used again", 30)

    measured("all ended, used again, s", (round(settled, 2), round(seconds, 2)))
    assert following.is_complete
    assert text.startswith(following.text())


async def _connections_seen(edge: Service, peer: Service) -> int:
    return len([e for e in edge.events("peer_connected") if e["address"] == peer.address])


async def test_killed_worker(pairs: Stack, measured: Measured, paced_text: str) -> None:
    """SIGKILL of one of two workers: every answer goes on at the other one."""
    worker = pairs.workers[0]
    await _lose_and_regain(
        pairs,
        worker.kill,
        worker.start,
        lambda: _used_by(pairs.edge, worker),
        measured,
        paced_text,
    )


async def test_killed_tokenizer(pairs: Stack, measured: Measured, paced_text: str) -> None:
    """SIGKILL of one of two tokenizers: every answer goes on at the other one."""
    tokenizer = pairs.tokenizers[0]
    before = await _connections_seen(pairs.edge, tokenizer)

    async def is_back() -> bool:
        return await _connections_seen(pairs.edge, tokenizer) > before

    await _lose_and_regain(pairs, tokenizer.kill, tokenizer.start, is_back, measured, paced_text)


@pytest.mark.slow
async def test_frozen_worker(pairs: Stack, measured: Measured, paced_text: str) -> None:
    """SIGSTOP of one of two workers: as if it were dead; SIGCONT, and it is used again."""
    worker = pairs.workers[1]
    await _lose_and_regain(
        pairs,
        lambda: worker.signal(signal.SIGSTOP),
        lambda: worker.signal(signal.SIGCONT),
        lambda: _used_by(pairs.edge, worker),
        measured,
        paced_text,
    )


@pytest.mark.slow
async def test_frozen_tokenizer(pairs: Stack, measured: Measured, paced_text: str) -> None:
    """SIGSTOP of one of two tokenizers: as if it were dead; SIGCONT, and it is used again."""
    tokenizer = pairs.tokenizers[1]
    before = await _connections_seen(pairs.edge, tokenizer)

    async def is_back() -> bool:
        return await _connections_seen(pairs.edge, tokenizer) > before

    await _lose_and_regain(
        pairs,
        lambda: tokenizer.signal(signal.SIGSTOP),
        lambda: tokenizer.signal(signal.SIGCONT),
        is_back,
        measured,
        paced_text,
    )


async def test_stuck_edge(pairs: Stack, paced_text: str) -> None:
    """An edge that stands still for longer than its heartbeats loses nothing."""
    async with _crowd(pairs.edge) as crowd:
        await crowd.ask_all()
        pairs.edge.signal(signal.SIGSTOP)
        await asyncio.sleep(_HEARTBEAT * 3)
        pairs.edge.signal(signal.SIGCONT)
        _judge(await crowd.read_all(), paced_text)


async def test_only_worker_killed(lonely: Stack, measured: Measured, paced_text: str) -> None:
    """Without another worker: 502 or an error frame, 503 while it is away, then served again."""
    worker = lonely.workers[0]
    async with _crowd(lonely.edge) as crowd:
        await crowd.ask_all()
        worker.kill()
        answers = await crowd.read_all()
    away = await ask(lonely.edge, chat_body(stream=True))
    ready = await get(lonely.edge, "/ready")
    worker.start()

    async def served() -> bool:
        return (await ask(lonely.edge, chat_body(max_tokens=1))).is_complete

    seconds = await eventually(served, "requests are served again", 30)

    measured("used again, s", round(seconds, 2))
    for number, answer in enumerate(answers):
        assert answer.error is not None
        assert answer.error["code"] == "worker_lost"
        assert answer.error["type"] == "server_error"
        assert answer.status == (200 if _Crowd.is_stream(number) else 502)
        assert not answer.is_done
        assert not answer.is_stream or paced_text.startswith(answer.text())
    assert away.status == 503
    assert away.error is not None
    assert away.error["code"] == "no_worker_available"
    assert int(away.headers["retry-after"]) >= 1
    # Out of a load balancer's list it could not even say 503.
    assert ready.status == 200


@pytest.mark.slow
async def test_tokenizer_killed_beside_one_worker(lonely: Stack, paced_text: str) -> None:
    """A lost tokenizer moves requests to the other one, also where there is one worker."""
    tokenizer = lonely.tokenizers[0]
    before = await _connections_seen(lonely.edge, tokenizer)
    async with _crowd(lonely.edge) as crowd:
        await crowd.ask_all()
        tokenizer.kill()
        _judge(await crowd.read_all(), paced_text)
    tokenizer.start()

    async def is_back() -> bool:
        return await _connections_seen(lonely.edge, tokenizer) > before

    await eventually(is_back, "the tokenizer is connected again", 30)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_tokenizer_lost_while_it_renders(
    pairs: Stack, how: signal.Signals, measured: Measured
) -> None:
    """A prompt that is being rendered by a lost tokenizer is rendered by the other one."""
    tokenizer = pairs.tokenizers[0]
    before = await _connections_seen(pairs.edge, tokenizer)
    tokenizer.signal(signal.SIGSTOP)
    began = time.monotonic()
    body = chat_body(max_tokens=1)
    tasks = [asyncio.create_task(ask(pairs.edge, body)) for _ in range(4)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        num_waiting = sum(not task.done() for task in tasks)
        if how == signal.SIGKILL:
            tokenizer.kill()
        answers = await asyncio.gather(*tasks)
        seconds = time.monotonic() - began
    finally:
        if tokenizer.is_running:
            tokenizer.signal(signal.SIGCONT)
        else:
            tokenizer.start()

    async def is_back() -> bool:
        return await _connections_seen(pairs.edge, tokenizer) > before

    await eventually(is_back, "the tokenizer is connected again", 30)
    measured("all rendered, s", round(seconds, 2))
    assert num_waiting > 0
    assert [answer.body for answer in answers if not answer.is_complete] == []
    assert seconds < _SILENCE + 5
