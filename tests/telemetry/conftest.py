"""One collector and one recorder for all; each module's stack sends to that collector."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.otlp_recorder import OtlpRecorder, running_recorder
from tests.telemetry.collector import Collector
from tests.telemetry.traced_stack import TracedStack

OpenStack: TypeAlias = Callable[[str], AbstractContextManager[TracedStack]]
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in here starts processes and needs the collector."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def recorder() -> Iterator[OtlpRecorder]:
    """Where the collector's spans end."""
    with running_recorder() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def collector(
    recorder: OtlpRecorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collector]:
    """A collector that hands on to the recorder."""
    collector = Collector(tmp_path_factory.mktemp("collector"), recorder.endpoint)
    try:
        collector.start()
        yield collector
    finally:
        collector.kill()


@pytest.fixture(scope="session")
def open_stack(
    recorder: OtlpRecorder, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> OpenStack:
    """Opens a stack that sends to the collector; closed and checked at the end."""

    @contextmanager
    def opened(name: str) -> Iterator[TracedStack]:
        stack = TracedStack(tmp_path_factory.mktemp(name), collector.endpoint, recorder)
        try:
            yield stack
        finally:
            stack.close()

    return opened
