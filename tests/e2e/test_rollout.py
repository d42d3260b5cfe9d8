"""Workers and tokenizers that are replaced, or killed, one after the other under streams.

Their graces are shorter than the answers: what runs has to go on elsewhere, and no client may
notice. The paced engine says the same words to everybody; the openvino engine's reproducible
numerics give each request a text of its own, which an undisturbed run has told before.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.e2e.conftest import POOL_BYTES, Measured, open_stack
from tests.support.answer_check import require_own_ids
from tests.support.chat_client import Answer, ask, eventually
from tests.support.crowd import Crowd, gathered, streamed
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


def _crowd(edge: Service, bodies: Sequence[dict[str, Any]]) -> AbstractAsyncContextManager[Crowd]:
    return gathered(lambda: [edge.address], bodies)


def _judge(crowd: Crowd, undisturbed: Sequence[Answer]) -> None:
    """All are whole, each by one id, and as nobody's loss would have them."""
    crowd.require_no_problems(undisturbed)
    require_own_ids([each.answer for each in crowd.exchanges])


@pytest.mark.slow
async def test_rolling_all(pairs: Stack, measured: Measured) -> None:
    """SIGTERM to each worker and tokenizer in turn under 50 streams: nothing lost or altered."""
    bodies = [streamed("Tell me about water.", _TOKENS)] * _STREAMS
    alone = await ask(pairs.edge, bodies[0])
    num_cut = []
    async with _crowd(pairs.edge, bodies) as crowd:
        for service in (*pairs.workers, *pairs.tokenizers):
            await crowd.have_text()
            num_cut.append(await _lose(pairs, service, is_kill=False))

    measured("answers", len(crowd.exchanges))
    _judge(crowd, [alone] * _STREAMS)
    # Where streams happen to end, a service may be empty before its grace is over.
    assert sum(num_cut) >= 2
    assert max(num_cut) == 1


@pytest.mark.slow
async def test_killing_all(pairs: Stack) -> None:
    """SIGKILL of each worker and tokenizer in turn under 100 streams: no failed stream."""
    body = streamed("Tell me about water.", _KILLED_TOKENS)
    alone = await ask(pairs.edge, body)
    for service in (*pairs.workers, *pairs.tokenizers):
        async with _crowd(pairs.edge, [body] * _KILLED_STREAMS) as crowd:
            await crowd.have_text()
            lost = asyncio.create_task(_lose(pairs, service, is_kill=True))
            await crowd.finish()
            await lost

        _judge(crowd, [alone] * _KILLED_STREAMS)


async def test_grace_of_the_only_worker(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What runs at the grace where nothing else can take it ends by an error, never quietly."""
    with open_stack(tmp_path_factory, "lonely-rollout") as stack:
        stack.start_backend([WorkerSettings(engine="paced", **_SHORT)])
        stack.add_edge()
        async with _crowd(stack.edge, [streamed("Hello", 2000)] * 8) as crowd:
            await crowd.have_text()
            ended = asyncio.create_task(asyncio.to_thread(stack.workers[0].stop))
            await crowd.finish()
            code = await ended

    assert code == 0
    assert len(crowd.exchanges) == 8
    for exchange in crowd.exchanges:
        assert exchange.answer.error is not None
        assert exchange.answer.error["code"] == "draining"
        assert not exchange.answer.is_done


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(600)
async def test_rolling_exact(exact_pairs: Stack, measured: Measured) -> None:
    """Text of the openvino engine, drawn by a seed, is the same while all of them are rolled."""
    bodies = [
        streamed(f"{_STORY} Question {n}: what is there?", 96, temperature=0.8, seed=n)
        for n in range(8)
    ]
    undisturbed = [await ask(exact_pairs.edge, body) for body in bodies]
    num_cut = []
    async with _crowd(exact_pairs.edge, bodies) as crowd:
        for service in (*exact_pairs.workers, *exact_pairs.tokenizers):
            await crowd.have_text()
            num_cut.append(await _lose(exact_pairs, service, is_kill=False))

    measured("answers", len(crowd.exchanges))
    assert all(alone.is_complete for alone in undisturbed)
    assert len({alone.text() for alone in undisturbed}) == len(bodies)
    _judge(crowd, undisturbed)
    assert sum(num_cut) >= 2
