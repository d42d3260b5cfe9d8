"""Ports for services that are about to start: free ones, checked before anything else happens."""

import errno
import socket

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
