"""The end of a draining tokenizer: what was said last arrives before the streams are closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeClose, DetokenizeOpen
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest, RenderResponse
from tests.support.in_process import small_registry
from tests.support.raw_detokenize import RawDetokenize, RunningTokenizer, running_tokenizer
from tokenizer_svc.main import _drain
from tokenizer_svc.registry import ModelRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model."""
    return small_registry(tmp_path_factory.mktemp("models"))


class GatedPool:
    """Runs jobs on the loop, once the gate is open."""

    def __init__(self) -> None:
        self.has_job = asyncio.Event()
        self.gate = asyncio.Event()

    async def run(self, _characters: int, job: Callable[..., Any], *args: Any) -> Any:
        self.has_job.set()
        await self.gate.wait()
        return job(*args)


async def _end(tokenizer: RunningTokenizer) -> None:
    """As the process does."""
    await _drain(tokenizer.server, tokenizer.servicer, 5)
    await tokenizer.server.stop(0)


async def test_the_last_text_of_a_draining_tokenizer_arrives(registry: ModelRegistry) -> None:
    """Outputs closed while it drains are answered; then the stream ends without error."""
    decoder = registry.find("").decoder()
    ids = [100] * 3000
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        handles = range(1, 65)
        opens = [DetokenizeOpen(handle=handle, decoder=decoder) for handle in handles]
        await raw.send(opens, [(handle, [100]) for handle in handles])
        for handle in handles:
            await raw.output(handle, entries=1)
        draining = asyncio.create_task(_end(tokenizer))
        closes = [
            DetokenizeClose(handle=handle, finish_reason=FINISH_REASON_STOP) for handle in handles
        ]
        await raw.send((), [(handle, ids) for handle in handles], closes)
        seen = [await raw.output(handle, closed=True) for handle in handles]
        await raw.read_to_end()
        await draining

    assert {3001} == {output.consumed for output in seen}
    assert {3001} == {output.released for output in seen}


@pytest.mark.parametrize("grace_seconds", [0, 0.05])
async def test_a_grace_that_is_over_ends_the_stream(
    registry: ModelRegistry, grace_seconds: float
) -> None:
    """With an output open it says that it drains, and then ends the stream without an error."""
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([DetokenizeOpen(handle=1, decoder=registry.find("").decoder())])
        await raw.send((), [(1, [100])])
        await raw.output(1, entries=1)
        await asyncio.wait_for(_drain(tokenizer.server, tokenizer.servicer, grace_seconds), 5)
        frames = await raw.read_to_end()

        assert frames[-1].header.draining
        assert 0 == tokenizer.servicer.activity.open_outputs


async def test_the_last_call_of_a_draining_tokenizer_is_answered(registry: ModelRegistry) -> None:
    """A Render that is under way when the drain begins ends with its answer, not with a cut."""
    async with running_tokenizer(registry) as tokenizer:
        request = RenderRequest(messages=[Message(role="user", content="Hello " * 30)])
        pool = GatedPool()
        tokenizer.servicer._pool = pool
        rendering = asyncio.ensure_future(_rendered(tokenizer.stub.Render(request)))
        await pool.has_job.wait()
        draining = asyncio.create_task(_end(tokenizer))
        pool.gate.set()
        response = await rendering
        await draining

    assert response.prompt_token_ids


async def _rendered(call: Awaitable[RenderResponse]) -> RenderResponse:
    return await call
