"""What holds for every test: loopback only, quiet logs, and no judgement of the machine's speed."""

import gc
import socket
from collections.abc import Callable, Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

_MEASURED = pytest.StashKey[list[str]]()
_REAL_CONNECT = socket.socket.connect

# An example, or the drawing of it, takes as long as the machine is busy with others; the tests'
# fixtures hold what examples share.
settings.register_profile(
    "tests",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tests")


def _connect_loopback(self: socket.socket, address: object) -> None:
    host = address[0] if isinstance(address, tuple) else ""
    is_loopback = host in ("::1", "localhost") or str(host).startswith("127.")
    if self.family != socket.AF_UNIX and not is_loopback:
        raise AssertionError(f"a test reached for {host}: loopback only")
    _REAL_CONNECT(self, address)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _connect_loopback)


@pytest.fixture(autouse=True, scope="session")
def _quiet_logs() -> Iterator[None]:
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()],
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    yield
    structlog.reset_defaults()


def _shares_the_sessions_loop(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("asyncio")
    return mark is not None and mark.kwargs.get("loop_scope") == "session"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have what shares the session's loop run first, in random order as the rest.

    A test with a loop of another kind ends that loop, and with it every engine opened on it.
    """
    items.sort(key=lambda item: not _shares_the_sessions_loop(item))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector pass over what lives to the end: thousands of tests, modules."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests measure until the end."""
    config.stash[_MEASURED] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show what was measured."""
    if config.stash[_MEASURED]:
        terminalreporter.section("measured")
        for line in sorted(config.stash[_MEASURED]):
            terminalreporter.write_line(line)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Notes a figure under a name; all of them are shown at the end of the run."""

    def note(name: str, value: object) -> None:
        request.config.stash[_MEASURED].append(f"{request.node.name}: {name}: {value}")

    return note
