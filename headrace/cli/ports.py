"""Ports for services that are about to start: free ones, checked before anything else happens."""

import errno
import socket
from collections.abc import Callable
from typing import TypeAlias

from headrace.runtime.errors import StartError


def claim_port(host: str, port: int, what: str, flag: str) -> int:
    """The port if it can be listened on, or any free one for 0.

    Nothing is held: the service binds it a moment later and reports itself what changed meanwhile.
    Raises StartError, naming `what` needs the port and the `flag` that chooses another.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the services bind: a port in TIME_WAIT is free, one that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise StartError(
                    f"port {port} on {host}, which {what} needs, is taken: choose another by {flag}"
                ) from error
            raise StartError(
                f"{what} cannot listen on {host}:{port}: {error.strerror or error}"
            ) from error
        chosen: int = probe.getsockname()[1]
        return chosen


Claim: TypeAlias = Callable[[str, int, str, str], int]


class PortClaims:
    """The ports of one run: what is free for one of its services is no other one's.

    A port that is held no more may be handed out by the kernel once more.
    """

    def __init__(self, claim: Claim = claim_port) -> None:
        self._claim = claim
        self._claimed: set[int] = set()

    def claim(self, host: str, port: int, what: str, flag: str) -> int:
        """As `claim_port`; for 0 none that was claimed here before. Raises StartError."""
        chosen = self._claim(host, port, what, flag)
        while port == 0 and chosen in self._claimed:
            chosen = self._claim(host, port, what, flag)
        self._claimed.add(chosen)
        return chosen
