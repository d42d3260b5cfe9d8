"""Workers and tokenizers that are replaced, or killed, one after the other under streams.

Their graces are shorter than the answers: what runs has to go on elsewhere, and no client may
notice. The paced engine says the same words to everybody; the openvino engine's reproducible
numerics give each request a text of its own, which an undisturbed run has told before.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.e2e.conftest import POOL_BYTES, Measured, open_stack
from tests.support.chat_client import Answer, ask, chat_body, eventually
from tests.support.stack import Service, Stack
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_TOKENS = 250
_STREAMS = 50
_KILLED_STREAMS, _KILLED_TOKENS = 100, 110
_SHORT = {"drain_delay_seconds": 0.2, "drain_grace_seconds": 0.4}
_STORY = "A boat goes down the river, past the mill and the old bridge, to the harbour."


def _start(stack: Stack, worker: WorkerSettings) -> None:
    """Two workers, two tokenizers, one edge."""
    stack.start_backend([worker] * 2, [TokenizerSettings(**_SHORT)] * 2)
    stack.add_edge()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of paced workers."""
    with open_stack(tmp_path_factory, "rollout") as stack:
        _start(stack, WorkerSettings(engine="paced", paced=PacedSettings(), **_SHORT))
        yield stack


@pytest.fixture(scope="module")
def exact_pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of openvino workers in reproducible numerics."""
    engine = OpenVinoSettings(numerics="reproducible", kv_cache_bytes=POOL_BYTES)
    with open_stack(tmp_path_factory, "exact-rollout") as stack:
        _start(stack, WorkerSettings(openvino=engine, **_SHORT))
        yield stack


class _Crowd:
    """Streams that never stop: each client asks its question again once it is answered."""

    def __init__(self, edge: Service, bodies: Sequence[dict[str, Any]]) -> None:
        self._edge = edge
        self.answers: list[list[Answer]] = [[] for _ in bodies]
        """Of each client, in order; the last may still grow."""
        self._is_enough = False
        self._tasks = [asyncio.create_task(self._ask(i, body)) for i, body in enumerate(bodies)]

    async def _ask(self, number: int, body: dict[str, Any]) -> None:
        while not self._is_enough:
            self.answers[number].append(Answer())
            await ask(self._edge, body, into=self.answers[number][-1])

    async def have_text(self) -> None:
        """Return when every client's newest answer has begun."""

        async def holds() -> bool:
            return all(answers and answers[-1].has_text for answers in self.answers)

        await eventually(holds, "every stream has text", 60)

    async def finish(self) -> None:
        """Return when everybody has read his last answer."""
        self._is_enough = True
        await asyncio.gather(*self._tasks)

    async def leave(self) -> None:
        """Be gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def _crowd(edge: Service, bodies: Sequence[dict[str, Any]]) -> AsyncIterator[_Crowd]:
    crowd = _Crowd(edge, bodies)
    try:
        yield crowd
        await crowd.finish()
    finally:
        await crowd.leave()


def _stream(content: str, max_tokens: int, **fields: Any) -> dict[str, Any]:
    usage = {"include_usage": True}
    return chat_body(content, max_tokens=max_tokens, stream=True, stream_options=usage, **fields)


async def _seen(edge: Service, peer: Service) -> int:
    return sum(line["address"] == peer.address for line in edge.events("peer_connected"))


async def _lose(stack: Stack, service: Service, *, is_kill: bool) -> int:
    """End a service and start it again; whether its grace was over when it ended, as 1 or 0."""
    before = await _seen(stack.edge, service)
    await asyncio.to_thread(service.kill if is_kill else service.stop)
    num_cut = len(service.events("drain_grace_over"))
    # Processes are started from the main thread alone.
    service.spawn()
    await asyncio.to_thread(service.await_listening)

    async def is_back() -> bool:
        return await _seen(stack.edge, service) > before

    await eventually(is_back, f"{service.name} is used again", 60)
    return num_cut


def _judge(answers: Sequence[Answer], text: str, tokens: int) -> None:
    """All are whole, each by one id, and as nobody's loss would have them."""
    assert [answer.body[-300:] for answer in answers if not answer.is_complete] == []
    assert {answer.text() for answer in answers} == {text}
    assert {answer.usage["completion_tokens"] for answer in answers} == {tokens}
    ids = [{event["id"] for event in answer.events} for answer in answers]
    assert {len(own) for own in ids} == {1}
    assert len(set.union(*ids)) == len(answers)


@pytest.mark.slow
async def test_rolling_all(pairs: Stack, paced_text: str, measured: Measured) -> None:
    """SIGTERM to each worker and tokenizer in turn under 50 streams: nothing lost or altered."""
    bodies = [_stream("Tell me about water.", _TOKENS)] * _STREAMS
    num_cut = []
    async with _crowd(pairs.edge, bodies) as crowd:
        for service in (*pairs.workers, *pairs.tokenizers):
            await crowd.have_text()
            num_cut.append(await _lose(pairs, service, is_kill=False))
    answers = [answer for own in crowd.answers for answer in own]

    measured("answers", len(answers))
    _judge(answers, paced_text, _TOKENS)
    # Where streams happen to end, a service may be empty before its grace is over.
    assert sum(num_cut) >= 2
    assert max(num_cut) == 1


@pytest.mark.slow
async def test_killing_all(pairs: Stack, paced_text: str) -> None:
    """SIGKILL of each worker and tokenizer in turn under 100 streams: no failed stream."""
    body = _stream("Tell me about water.", _KILLED_TOKENS)
    for service in (*pairs.workers, *pairs.tokenizers):
        async with _crowd(pairs.edge, [body] * _KILLED_STREAMS) as crowd:
            await crowd.have_text()
            lost = asyncio.create_task(_lose(pairs, service, is_kill=True))
            await crowd.finish()
            await lost
        answers = [answer for own in crowd.answers for answer in own]

        assert paced_text.startswith(answers[0].text())
        _judge(answers, answers[0].text(), _KILLED_TOKENS)


async def test_grace_of_the_only_worker(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What runs at the grace where nothing else can take it ends by an error, never quietly."""
    with open_stack(tmp_path_factory, "lonely-rollout") as stack:
        stack.start_backend([WorkerSettings(engine="paced", **_SHORT)])
        stack.add_edge()
        async with _crowd(stack.edge, [_stream("Hello", 2000)] * 8) as crowd:
            await crowd.have_text()
            ended = asyncio.create_task(asyncio.to_thread(stack.workers[0].stop))
            crowd._is_enough = True
            await crowd.finish()
            code = await ended
        answers = [answer for own in crowd.answers for answer in own]

    assert code == 0
    assert len(answers) == 8
    for answer in answers:
        assert answer.error is not None
        assert answer.error["code"] == "worker_lost"
        assert not answer.is_done


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
async def test_rolling_exact(exact_pairs: Stack, measured: Measured) -> None:
    """Text of the openvino engine, drawn by a seed, is the same while all of them are rolled."""
    bodies = [
        _stream(f"{_STORY} Question {n}: what is there?", 96, temperature=0.8, seed=n)
        for n in range(8)
    ]
    undisturbed = [await ask(exact_pairs.edge, body) for body in bodies]
    num_cut = []
    async with _crowd(exact_pairs.edge, bodies) as crowd:
        for service in (*exact_pairs.workers, *exact_pairs.tokenizers):
            await crowd.have_text()
            num_cut.append(await _lose(exact_pairs, service, is_kill=False))

    measured("answers", sum(len(own) for own in crowd.answers))
    for alone, own in zip(undisturbed, crowd.answers, strict=True):
        assert alone.is_complete
        _judge(own, alone.text(), alone.usage["completion_tokens"])
    assert len({alone.text() for alone in undisturbed}) == len(bodies)
    assert sum(num_cut) >= 2
