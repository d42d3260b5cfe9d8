"""The life of an edge process: start, serve, drain, end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import structlog

from edge.main import EdgeTelemetry, run, serve
from edge.settings import BackendSettings, EdgeSettings, ServerSettings
from headrace.client.answers import ChatBackend
from headrace.runtime.errors import StartError
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawResponse,
    edge_settings,
    parse_events,
    raw_client,
    request_head,
    running_edge,
)
from tests.support.fake_backend import FakeBackend

Open = Callable[[BackendSettings, EdgeTelemetry], AbstractAsyncContextManager[ChatBackend]]


def opener(backend: FakeBackend, log: list[str]) -> Open:
    @asynccontextmanager
    async def open_backend(
        settings: BackendSettings, telemetry: EdgeTelemetry
    ) -> AsyncIterator[ChatBackend]:
        log.append("opened")
        yield backend
        log.append("closed")

    return open_backend


class Process:
    """`serve` in a task, and its port."""

    def __init__(self, backend: FakeBackend, settings: EdgeSettings) -> None:
        self.log: list[str] = []
        self.stop = asyncio.Event()
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            serve(settings, self.stop, opener(backend, self.log), self._port.set_result)
        )

    async def port(self) -> int:
        return await self._port


async def _ready(port: int) -> RawResponse:
    async with raw_client(port) as client:
        client.get("/ready")
        return await client.response()


async def test_drain_finishes_what_runs() -> None:
    """After a request to stop nothing new is taken, what runs ends whole, then the process ends."""
    backend = FakeBackend(texts=None)
    process = Process(backend, edge_settings())
    port = await process.port()
    async with raw_client(port) as streaming, raw_client(port) as idle:
        idle.get("/ready")
        assert (await idle.response()).status == 200
        streaming.post({**HELLO, "stream": True})
        generation = await backend.next_generation()
        generation.start()
        head = await streaming.head()

        process.stop.set()
        assert await idle.reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        generation.text("to the end")
        generation.finish()
        generation.done()
        events = parse_events(b"".join([chunk async for chunk in streaming.chunks()]))
        # Nothing was said of it when the stream began: a client may want to ask once more.
        assert "connection" not in head.headers
        assert await streaming.reader.read() == b""
        await process.task

    assert events[-1] == "[DONE]"
    assert ["opened", "closed"] == process.log


async def test_before_it_drains_an_edge_serves_what_comes() -> None:
    """For the delay it is not ready, takes requests and connections, and closes them after."""
    process = Process(FakeBackend(), edge_settings(server={"drain_delay_seconds": 300}))
    port = await process.port()
    async with raw_client(port) as known:
        known.get("/ready")
        assert (await known.response()).status == 200
        process.stop.set()
        while (ready := await _ready(port)).status != 503:
            pass
        async with raw_client(port) as newcomer:
            for client in (known, newcomer):
                client.post(HELLO)
                served = await client.response()
                assert (200, "close") == (served.status, served.headers["connection"])
                assert await client.reader.read() == b""
    process.task.cancel()
    await asyncio.gather(process.task, return_exceptions=True)

    assert "draining" == ready.error["code"]


async def test_an_edge_drains_when_its_delay_is_over() -> None:
    """Then it ends as it does without one."""
    process = Process(FakeBackend(), edge_settings(server={"drain_delay_seconds": 0.05}))
    await process.port()
    process.stop.set()

    await asyncio.wait_for(process.task, 10)


@pytest.mark.parametrize("stream", [False, True])
async def test_end_of_grace(stream: bool) -> None:
    """What still runs at the end of the grace gets an error, never a quiet end, and is aborted."""
    backend = FakeBackend(texts=None)
    process = Process(backend, edge_settings(server={"drain_grace_seconds": 0.05}))
    async with raw_client(await process.port()) as client:
        client.post({**HELLO, "stream": stream})
        generation = await backend.next_generation()
        if stream:
            generation.start()
            await client.head()
        process.stop.set()
        if stream:
            body = b"".join([chunk async for chunk in client.chunks()])
            error = parse_events(body)[-1]["error"]
        else:
            error = (await client.response()).error
        await process.task

    assert error["code"] == "draining"
    assert generation.aborted.is_set()


async def test_end_of_grace_in_half_a_body() -> None:
    """A request whose body is still on its way at the end of the grace is refused."""
    process = Process(FakeBackend(), edge_settings(server={"drain_grace_seconds": 0.05}))
    async with raw_client(await process.port()) as client:
        headers = {"Content-Length": 100, "Expect": "100-continue"}
        client.send(request_head("POST", CHAT, "1.1", headers))
        assert (await client.head()).status == 100
        process.stop.set()
        response = await client.response()
        await process.task

        assert (503, "draining") == (response.status, response.error["code"])


async def test_idle_connections_do_not_hold_up() -> None:
    """A connection without a request does not delay the end."""
    process = Process(FakeBackend(), edge_settings(server={"drain_grace_seconds": 60}))
    async with raw_client(await process.port()) as idle:
        idle.get("/health")
        await idle.response()
        process.stop.set()
        async with asyncio.timeout(30):
            await process.task

        assert await idle.reader.read() == b""


async def test_taken_port() -> None:
    """A taken port is one clear sentence, and the backend is closed again."""
    async with running_edge(FakeBackend()) as edge:
        process = Process(FakeBackend(), edge_settings(server={"port": edge.port}))
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1 port {edge.port}"):
            await process.task


async def test_unusable_tls_files() -> None:
    """TLS files that cannot be read are one clear sentence."""
    tls = {"tls_certificate_file": "/nowhere/cert.pem", "tls_key_file": "/nowhere/key.pem"}
    process = Process(FakeBackend(), edge_settings(server=tls))
    with pytest.raises(StartError, match=r"TLS file /nowhere/cert\.pem cannot be read"):
        await process.task


async def test_exposure() -> None:
    """Without keys only loopback is listened on, unless that is said to be wanted."""
    exposed = ServerSettings(host="192.0.2.1", port=0)
    with pytest.raises(StartError, match=r"edge\.server\.host is 192.*edge\.server\.insecure"):
        await run(EdgeSettings(server=exposed), asyncio.Event())
    wanted = exposed.model_copy(update={"insecure": True})
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1"):
        await run(EdgeSettings(server=wanted), asyncio.Event())


async def test_low_limit_of_open_files() -> None:
    """More admitted requests than connections are possible is worth a warning."""
    admission = {"max_concurrent_requests": 100_000, "max_queued_requests": 100_000}
    with structlog.testing.capture_logs() as logs:
        process = Process(FakeBackend(), edge_settings(admission=admission))
        process.stop.set()
        await process.task

    (warning,) = [line for line in logs if line["event"] == "open_files_limit_low"]
    assert warning["admitted_requests"] == 200_000 >= warning["limit"]


async def test_run_without_services() -> None:
    """With nothing behind it the edge runs, says that it is not ready, and stops."""
    settings = edge_settings(
        backend={"worker_addresses": ("127.0.0.1:1",), "tokenizer_addresses": ("127.0.0.1:1",)}
    )
    stop = asyncio.Event()
    stop.set()

    await run(settings, stop)


def test_incomplete_tls() -> None:
    """A certificate without a key, or marks in the wrong order, do not pass the settings."""
    with pytest.raises(ValueError, match="set together"):
        edge_settings(server={"tls_key_file": "key.pem"})
    with pytest.raises(ValueError, match="below high_water_bytes"):
        edge_settings(streaming={"low_water_bytes": 2**20})
