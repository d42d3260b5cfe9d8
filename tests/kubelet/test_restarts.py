"""`kubectl rollout restart` of each component in turn, under streams."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Measured
from tests.kubelet.questions import questions
from tests.kubelet.scene import COMPONENTS, Sizes, judge, opened

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.model]

_STREAMS = 50
_TOKENS, _LONG_TOKENS = 70, 90


@pytest.mark.timeout(600)
async def test_restart_of_each_component(tmp_path: Path, measured: Measured) -> None:
    """Under 50 streams: nothing refused, lost or altered, nobody killed, all pods new."""
    bodies = questions(_TOKENS)
    async with opened(tmp_path) as scene:
        answers = await scene.answers(bodies)
        before = set(scene.cluster.pods())
        async with scene.crowd(bodies, _STREAMS) as crowd:
            for name in COMPONENTS.values():
                await crowd.have_text()
                await scene.restart(name)
            after = set(scene.cluster.pods())

    measured("answers", len(crowd.exchanges))
    measured("kept connections found closed", len(crowd.void))
    assert (6, set()) == (len(after), before & after)
    judge(crowd, answers)
    # An edge closes connections, and refuses nothing.
    assert crowd.turned_away == []
    assert {"edge": 0, "tokenizer": 0, "worker": 0} == scene.num_cut()
    scene.require_orderly_ends()


@pytest.mark.timeout(600)
async def test_graces_shorter_than_the_streams(tmp_path: Path, measured: Measured) -> None:
    """What runs at a worker's or tokenizer's grace goes on elsewhere, unaltered."""
    bodies = questions(_LONG_TOKENS)
    async with opened(tmp_path, sizes=Sizes(drain_seconds=1)) as scene:
        answers = await scene.answers(bodies)
        async with scene.crowd(bodies, _STREAMS) as crowd:
            for name in ("worker", "tokenizer"):
                await crowd.have_text()
                await scene.restart(COMPONENTS[name])
        num_cut, num_continued = scene.num_cut(), scene.num_continued()

    measured("pods cut at their grace", num_cut)
    measured("answers, of them in several attempts", (len(crowd.exchanges), num_continued))
    judge(crowd, answers)
    assert num_cut["worker"] >= 1
    assert num_cut["tokenizer"] >= 1
    assert num_continued >= 5
    scene.require_orderly_ends()
