"""HTTPS: renewing certificates under way, one listener beside another, peers that go slowly."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import structlog
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from edge.http_server import EdgeServer
from edge.tls import listening_context
from headrace.cli.ports import claim_port
from headrace.runtime.errors import StartError
from tests.support.certificates import Authority, PemPair, serial_number
from tests.support.edge_server import (
    HELLO,
    RawClient,
    ask,
    edge_settings,
    raw_client,
    running_edge,
    streamed_text,
    wait_until,
)
from tests.support.fake_backend import MODEL, FakeBackend

STREAM = {**HELLO, "stream": True}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(texts=None)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> PemPair:
    return authority.issue("localhost", "127.0.0.1")


def server_group(pair: PemPair, **others: Any) -> dict[str, Any]:
    return {"tls_certificate_file": pair.certificate, "tls_key_file": pair.key, **others}


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


async def shown_serial(port: int, context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection is shown."""
    async with raw_client(port, ssl=context) as client:
        connection = client.writer.get_extra_info("ssl_object")
        return serial_number(connection.getpeercert(binary_form=True))


def serial_of(pair: PemPair) -> int:
    return serial_number(pair.certificate.read_bytes())


async def test_a_new_certificate_while_a_stream_goes_on(
    backend: FakeBackend, authority: Authority, pair: PemPair
) -> None:
    """A connection keeps its certificate and its stream; the next one is shown the new one."""
    context = trusting(authority)
    newer = authority.issue("localhost", "127.0.0.1")
    async with (
        running_edge(backend, server=server_group(pair)) as edge,
        raw_client(edge.port, ssl=context) as client,
    ):
        client.post(STREAM)
        generation = await backend.next_generation()
        generation.start()
        assert (await client.head()).status == 200
        generation.text("before")
        events = [await client.event(), await client.event()]
        pair.replace(newer)
        shown = await shown_serial(edge.port, context)
        generation.text(" and after")
        generation.finish()
        generation.done()
        events += [await client.event() for _ in range(2)]

    assert shown == serial_of(newer)
    assert streamed_text(events) == "before and after"


async def test_broken_files_keep_the_old_certificate(
    backend: FakeBackend, authority: Authority, pair: PemPair
) -> None:
    """A half-written pair is named in the log; the next whole one is taken."""
    context = trusting(authority)
    first, newer = serial_of(pair), authority.issue("localhost", "127.0.0.1")
    async with running_edge(backend, server=server_group(pair)) as edge:
        with structlog.testing.capture_logs() as logs:
            pair.certificate.write_bytes(newer.certificate.read_bytes())
            assert await shown_serial(edge.port, context) == first
            pair.key.write_bytes(newer.key.read_bytes())
            assert await shown_serial(edge.port, context) == serial_of(newer)

    (line,) = [line for line in logs if line["event"] == "tls_files_unusable"]
    assert f"{pair.key} is not the key of" in line["problem"]


async def test_the_official_client_streams(
    backend: FakeBackend, authority: Authority, pair: PemPair
) -> None:
    """OpenAI's client over verified TLS gets the text."""
    backend.texts = ("One ", "two")
    http = DefaultAsyncHttpxClient(verify=trusting(authority))
    async with running_edge(backend, server=server_group(pair)) as edge:
        base_url = f"https://localhost:{edge.port}/v1"
        async with AsyncOpenAI(base_url=base_url, api_key="none", http_client=http) as client:
            stream = await client.chat.completions.create(
                model=MODEL.name, messages=[{"role": "user", "content": "x"}], stream=True
            )
            texts = [chunk.choices[0].delta.content or "" async for chunk in stream]

    assert "".join(texts) == "One two"


async def test_one_listener_with_tls_and_one_without(
    backend: FakeBackend, authority: Authority, pair: PemPair
) -> None:
    """One process serves both; neither port takes the other's language."""
    async with running_edge(backend, server=server_group(pair, tls_port=0)) as edge:
        assert edge.tls_port not in (None, edge.port)
        for port, options in (
            (edge.port, {}),
            (edge.tls_port, {"ssl": trusting(authority), "server_hostname": "localhost"}),
        ):
            async with raw_client(port, **options) as client:
                client.get("/health")
                assert (await client.response()).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await shown_serial(edge.port, trusting(authority))
        async with raw_client(edge.tls_port) as client:
            client.get("/health")
            assert await left(client)


async def left(client: RawClient) -> bool:
    """Whether the edge ends the connection without an HTTP answer."""
    try:
        return b"HTTP/" not in await client.reader.read()
    except ConnectionResetError:
        return True


async def test_the_ports_of_one_listener(backend: FakeBackend, pair: PemPair) -> None:
    """With a certificate alone the one port speaks TLS; without one none does."""
    async with running_edge(backend, server=server_group(pair)) as edge:
        assert edge.tls_port == edge.port
    async with running_edge(backend) as edge:
        assert edge.tls_port is None


async def test_a_taken_tls_port_frees_the_first(backend: FakeBackend, pair: PemPair) -> None:
    """An edge listens on both ports or on none."""
    port = claim_port("127.0.0.1", 0, "the test", "")
    async with running_edge(backend) as other:
        group = server_group(pair, port=port, tls_port=other.port)
        edge = EdgeServer(edge_settings(server=group), backend)
        with pytest.raises(StartError, match=f"port {other.port}"):
            await edge.start()
    with pytest.raises(ConnectionRefusedError):
        await ask(port, b"")


@pytest.mark.parametrize(
    ("values", "problem"),
    [({"tls_port": 8443}, "tls_port needs"), ({"tls_port": 8000, "port": 8000}, "must differ")],
)
def test_settings_of_two_ports(pair: PemPair, values: dict[str, int], problem: str) -> None:
    """A port for TLS without a certificate, and one port for both."""
    group = values if "needs" in problem else server_group(pair, **values)
    with pytest.raises(ValueError, match=problem):
        edge_settings(server=group)


def test_nothing_older_than_tls_1_2(pair: PemPair) -> None:
    """Versions that are known to be broken are not spoken."""
    context = listening_context(edge_settings(server=server_group(pair)).server)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_peer_that_never_shakes_hands(backend: FakeBackend, pair: PemPair) -> None:
    """It is hung up on after the time that a request's head may take."""
    group = server_group(pair, keepalive_timeout_seconds=0.2)
    async with running_edge(backend, server=group) as edge, raw_client(edge.port) as client:
        assert await left(client)


async def test_an_abrupt_end_aborts(
    backend: FakeBackend, authority: Authority, pair: PemPair
) -> None:
    """A client that is gone without TLS's farewell costs its generation at once."""
    async with running_edge(backend, server=server_group(pair)) as edge:
        async with raw_client(edge.port, ssl=trusting(authority)) as client:
            client.post(STREAM)
            generation = await backend.next_generation()
            generation.start()
            await client.head()
        await generation.aborted.wait()
        assert await edge._state.until_idle(5)


async def test_a_reader_that_stalls_is_dropped(
    backend: FakeBackend, authority: Authority, pair: PemPair
) -> None:
    """Above the high-water mark for too long: the generation is aborted, the connection gone."""
    streaming = {
        "high_water_bytes": 65536,
        "low_water_bytes": 16384,
        "stall_timeout_seconds": 0.3,
    }
    async with (
        running_edge(backend, server=server_group(pair), streaming=streaming) as edge,
        raw_client(edge.port, ssl=trusting(authority), limit=1024) as client,
    ):
        client.post(STREAM)
        generation = await backend.next_generation()
        generation.start()
        await client.head()
        while generation.consumer._is_direct:
            generation.text("x" * 10_000)
            await asyncio.sleep(0)
        await generation.aborted.wait()
        await wait_until(lambda: not edge._runner.server.connections)
