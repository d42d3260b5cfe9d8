"""Tokenizers that are lost while they render, and renders that are given up."""

import asyncio

import pytest

from headrace.client.answers import RenderedPrompt
from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.scripted_scene import Scene, scripted_scene

DRAINING = errors_pb2.ERROR_REASON_DRAINING


def begun(scene: Scene) -> asyncio.Task[RenderedPrompt]:
    """A small prompt that is being rendered."""
    request = PromptRequest("tiny", (ChatMessage("user", "x"),))
    return asyncio.create_task(scene.backend.render(request, timeout_seconds=30))


async def held_up(scene: Scene) -> tuple[asyncio.Task[RenderedPrompt], int]:
    """A prompt that a tokenizer renders without end, and which one; another one would."""
    for tokenizer in scene.tokenizers:
        tokenizer.render_gate.clear()
    rendering = begun(scene)
    waits = [asyncio.create_task(t.rendering.wait()) for t in scene.tokenizers]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    used = next(i for i, t in enumerate(scene.tokenizers) if t.rendering.is_set())
    if len(scene.tokenizers) > 1:
        scene.tokenizers[1 - used].render_gate.set()
    return rendering, used


async def test_a_lost_tokenizer_is_not_waited_for_while_rendering() -> None:
    """A tokenizer whose stream ends while it renders is replaced at once, not at the deadline."""
    async with scripted_scene(tokenizers=2) as scene:
        rendering, used = await held_up(scene)
        scene.tokenizer_streams[used].close()
        prompt = await asyncio.wait_for(rendering, 5)

    assert [5, 6, 7] == list(prompt.token_ids)


async def test_a_tokenizer_that_drops_its_calls_is_replaced_while_rendering() -> None:
    """A server that is stopped cancels its calls: that is its loss, not the caller's wish."""
    async with scripted_scene(tokenizers=2) as scene:
        rendering, used = await held_up(scene)
        server = scene.tokenizers[used].server
        assert server is not None
        await server.stop(0)
        prompt = await asyncio.wait_for(rendering, 5)

    assert [5, 6, 7] == list(prompt.token_ids)


async def test_the_only_tokenizer_lost_while_rendering_is_an_error() -> None:
    """Without another one the caller hears that there is none."""
    async with scripted_scene() as scene:
        scene.tokenizers[0].render_gate.clear()
        rendering = begun(scene)
        await scene.tokenizers[0].rendering.wait()
        scene.tokenizer.close()
        with pytest.raises(ServiceError) as caught:
            await asyncio.wait_for(rendering, 5)

    assert errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE == caught.value.reason
    # Clients may read it: where the tokenizer runs is not their business.
    assert "127.0.0.1" not in caught.value.message


async def test_a_tokenizer_whose_drain_cuts_a_render_has_not_crashed() -> None:
    """The render is tried at the other one as draining; alone it is refused as such, with 503."""
    for tokenizers in (2, 1):
        async with scripted_scene(tokenizers=tokenizers) as scene:
            rendering, used = await held_up(scene)
            stream = scene.tokenizer_streams[used]
            await stream.send(draining=True)
            stream.close()
            (result,) = await asyncio.gather(asyncio.wait_for(rendering, 5), return_exceptions=True)
            retries = scene.backend.retries

        if tokenizers == 2:
            assert isinstance(result, RenderedPrompt)
            assert retries == {"draining": 1}
        else:
            assert isinstance(result, ServiceError)
            assert (result.reason, result.row.http_status) == (DRAINING, 503)
            assert retries == {}


async def test_a_cancelled_render_stays_cancelled() -> None:
    """The caller's own cancellation ends the call and is not taken for a loss."""
    async with scripted_scene() as scene:
        scene.tokenizers[0].render_gate.clear()
        rendering = begun(scene)
        await scene.tokenizers[0].rendering.wait()
        rendering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rendering

        assert set() == scene.backend._tokenizers[0]._renders
