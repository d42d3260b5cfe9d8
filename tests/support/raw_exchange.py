"""One request and its whole answer over a plain socket, for tests without an event loop."""

import http.client
import socket


def exchange(port: int, request: bytes, seconds: float = 60) -> tuple[int, bytes]:
    """Send the bytes of a request to loopback; the status and the unframed body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()
