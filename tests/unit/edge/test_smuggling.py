"""Requests whose end two parsers might see in different places."""

import pytest

from tests.support.edge_server import CHAT, raw_client, running_edge
from tests.support.fake_backend import FakeBackend

HIDDEN = "GET /health HTTP/1.1\r\nHost: edge\r\n\r\n"
CHUNKS = f"0\r\n\r\n{HIDDEN}"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (f"Content-Length: {len(CHUNKS)}\r\nTransfer-Encoding: chunked", CHUNKS),
        (f"Transfer-Encoding: chunked\r\nContent-Length: {len(CHUNKS)}", CHUNKS),
        ("Content-Length: 2\r\nContent-Length: 3", f"{{}}{HIDDEN}"),
        ("Content-Length: 2, 2", f"{{}}{HIDDEN}"),
        ("Content-Length: +2", f"{{}}{HIDDEN}"),
        ("Content-Length: -2", f"{{}}{HIDDEN}"),
        ("Content-Length: 0x2", f"{{}}{HIDDEN}"),
        ("Content-Length : 2", f"{{}}{HIDDEN}"),
        ("Transfer-Encoding: xchunked", CHUNKS),
        ("Transfer-Encoding: chunked, identity", CHUNKS),
        ("Transfer-Encoding : chunked", CHUNKS),
        ("Transfer-Encoding: chunked", f"0x0\r\n\r\n{HIDDEN}"),
        ("Transfer-Encoding: chunked", f"-1\r\n\r\n{HIDDEN}"),
        ("X-Folded: a\r\n b\r\nContent-Length: 2", f"{{}}{HIDDEN}"),
        ("X-Null: a\0b\r\nContent-Length: 2", f"{{}}{HIDDEN}"),
    ],
)
async def test_an_ambiguous_end_is_refused(headers: str, body: str) -> None:
    """One answer, 400 in the envelope; the connection ends, and what hid in the body is unread."""
    async with running_edge(FakeBackend()) as edge, raw_client(edge.port) as client:
        client.send(f"POST {CHAT} HTTP/1.1\r\nHost: edge\r\n{headers}\r\n\r\n{body}".encode())
        answer = await client.response()
        rest = await client.reader.read()

    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert rest == b""
