"""SIGKILL of workers, tokenizers and edges, two of each, under streams."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Measured
from tests.kubelet.questions import plain_questions
from tests.kubelet.scene import COMPONENTS, Scene, judge, opened
from tests.support.chat_client import WorkerProbe, eventually
from tests.support.crowd import Crowd, Place, gathered

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.model]

_STREAMS, _TOKENS = 100, 80
_EDGE_STREAMS, _LONG_TOKENS = 12, 200


async def _kill_one_after_the_other(scene: Scene, component: str, measured: Measured) -> None:
    bodies = plain_questions(_TOKENS, ignore_eos=True)
    answers = await scene.answers(bodies)
    for pod in scene.cluster.pods(component):
        async with scene.crowd(bodies, _STREAMS) as crowd:
            # Once each: those that were aboard are not to be aboard the next one too.
            crowd.stop_asking()
            await crowd.have_text()
            num_open = len(crowd.open_streams)
            pod.kill()
        await scene.settle()

        measured(f"streams open when {pod.name} was killed", num_open)
        assert num_open >= _STREAMS * 0.9
        assert [-9] == [event.code for event in scene.cluster.events.of("exited", pod.name)]
        assert 1 == pod.num_restarts
        judge(crowd, answers)


@pytest.mark.timeout(900)
async def test_killed_workers_and_tokenizers(tmp_path: Path, measured: Measured) -> None:
    """Each in turn under 100 streams: no stream fails, no text differs, all are back."""
    async with opened(tmp_path) as scene:
        await _kill_one_after_the_other(scene, "worker", measured)
        await _kill_one_after_the_other(scene, "tokenizer", measured)
        num_continued = scene.num_continued()

    measured("answers in several attempts", num_continued)
    # Half of them were aboard each of the two workers.
    assert num_continued >= _STREAMS * 0.8
    assert scene.cluster.events.of("killed") == []
    scene.cluster.require_clean_logs()


async def _held(scene: Scene) -> tuple[int, int]:
    """Requests that run on all workers, and blocks that these use."""
    loads = []
    for address in scene.cluster.endpoints(COMPONENTS["worker"]):
        async with WorkerProbe(Place(address)) as probe:
            loads.append(await probe.load())
    running = sum(load.running_requests for load in loads)
    return running, sum(load.referenced_blocks for load in loads)


@pytest.mark.timeout(600)
async def test_killed_edge(tmp_path: Path, measured: Measured) -> None:
    """Only its connections break; a second later no worker runs or holds anything of it."""
    bodies = plain_questions(_LONG_TOKENS, ignore_eos=True)[:_EDGE_STREAMS]
    async with opened(tmp_path) as scene:
        answers = await scene.answers(bodies)
        lost, other = scene.cluster.pods("edge")
        there, elsewhere = (Place(scene.edge_address(pod)) for pod in (lost, other))
        async with _open_at(there, bodies) as broken, _open_at(elsewhere, bodies) as whole:
            before = await _held(scene)
            lost.kill()

            async def only_the_others() -> bool:
                return (await _held(scene))[0] == len(whole.open_streams)

            seconds = await eventually(only_the_others, "only the other edge's streams run", 1)
            num_left = len(whole.open_streams)
        await scene.settle()
        # Once more, with nothing beside it.
        async with _open_at(there, bodies) as broken_again:
            alone = await _held(scene)
            lost.kill()

            async def nothing() -> bool:
                return await _held(scene) == (0, 0)

            seconds_alone = await eventually(nothing, "no worker runs or holds anything", 1)
        await scene.settle()
        async with _open_at(there, bodies) as back:
            pass

    measured("running and blocks before, s", (before, round(seconds, 2)))
    measured("alone: running and blocks before, s", (alone, round(seconds_alone, 2)))
    assert (2 * _EDGE_STREAMS, _EDGE_STREAMS) == (before[0], alone[0])
    assert alone[1] >= _EDGE_STREAMS
    assert _EDGE_STREAMS == num_left
    for exchange in (*broken.exchanges, *broken_again.exchanges):
        assert exchange.answer.is_cut
    judge(whole, answers)
    judge(back, answers)
    assert [-9, -9, 0] == [e.code for e in scene.cluster.events.of("exited", lost.name)]
    assert scene.cluster.events.of("killed") == []
    scene.cluster.require_clean_logs()


@asynccontextmanager
async def _open_at(edge: Place, bodies: Sequence[dict[str, Any]]) -> AsyncIterator[Crowd]:
    """Each is asked once at an edge, and has text; at the end they have been read."""
    async with gathered(lambda: [edge.address], bodies) as crowd:
        crowd.stop_asking()
        await crowd.have_text()
        yield crowd
