"""All Deployments rolled at once from the previous version to this one, and back."""

from pathlib import Path

import pytest

from tests.contract.test_previous_version import DECLARED, tree_of
from tests.e2e.conftest import Measured
from tests.helm.chart import ROOT
from tests.kubelet.questions import questions
from tests.kubelet.scene import PREVIOUS, THIS, judge, opened

_STREAMS = 50
_TOKENS = 70


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(900)
async def test_rolling_between_versions(tmp_path: Path, measured: Measured) -> None:
    """There and back under 50 streams: nothing refused, lost or altered, nobody killed."""
    images = {PREVIOUS: tree_of(DECLARED, tmp_path / "tree"), THIS: ROOT}
    bodies = questions(_TOKENS)
    async with opened(tmp_path, images, first=PREVIOUS) as scene:
        answers = await scene.answers(bodies)
        async with scene.crowd(bodies, _STREAMS) as crowd:
            await crowd.have_text()
            await scene.upgrade(THIS)
            await scene.settle()
            tags = {pod.image_tag for pod in scene.cluster.pods()}
            await crowd.have_text()
            await scene.upgrade(PREVIOUS)
            await scene.settle()
            tags_back = {pod.image_tag for pod in scene.cluster.pods()}
        meetings = scene.meetings()

    measured("answers", len(crowd.exchanges))
    measured("kept connections of no use any more", len(crowd.void))
    assert ({THIS}, {PREVIOUS}) == (tags, tags_back)
    judge(crowd, answers)
    # On a kept connection; nothing was lost by it, and this version closes them instead.
    turned_away = {scene.pod_at(each.address).image_tag for each in crowd.turned_away}
    assert turned_away <= {PREVIOUS}
    mixed = {
        (edge, component, peer)
        for component in ("tokenizer", "worker")
        for edge, peer in ((THIS, PREVIOUS), (PREVIOUS, THIS))
    }
    assert mixed <= meetings
    scene.require_orderly_ends()
