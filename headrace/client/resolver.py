"""What a peer's name stands for: the names in addresses, and who looks them up."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Protocol

_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class PeerName:
    """A host's name and the port of every peer behind it."""

    host: str
    port: int


def peer_name(address: str) -> PeerName | None:
    """The name in an address host:port; None where the address is one peer as it stands.

    That is an IP address, `localhost`, and whatever is not host:port at all.
    """
    host, colon, port = address.rpartition(":")
    is_port = colon and port.isascii() and port.isdigit() and int(port) <= _LAST_PORT
    if not is_port or not host or host == "localhost" or "/" in host or ":" in host:
        return None
    try:
        ip_address(host)
    except ValueError:
        return PeerName(host, int(port))
    return None


class Resolver(Protocol):
    """Looks names up."""

    async def addresses(self, name: PeerName) -> Sequence[str]:
        """All that the name stands for, as host:port; raises OSError where it stands for nothing.

        It is not cancelled: the system's own cannot be.
        """


class SystemResolver:
    """The machine's own way: hosts file, search domains, DNS; on a thread, never on the loop."""

    async def addresses(self, name: PeerName) -> Sequence[str]:
        """Part of Resolver; in a stable order.

        One family alone, IPv4 where there is any: what has addresses of both is one peer.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
        hosts = {family: set[str]() for family in (socket.AF_INET, socket.AF_INET6)}
        for family, _, _, _, address in found:
            hosts.get(socket.AddressFamily(family), set()).add(str(address[0]))
        if hosts[socket.AF_INET]:
            return [f"{host}:{name.port}" for host in sorted(hosts[socket.AF_INET])]
        return [f"[{host}]:{name.port}" for host in sorted(hosts[socket.AF_INET6])]


@dataclass(frozen=True, slots=True)
class NameLookup:
    """How names are followed."""

    resolver: Resolver = field(default_factory=SystemResolver)
    every_seconds: float = 2.0
    """Between the end of one look-up of a name and the next."""
    limit_seconds: float = 5.0
    """Beyond it a look-up counts as failed; its answer is still taken when it comes."""
