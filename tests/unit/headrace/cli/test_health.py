import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest

from headrace.cli.health import grpc_healthy, http_ready, http_status
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.server import GrpcServer
from headrace.runtime.tls_settings import ClientTlsSettings, ServerTlsSettings
from tests.support.certificates import Authority

Respond = Callable[[str], bytes]


@contextlib.asynccontextmanager
async def http_server(respond: Respond) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(respond(head.decode()))
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def is_pending(probe: Coroutine[object, object, None], until: asyncio.Event) -> bool:
    """Whether the probe still waits when the event has come."""
    task = asyncio.create_task(probe)
    await until.wait()
    pending = not task.done()
    task.cancel()
    return pending


async def test_an_edge_is_ready_when_ready_answers_200() -> None:
    """Other statuses are waited out; the probe asks /ready."""
    answers = [b"HTTP/1.1 503 No\r\n\r\n", b"broken\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
    paths: list[str] = []

    def respond(head: str) -> bytes:
        paths.append(head.split()[1])
        return answers[len(paths) - 1]

    async with http_server(respond) as port:
        await http_ready("127.0.0.1", port)

    assert paths == ["/ready"] * 3


@pytest.mark.parametrize(("answer", "status"), [(b"HTTP/1.1 503 X\r\n", 503), (b"", None)])
async def test_a_status_is_read_or_absent(answer: bytes, status: int | None) -> None:
    """A connection that ends without a status line has none."""
    async with http_server(lambda _: answer) as port:
        assert await http_status("127.0.0.1", port, "/") == status


async def test_nobody_there_is_no_status() -> None:
    """A refused connection is no error: the service is still starting."""
    async with http_server(lambda _: b"") as port:
        pass

    assert await http_status("127.0.0.1", port, "/") is None


async def test_a_grpc_server_is_healthy_when_it_says_so() -> None:
    """The probe outlasts a server that accepts calls before it is SERVING."""
    server = GrpcServer("127.0.0.1", 0, ["x.Y"])
    probe = asyncio.create_task(grpc_healthy("127.0.0.1", server.port))
    await server.serve()
    await probe
    await server.not_serving()
    told = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, told.set)

    assert await is_pending(grpc_healthy("127.0.0.1", server.port), told)
    await server.stop(0)


async def test_a_grpc_server_with_mutual_tls_is_probed_as_a_link_would(tmp_path: Path) -> None:
    """With the edge's certificate the probe gets through; without one it waits."""
    authority = Authority(tmp_path)
    served, shown = authority.issue("127.0.0.1"), authority.issue("edge")
    tls = ServerTlsSettings(
        certificate_file=served.certificate, key_file=served.key, client_ca_file=authority.file
    )
    server = GrpcServer("127.0.0.1", 0, [], tls=tls)
    await server.serve()
    client = ClientTlsSettings(
        ca_file=authority.file, certificate_file=shown.certificate, key_file=shown.key
    )
    await grpc_healthy("127.0.0.1", server.port, PeerCredentials(client))
    told = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, told.set)
    nobody = PeerCredentials(ClientTlsSettings(ca_file=authority.file))

    assert await is_pending(grpc_healthy("127.0.0.1", server.port, nobody), told)
    await server.stop(0)
