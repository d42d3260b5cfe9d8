"""What holds of every release, and that a chart broken on purpose is told from a good one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helm.broken import BREAKS, Break
from tests.helm.chart import CHART, Rendered, render
from tests.helm.invariants import INVARIANTS
from tests.helm.scenes import SCENES


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("invariant", INVARIANTS)
def test_holds(invariant: str, scene: str, rendered: Callable[[str], Rendered]) -> None:
    """No sentence about any object."""
    assert list(INVARIANTS[invariant](rendered(scene))) == []


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: f"{broken.invariant}-{broken.what}")
def test_bites(broken: Break, tmp_path: Path) -> None:
    """A patched copy of the chart, and the invariant has something to say of it."""
    chart = tmp_path / "headrace"
    shutil.copytree(CHART, chart)
    file = chart / "templates" / broken.file
    text = file.read_text()
    assert text.count(broken.old) >= 1, broken
    file.write_text(text.replace(broken.old, broken.new))

    said = list(INVARIANTS[broken.invariant](render(SCENES[broken.scene], tmp_path, chart=chart)))
    assert said


def test_every_invariant_is_broken_once() -> None:
    """None is left untried."""
    assert {broken.invariant for broken in BREAKS} == INVARIANTS.keys()
