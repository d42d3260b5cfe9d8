"""The event loop that the conformance tests run on, and the one real stack that they share."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from tests.conformance.golden_files import GoldenFiles
from tests.support.served_seeds import ServedSeeds, served_seeds


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The service's own loop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedSeeds]:
    """The example of the vendors' documents, served with the default model."""
    with served_seeds(tmp_path_factory.mktemp("served")) as served:
        yield served


def pytest_addoption(parser: pytest.Parser) -> None:
    """Writing the transcripts anew."""
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/conformance/golden anew"
    )


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> GoldenFiles:
    """The transcripts on record."""
    return GoldenFiles(bool(pytestconfig.getoption("--update-golden", default=False)))
