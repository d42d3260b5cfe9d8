"""Addresses that others can reach are refused unless that is accepted."""

import asyncio

import pytest

from headrace.runtime.errors import StartError
from headrace.runtime.listening import is_loopback, require_loopback
from worker.main import run
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 (this is what is refused)
        ("::", False),
        ("10.0.0.1", False),
        ("gpu-1.example", False),
        ("", False),
    ],
)
def test_only_this_machines_own_addresses_are_loopback(host: str, expected: bool) -> None:
    """Names other than localhost may be anything."""
    assert expected == is_loopback(host)


def test_the_refusal_names_host_and_setting() -> None:
    """One sentence says what to change; accepting it is enough."""
    with pytest.raises(StartError, match=r"worker\.host is 10\.0\.0\.1.*worker\.insecure"):
        require_loopback("worker", "10.0.0.1", insecure=False)
    require_loopback("worker", "10.0.0.1", insecure=True)


async def test_a_worker_does_not_listen_for_others_unasked() -> None:
    """The worker's own setting is read before anything is bound."""
    settings = WorkerSettings(host="0.0.0.0", engine="paced")  # noqa: S104 (this is refused)
    with pytest.raises(StartError, match="insecure"):
        await run(settings, asyncio.Event())
