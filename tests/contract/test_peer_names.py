"""Names in addresses: every address is a peer, and they come and go while requests run."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from headrace.client.backend import GrpcChatBackend
from headrace.client.chat import HeadraceClient
from headrace.client.figures import LinkState
from headrace.client.worker_link import WorkerLink
from headrace.rpc.credentials import PeerCredentials
from headrace.runtime.tls_settings import ClientTlsSettings, ServerTlsSettings
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.certificates import Authority
from tests.support.edge_server import wait_until
from tests.support.in_process import HELLO, in_process_stack, small_registry
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_resolver import ScriptedResolver
from tests.support.scripted_scene import Scene
from tests.support.scripted_tokenizer import scripted_tokenizer
from tests.support.scripted_worker import ScriptedWorker, scripted_worker

NAME = "workers:50061"


@dataclass
class Named:
    """A scene whose workers are found under one name, all of them to begin with."""

    scene: Scene
    resolver: ScriptedResolver = field(default_factory=ScriptedResolver)

    async def name(self, *workers: ScriptedWorker) -> None:
        """From now on the name stands for these."""
        self.resolver.found["workers"] = [worker.address for worker in workers]
        await self.resolver.told()

    @property
    def links(self) -> Sequence[WorkerLink]:
        """To workers."""
        return self.scene.backend._workers


@asynccontextmanager
async def named_scene(workers: int) -> AsyncIterator[Named]:
    """All workers of a scene under the name, all of them connected."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(scripted_worker()) for _ in range(workers)]
        tokenizer = await stack.enter_async_context(scripted_tokenizer())
        for peer in peers:
            peer.model.honoured_fields[:] = ["output_prefix_token_ids"]
        resolver = ScriptedResolver(workers=[peer.address for peer in peers])
        backend = GrpcChatBackend([NAME], [tokenizer.address], lookup=resolver.lookup)
        await backend.start()
        stack.push_async_callback(backend.stop)
        greeted = [await peer.greeted() for peer in peers]
        scene = Scene(backend, peers, [tokenizer], greeted, [await tokenizer.greeted()])
        for link in backend._links:
            await link.connected.wait()
        yield Named(scene, resolver)


def _states(named: Named) -> dict[LinkState, int]:
    """Workers by state, as the metrics show them."""
    return named.scene.backend.figures.peers["worker"].states


async def test_every_address_of_a_name_is_a_peer() -> None:
    """Two addresses are two links, and requests spread over them."""
    async with named_scene(2) as named:
        consumers = [RecordingConsumer() for _ in range(4)]
        for consumer in consumers:
            named.scene.generate(consumer)

        assert [2, 2] == [link.num_outputs for link in named.links]
        assert {"serving": 2, "draining": 0, "away": 0} == _states(named)


async def test_a_new_address_is_connected_to() -> None:
    """What comes to the name later is used, and what was there keeps its stream."""
    async with named_scene(1) as named, scripted_worker() as newcomer:
        (first,) = named.links
        await named.name(*named.scene.workers, newcomer)
        await newcomer.greeted()
        await wait_until(lambda: len(named.links) == 2 and named.links[1].is_serving)

        assert named.links[0] is first
        assert 1 == len(named.scene.workers[0].streams)
        assert newcomer.address == named.links[1].address


async def test_what_runs_at_an_address_that_has_gone_goes_on() -> None:
    """It takes nothing new; its output ends there; with its stream the link is closed."""
    async with named_scene(2) as named:
        scene = named.scene
        consumer, later = RecordingConsumer(), RecordingConsumer()
        scene.generate(consumer)
        stream, submission = await scene.serving_worker()
        place = scene.worker_streams.index(stream)
        left, kept = named.links[place], named.links[1 - place]
        await named.name(scene.workers[1 - place])
        scene.generate(later)
        scene.generate(later)
        states = _states(named)
        handle = submission.first_handle
        await stream.send(wrk.start(handle))
        await stream.send(wrk.tokens(handle, 11))
        await scene.tokenizer.read_until("token_ids")
        await scene.tokenizer.send(tok.text(handle, "The", 1))
        await consumer.hears("text")
        sent = scene.backend.figures.peers["worker"].frames_sent
        seats = (left.num_outputs, kept.num_outputs)
        await stream.send(wrk.end(handle))
        await scene.tokenizer.read_until("closes")
        await scene.tokenizer.send(tok.closed(handle))
        await consumer.hears("done")
        stream.close()
        await wait_until(lambda: len(named.links) == 1)

        assert {"serving": 1, "draining": 1, "away": 0} == states
        assert (1, 2) == seats
        assert (kept,) == named.links
        assert {"serving": 1, "draining": 0, "away": 0} == _states(named)
        assert scene.backend.figures.peers["worker"].frames_sent >= sent
        assert 1 == scene.backend.figures.peers["worker"].tokens["received"]
        assert 1 == len(scene.workers[place].streams)


async def test_what_is_lost_at_an_address_that_has_gone_goes_on_elsewhere() -> None:
    """An output whose worker ends before it does is continued at one that the name has."""
    async with named_scene(2) as named:
        scene, consumer = named.scene, RecordingConsumer()
        scene.generate(consumer)
        stream, submission = await scene.serving_worker()
        place = scene.worker_streams.index(stream)
        handle = submission.first_handle
        await stream.send(wrk.start(handle))
        await stream.send(wrk.tokens(handle, 11, 12))
        await scene.tokenizer.read_until("token_ids", 2)
        await named.name(scene.workers[1 - place])
        await stream.send(draining=True)
        stream.close()
        continued = await wrk.submitted(scene.worker_streams[1 - place])

        assert [11, 12] == list(continued.request.output_prefix_token_ids)
        await wait_until(lambda: len(named.links) == 1)


async def test_an_address_that_comes_back_is_used_again() -> None:
    """One that was gone for a moment keeps its stream; one whose stream has ended gets another."""
    async with named_scene(2) as named:
        scene = named.scene
        await named.name(scene.workers[0])
        left = not named.links[1].is_serving
        await named.name(*scene.workers)
        is_back = named.links[1].is_serving
        await named.name(scene.workers[0])
        scene.worker_streams[1].close()
        await wait_until(lambda: len(named.links) == 1)
        await named.name(*scene.workers)
        await scene.workers[1].greeted()
        await wait_until(lambda: named.links[1].is_serving)

        assert left
        assert is_back
        assert 2 == len(scene.workers[1].streams)


@pytest.mark.parametrize("found", [[], OSError("no such name")])
async def test_a_name_that_is_not_found_keeps_its_peers(found: list[str] | OSError) -> None:
    """What was found serves on; that the look-up failed is counted."""
    async with named_scene(2) as named:
        named.resolver.found["workers"] = found
        await named.resolver.told()

        assert {"serving": 2, "draining": 0, "away": 0} == _states(named)
        assert named.scene.backend.figures.peers["worker"].failed_lookups > 0


async def test_models_stay_known_until_the_only_peer_is_replaced() -> None:
    """Between the last pod's end and the next one's hello its model is busy, not unknown."""
    async with named_scene(1) as named, scripted_worker() as newcomer:
        scene = named.scene
        scene.worker.close()
        await wait_until(lambda: not named.links[0].is_connected)
        await named.name(newcomer)
        known = [model.name for model in scene.backend.models]
        count = len(named.links)
        await newcomer.greeted()
        await wait_until(lambda: [newcomer.address] == [link.address for link in named.links])

        assert [wrk.MODEL] == known
        assert count == 2
        assert [wrk.MODEL] == [model.name for model in scene.backend.models]
        assert 1 == len(scene.workers[0].streams)


async def test_addresses_that_never_answered_are_forgotten() -> None:
    """A name that stands for nothing but strangers, ever others, does not gather links to them."""
    resolver = ScriptedResolver()
    backend = GrpcChatBackend([NAME], ["127.0.0.1:1"], lookup=resolver.lookup)
    await backend.start()
    for number in range(1, 9):
        resolver.found["workers"] = [f"127.1.1.{number}:1"]
        await resolver.told()
    # A link is closed with the look-up behind the one that left it.
    await resolver.told()
    addresses = [link.address for link in backend._workers]
    await backend.stop()

    assert ["127.1.1.8:1"] == addresses


async def test_an_address_with_two_names_is_one_peer() -> None:
    """A link stays as long as any name or address of the settings has its address."""
    async with scripted_worker() as worker, scripted_worker() as other:
        resolver = ScriptedResolver(one=[worker.address], two=[worker.address, other.address])
        backend = GrpcChatBackend(
            [other.address, "one:1", "two:1", "one:1"], [], lookup=resolver.lookup
        )
        await backend.start()
        await worker.greeted()
        await other.greeted()
        await resolver.told()
        resolver.found["two"] = [other.address]
        await resolver.told()
        addresses = [link.address for link in backend._workers]
        left = [link.is_left for link in backend._workers]
        await backend.stop()

        assert [other.address, worker.address] == addresses
        assert [False, False] == left


async def test_readiness_waits_for_names() -> None:
    """A client whose names are found late enters when they are."""
    async with (
        scripted_worker() as worker,
        scripted_tokenizer() as tokenizer,
    ):
        resolver = ScriptedResolver()
        backend = GrpcChatBackend(["w:1"], ["t:1"], lookup=resolver.lookup)
        await backend.start()
        with structlog.testing.capture_logs() as logs:
            await resolver.told()
            resolver.found = {"w": [worker.address], "t": [tokenizer.address]}
            await asyncio.gather(backend.ready(), worker.greeted(), tokenizer.greeted())
        is_ready = backend.is_ready
        await backend.stop()

        assert is_ready
        assert {"w", "t"} == {
            line["host"] for line in logs if line["event"] in ("name_not_found", "name_found_again")
        }


async def test_a_certificate_bears_the_name(tmp_path: Path) -> None:
    """A peer found under a name is checked by the name, not by the address that it has."""
    authority = Authority(tmp_path)
    pair = authority.issue("workers")
    tls = ServerTlsSettings(certificate_file=pair.certificate, key_file=pair.key)
    credentials = PeerCredentials(ClientTlsSettings(ca_file=authority.file))
    async with in_process_stack(small_registry(tmp_path), tls=tls) as stack:
        found = stack.worker_addresses
        lookup = ScriptedResolver(workers=found, others=found).lookup
        backend = GrpcChatBackend([NAME], [], credentials=credentials, lookup=lookup)
        stranger = GrpcChatBackend(["others:1"], [], credentials=credentials, lookup=lookup)
        await backend.start()
        await wait_until(lambda: bool(backend._workers))
        await backend._workers[0].connected.wait()
        with structlog.testing.capture_logs() as logs:
            await stranger.start()
            await wait_until(lambda: any(line["event"] == "peer_unreachable" for line in logs))
        await stranger.stop()
        await backend.stop()

        assert any("does not bear others" in line.get("why", "") for line in logs)


async def test_a_client_takes_names(tmp_path: Path) -> None:
    """HeadraceClient finds its peers by their names."""
    async with in_process_stack(small_registry(tmp_path)) as stack:
        resolver = ScriptedResolver(w=stack.worker_addresses, t=stack.tokenizer_addresses)
        client = HeadraceClient(["w:1"], ["t:1"], lookup=resolver.lookup)
        async with client, client.chat(list(HELLO), max_tokens=3) as answer:
            text = "".join([piece async for piece in answer])

    assert text
