import socket

import pytest

from headrace.cli.ports import PortClaims, claim_port
from headrace.runtime.errors import StartError


def test_a_free_port_is_given_back() -> None:
    """A port that can be listened on is returned; 0 gives one that is free."""
    chosen = claim_port("127.0.0.1", 0, "the edge", "--port")

    assert claim_port("127.0.0.1", chosen, "the edge", "--port") == chosen


def test_a_taken_port_names_who_needs_it_and_the_way_out() -> None:
    """A port that somebody listens on is one sentence with service, port and flag."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        message = f"port {port} on 127.0.0.1, which the edge needs, is taken: .* by --port"
        with pytest.raises(StartError, match=message):
            claim_port("127.0.0.1", port, "the edge", "--port")


def test_a_port_shared_by_reuseport_counts_as_taken() -> None:
    """A listener that would share its port with us would also take half of our connections."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        with pytest.raises(StartError, match="is taken"):
            claim_port("127.0.0.1", server.getsockname()[1], "the worker", "--worker-port")


def test_an_address_that_is_not_ours_is_named() -> None:
    """An address of another machine is one sentence with the system's reason."""
    with pytest.raises(
        StartError, match=r"the edge cannot listen on 192\.0\.2\.1:80: Cannot assign"
    ):
        claim_port("192.0.2.1", 80, "the edge", "--port")


def test_a_run_has_no_free_port_twice() -> None:
    """What the kernel hands out once more is passed over; a port that was asked for is not."""
    handed_out = iter([7, 7, 7, 8, 7])
    claims = PortClaims(lambda _host, _port, _what, _flag: next(handed_out))
    ports = [claims.claim("127.0.0.1", port, "the edge", "--port") for port in (0, 0, 7)]

    assert ports == [7, 8, 7]
