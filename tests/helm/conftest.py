"""All tests here run Helm's own commands: `make test-all` brings them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.helm.chart import Rendered, render
from tests.helm.scenes import SCENES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder as slow: its tools are fetched for that tier alone."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Rendered]:
    """A scene, rendered once."""

    @cache
    def of(scene: str) -> Rendered:
        return render(SCENES[scene], tmp_path_factory.mktemp(scene))

    return of
