"""The event loops that the edge's tests run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The service's own loop; for streams the standard one too."""
    factories = {"uvloop": uvloop.new_event_loop}
    if item.path.name.startswith("test_sse"):
        factories["asyncio"] = asyncio.new_event_loop
    return factories
