"""Names in addresses, and the machine's own resolver."""

import asyncio
import socket

import pytest

from headrace.client.resolver import PeerName, SystemResolver, peer_name


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50061",
        "[::1]:50061",
        "localhost:50061",
        "::1",
        "unix:/run/w",
        "worker",
        "w:x",
        "w:65536",
    ],
)
def test_what_is_one_peer_as_it_stands(address: str) -> None:
    """IP addresses, localhost and what is not host:port are not looked up."""
    assert peer_name(address) is None


@pytest.mark.parametrize("host", ["workers", "workers.headrace.svc.cluster.local", "w-1"])
def test_names_are_found_in_addresses(host: str) -> None:
    """Any other host is a name."""
    assert peer_name(f"{host}:50061") == PeerName(host, 50061)


async def test_the_system_knows_this_machine() -> None:
    """A name is looked up as the machine does it, one family alone, with its port."""
    found = await SystemResolver().addresses(PeerName("localhost", 50061))

    assert found in (["127.0.0.1:50061"], ["[::1]:50061"])


async def test_a_name_that_is_unknown_is_an_error_of_the_system() -> None:
    """What stands for nothing raises OSError."""
    with pytest.raises(OSError, match=r"\w"):
        await SystemResolver().addresses(PeerName("no-such-host.invalid", 1))


async def test_a_peer_of_both_families_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv4 where there is any, IPv6 in brackets otherwise; every address once, in order."""
    stream = socket.SOCK_STREAM
    four = [(socket.AF_INET, stream, 6, "", (host, 9)) for host in ("10.0.0.2", "10.0.0.1")]
    six = [(socket.AF_INET6, stream, 6, "", ("fd00::1", 9, 0, 0))] * 2
    answers = [[*six, *four], six]

    async def answer(*_args: object, **_options: object) -> object:
        return answers.pop(0)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
    both = await SystemResolver().addresses(PeerName("workers", 9))
    one = await SystemResolver().addresses(PeerName("workers", 9))

    assert both == ["10.0.0.1:9", "10.0.0.2:9"]
    assert one == ["[fd00::1]:9"]
