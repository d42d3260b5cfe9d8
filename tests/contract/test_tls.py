"""TLS between services: who is let in, how a refusal is told, and files that change under load."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from headrace.client.backend import GrpcChatBackend
from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import PromptRequest
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import ServiceError
from headrace.rpc.server import GrpcServer
from headrace.runtime.errors import StartError
from headrace.runtime.tls_settings import ClientTlsSettings, ServerTlsSettings
from tests.support.certificates import Authority, PemPair
from tests.support.edge_server import wait_until
from tests.support.in_process import HELLO, connected_backend, in_process_stack, small_registry
from tests.support.recording_consumer import RecordingConsumer
from tests.support.relay import relay_to
from tests.support.scripted_scene import generation_options
from tokenizer_svc.registry import ModelRegistry
from worker.engine.paced_settings import PacedSettings

HOST = "127.0.0.1"
QUICK = PacedSettings(tokens_per_second=2000)
STEADY = PacedSettings(tokens_per_second=100)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model."""
    return small_registry(tmp_path_factory.mktemp("models"))


@dataclass
class Files:
    """One authority's pairs, as the settings of both sides name them."""

    authority: Authority
    served: PemPair
    shown: PemPair

    @property
    def server(self) -> ServerTlsSettings:
        """With mutual TLS."""
        return ServerTlsSettings(
            certificate_file=self.served.certificate,
            key_file=self.served.key,
            client_ca_file=self.authority.file,
        )

    @property
    def client(self) -> ClientTlsSettings:
        """With a certificate to show."""
        return ClientTlsSettings(
            ca_file=self.authority.file,
            certificate_file=self.shown.certificate,
            key_file=self.shown.key,
        )

    def replace(self, newer: "Files") -> None:
        """Put the content of other files into these."""
        self.served.replace(newer.served)
        self.shown.replace(newer.shown)
        self.authority.file.write_bytes(newer.authority.file.read_bytes())


def make_files(folder: Path, name: str) -> Files:
    authority = Authority(folder, name)
    return Files(authority, authority.issue(HOST), authority.issue("edge"))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_files(tmp_path, "ours")


@pytest.fixture
def foreign(tmp_path: Path) -> Files:
    return make_files(tmp_path, "theirs")


@asynccontextmanager
async def listening(tls: ServerTlsSettings | None) -> AsyncIterator[str]:
    """The address of a server that has no services: what is tested ends before them."""
    server = GrpcServer(HOST, 0, [], tls=tls)
    await server.serve()
    try:
        yield f"{HOST}:{server.port}"
    finally:
        await server.stop(0)


async def refusal(address: str, tls: ClientTlsSettings | None) -> str:
    """Why a link that cannot connect says it cannot."""
    backend = GrpcChatBackend([address], [], credentials=PeerCredentials(tls))
    with structlog.testing.capture_logs() as logs:
        await backend.start()
        try:
            await wait_until(lambda: any(line["event"] == "peer_unreachable" for line in logs))
        finally:
            await backend.stop()
    line = next(line for line in logs if line["event"] == "peer_unreachable")
    assert (line["kind"], line["address"]) == ("worker", address)
    return str(line["why"])


async def test_mutual_tls_serves(files: Files, registry: ModelRegistry) -> None:
    """The typed client gets a whole answer; its certificate is asked for."""
    async with (
        in_process_stack(registry, QUICK, tls=files.server) as stack,
        HeadraceClient(
            stack.worker_addresses, stack.tokenizer_addresses, tls=files.client
        ) as client,
        client.chat(HELLO, max_tokens=5) as answer,
    ):
        assert await answer.text()
        assert answer.usage.completion_tokens == [5]


async def test_tls_without_client_certificates(files: Files, registry: ModelRegistry) -> None:
    """A server that names no authorities lets anybody in, encrypted."""
    server = ServerTlsSettings(certificate_file=files.served.certificate, key_file=files.served.key)
    client = ClientTlsSettings(ca_file=files.authority.file)
    async with (
        in_process_stack(registry, QUICK, tls=server) as stack,
        connected_backend(stack, PeerCredentials(client)) as backend,
    ):
        assert backend.is_ready


@pytest.mark.parametrize("kind", ["none", "foreign", "expired"])
async def test_who_is_not_let_in(kind: str, files: Files, foreign: Files) -> None:
    """No certificate, another authority's, an expired one: the link says that it was refused."""
    pairs = {
        "none": None,
        "foreign": foreign.shown,
        "expired": files.authority.issue("edge", is_expired=True),
    }
    pair = pairs[kind]
    client = ClientTlsSettings(
        ca_file=files.authority.file,
        certificate_file=pair and pair.certificate,
        key_file=pair and pair.key,
    )
    async with listening(files.server) as address:
        why = await refusal(address, client)

    expected = "wants a client certificate" if pair is None else "refuses the client certificate"
    assert why.startswith("TLS: the peer hung up")
    assert expected in why


@pytest.mark.parametrize("kind", ["foreign", "expired", "other host"])
async def test_whom_a_link_does_not_trust(kind: str, files: Files, foreign: Files) -> None:
    """A server of another authority, with an expired certificate, or another's name."""
    pairs = {
        "foreign": (foreign.served, f"TLS: {files.authority.file} does not know the peer"),
        "expired": (
            files.authority.issue(HOST, is_expired=True),
            "TLS: the peer's certificate has expired",
        ),
        "other host": (
            files.authority.issue("other.example"),
            "TLS: the peer's certificate does not bear the address",
        ),
    }
    pair, expected = pairs[kind]
    server = ServerTlsSettings(certificate_file=pair.certificate, key_file=pair.key)
    async with listening(server) as address:
        assert (await refusal(address, files.client)).startswith(expected)


async def test_another_name_is_accepted_where_it_is_set(
    files: Files, registry: ModelRegistry
) -> None:
    """`server_name` is what the certificate must bear, whatever the address."""
    files.served.replace(files.authority.issue("worker.internal"))
    client = files.client.model_copy(update={"server_name": "worker.internal"})
    async with (
        in_process_stack(registry, QUICK, tls=files.server) as stack,
        connected_backend(stack, PeerCredentials(client)) as backend,
    ):
        assert backend.is_ready


async def test_plain_text_to_a_tls_port(files: Files) -> None:
    """The link has no TLS of its own to blame, and says what the peer may want."""
    async with listening(files.server) as address:
        assert "wants TLS" in await refusal(address, None)


async def test_tls_to_a_plain_port(files: Files) -> None:
    """A link that wants TLS never falls back to plain text."""
    async with listening(None) as address:
        assert (await refusal(address, files.client)).startswith("TLS: the peer does not speak it")


async def test_new_files_under_load(
    files: Files, foreign: Files, tmp_path: Path, registry: ModelRegistry
) -> None:
    """Streams go on; what connects afterwards uses the new authority; the old one is refused."""
    old = make_files(tmp_path, "old")
    old.replace(files)
    consumer, later = RecordingConsumer(), RecordingConsumer()
    async with (
        in_process_stack(registry, STEADY, tls=files.server) as stack,
        relay_to(stack.worker.server.port) as relay,
    ):
        backend = GrpcChatBackend(
            [relay.address],
            stack.tokenizer_addresses,
            credentials=PeerCredentials(files.client),
        )
        await backend.start()
        await backend.ready()
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        backend.generate(prompt, generation_options(max_tokens=30), consumer)
        await consumer.hears("text")
        files.replace(foreign)
        assert "does not know the peer" in await refusal(stack.worker_addresses[0], old.client)
        await consumer.hears("done")

        relay.cut()
        (link,) = backend._workers
        await wait_until(lambda: not link.connected.is_set())
        await link.connected.wait()
        backend.generate(prompt, generation_options(max_tokens=3), later)
        await later.hears("done")
        await backend.stop()
        # Trusting the new server is not enough.
        shown = {"certificate_file": old.shown.certificate, "key_file": old.shown.key}
        mixed = files.client.model_copy(update=shown)
        why = await refusal(stack.worker_addresses[0], mixed)

    assert consumer.results[0].completion_tokens == 30
    assert (consumer.attempts, consumer.errors, later.errors) == (1, [], [])
    assert "refuses the client certificate" in why


async def test_broken_files_under_load(
    files: Files, foreign: Files, registry: ModelRegistry
) -> None:
    """A server whose files are half written goes on with those that it had, and says so."""
    async with in_process_stack(registry, QUICK, tls=files.server) as stack:
        with structlog.testing.capture_logs() as logs:
            files.served.certificate.write_bytes(foreign.served.certificate.read_bytes())
            async with connected_backend(stack, PeerCredentials(files.client)) as backend:
                assert backend.is_ready

    problems = [line["problem"] for line in logs if line["event"] == "tls_files_unusable"]
    assert [str(files.served.key)] * 2 == [problem.split()[2] for problem in problems]


async def test_files_that_cannot_be_used_stop_the_start(files: Files, foreign: Files) -> None:
    """Server and client name the file before anything is listened on or connected to."""
    files.served.key.write_bytes(foreign.served.key.read_bytes())
    with pytest.raises(StartError, match=f"{files.served.key} is not the key"):
        GrpcServer(HOST, 0, [], tls=files.server)
    files.authority.file.unlink()
    with pytest.raises(StartError, match=f"{files.authority.file} cannot be read"):
        HeadraceClient(["127.0.0.1:1"], ["127.0.0.1:1"], tls=files.client)


async def test_a_request_is_refused_while_no_peer_is_trusted(
    files: Files, foreign: Files, registry: ModelRegistry
) -> None:
    """The client's own deadline ends the wait; nothing goes over an unverified connection."""
    async with in_process_stack(registry, QUICK, tls=foreign.server) as stack:
        client = HeadraceClient(
            stack.worker_addresses,
            stack.tokenizer_addresses,
            connect_timeout_seconds=0.2,
            tls=files.client,
        )
        with pytest.raises(ServiceError, match="answered within"):
            async with client:
                raise AssertionError("it must not connect")
