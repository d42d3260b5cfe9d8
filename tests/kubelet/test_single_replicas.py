"""One replica of each: what clients see while its worker or tokenizer is away."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.conftest import Measured
from tests.kubelet.questions import plain_questions
from tests.kubelet.scene import EDGE, Scene, Sizes, judge, opened
from tests.support.chat_client import Answer, ask
from tests.support.crowd import Crowd, Place, streamed

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.model]

_STREAMS, _TOKENS = 8, 200
_ASK_EVERY_SECONDS = 0.25


async def _until_served(scene: Scene) -> list[Answer]:
    """Ask at the Service's address until an answer comes; returns the refusals before it."""
    refused: list[Answer] = []
    while True:
        [address] = scene.listed()
        answer = await ask(Place(address), streamed("Tell me about water.", 4))
        if answer.is_complete:
            return refused
        refused.append(answer)
        await asyncio.sleep(_ASK_EVERY_SECONDS)


def _require_told(crowd: Crowd) -> None:
    """Each stream ended by an error frame, which says that another attempt may do."""
    for exchange in crowd.exchanges:
        answer = exchange.answer
        assert answer.error is not None, exchange
        assert (200, "worker_lost", False) == (answer.status, answer.error["code"], answer.is_done)


def _require_busy(refused: list[Answer]) -> None:
    """Each is a 503 that says when to come again."""
    for answer in refused:
        assert answer.error is not None
        assert (503, "no_worker_available") == (answer.status, answer.error["code"])
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.timeout(400)
async def test_the_only_one_is_killed(tmp_path: Path, measured: Measured) -> None:
    """Streams are told, requests get 503 with Retry-After from an edge that stays listed."""
    bodies = plain_questions(_TOKENS)[:_STREAMS]
    async with opened(tmp_path, sizes=Sizes(replicas=1)) as scene:
        answers = await scene.answers(bodies)
        for component in ("worker", "tokenizer"):
            [pod] = scene.cluster.pods(component)
            async with scene.crowd(bodies, _STREAMS, keeping=False) as crowd:
                crowd.stop_asking()
                await crowd.have_text()
                pod.kill()
                await crowd.finish()
            refused = await _until_served(scene)
            await scene.settle()
            async with scene.crowd(bodies, _STREAMS, keeping=False) as after:
                after.stop_asking()

            measured(f"refused while the {component} was away", len(refused))
            _require_told(crowd)
            assert len(refused) >= 3
            _require_busy(refused)
            judge(after, answers)
        removed = scene.cluster.events.of("endpoint_removed", EDGE)

    assert removed == []
    assert scene.cluster.events.of("killed") == []
    scene.cluster.require_clean_logs()
