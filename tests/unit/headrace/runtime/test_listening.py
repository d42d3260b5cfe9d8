"""Addresses that others can reach are refused unless that is accepted."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.runtime.errors import StartError
from headrace.runtime.listening import (
    host_and_port,
    is_loopback,
    require_loopback,
    warn_of_clear_text,
)
from headrace.runtime.tls_settings import ServerTlsSettings
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


def test_checked_callers_may_come_from_elsewhere() -> None:
    """Keys or client certificates are enough."""
    require_loopback("worker", "10.0.0.1", insecure=False, checks_callers=True)


async def test_encryption_alone_checks_nobody() -> None:
    """TLS without client certificates still lets anybody in: it is refused."""
    tls = ServerTlsSettings(certificate_file=Path("c"), key_file=Path("k"))
    settings = WorkerSettings(host="10.0.0.1", engine="paced", tls=tls)
    with pytest.raises(StartError, match="insecure"):
        await run(settings, asyncio.Event())


async def test_mutual_tls_may_be_listened_on_from_elsewhere() -> None:
    """What stops this start is the next thing: there is no such model."""
    file = Path("x")
    tls = ServerTlsSettings(certificate_file=file, key_file=file, client_ca_file=file)
    settings = WorkerSettings(host="10.0.0.1", engine="paced", model="/nowhere/m", tls=tls)
    with pytest.raises(StartError, match="/nowhere/m"):
        await run(settings, asyncio.Event())


async def test_a_worker_does_not_listen_for_others_unasked() -> None:
    """The worker's own setting is read before anything is bound."""
    settings = WorkerSettings(host="0.0.0.0", engine="paced")  # noqa: S104 (this is refused)
    with pytest.raises(StartError, match="insecure"):
        await run(settings, asyncio.Event())


@pytest.mark.parametrize(
    ("host", "uses_tls", "warns"),
    [("10.0.0.1", False, True), ("10.0.0.1", True, False), ("127.0.0.1", False, False)],
)
def test_clear_text_to_others_is_warned_of(host: str, uses_tls: bool, warns: bool) -> None:
    """Keys can be read along the way."""
    with capture_logs() as logs:
        warn_of_clear_text("worker", host, uses_tls=uses_tls)

    assert [line["event"] for line in logs] == ["clear_text"] * warns


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "[::1]:80"), ("127.0.0.1", "127.0.0.1:80"), ("a.svc", "a.svc:80")]
)
def test_brackets(host: str, address: str) -> None:
    """An IPv6 address has its own colons."""
    assert host_and_port(host, 80) == address
