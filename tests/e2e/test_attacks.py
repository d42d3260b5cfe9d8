"""What hostile or unlucky peers do: nothing is left of it, and others are served."""

import asyncio
import random
import signal
import socket
import struct
from contextlib import ExitStack

import grpc
import pytest

from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from tests.e2e.conftest import Measured
from tests.support.chat_client import (
    Answer,
    WorkerProbe,
    ask,
    chat_body,
    connected,
    eventually,
    get,
    http_get,
    http_request,
)
from tests.support.stack import Service, Stack

_STREAMS = 64
_FREEZE_SECONDS = 1.5
_NO_LINGER = struct.pack("ii", 1, 0)
_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def edge(paced: Stack) -> Service:
    """An edge of this module's own, before the shared workers and the shared tokenizer."""
    return paced.add_edge()


async def _open_outputs(tokenizer: Service) -> int:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(tokenizer.address, options=options) as channel:
        answer = await TokenizerServiceStub(channel).GetModel(GetModelRequest(), timeout=30)
        return int(answer.open_outputs)


async def _begun_streams(edge: Service, max_tokens: int) -> tuple[list[Answer], asyncio.Future]:
    """Streams that all have their first text, and what completes with them."""
    answers = [Answer() for _ in range(_STREAMS)]
    body = chat_body(max_tokens=max_tokens, stream=True)
    streams = asyncio.gather(*(ask(edge, body, into=answer) for answer in answers))

    async def all_have_text() -> bool:
        return all(answer.has_text for answer in answers)

    await eventually(all_have_text, "all streams have text")
    return answers, streams


async def _nothing_runs(stack: Stack) -> None:
    for worker in stack.workers:
        async with WorkerProbe(worker) as probe:
            await probe.until_running(0)

    async def nothing_open() -> bool:
        return await _open_outputs(stack.tokenizers[0]) == 0

    await eventually(nothing_open, "no output is open")


async def test_killed_edge(paced: Stack, measured: Measured) -> None:
    """Workers and tokenizer free everything of an edge that is killed, at once."""
    edge = paced.add_edge()
    answers, streams = await _begun_streams(edge, 3000)
    began = asyncio.get_running_loop().time()
    edge.kill()
    await _nothing_runs(paced)
    seconds = asyncio.get_running_loop().time() - began
    await streams

    measured("seconds until all is free", round(seconds, 3))
    assert seconds < 5
    assert all(answer.is_cut for answer in answers)
    assert (await ask(paced.edge, chat_body(max_tokens=2))).is_complete


@pytest.mark.parametrize(
    "kind", ["edge", "worker", pytest.param("tokenizer", marks=pytest.mark.slow)]
)
async def test_short_freeze(paced: Stack, edge: Service, kind: str, paced_text: str) -> None:
    """A process that stands still for less than the silence that means death costs nothing."""
    frozen = {"edge": [edge], "worker": paced.workers, "tokenizer": paced.tokenizers}[kind]
    answers, streams = await _begun_streams(edge, 100)
    for service in frozen:
        service.signal(signal.SIGSTOP)
    # The freeze itself: time is what it is about.
    await asyncio.sleep(_FREEZE_SECONDS)
    for service in frozen:
        service.signal(signal.SIGCONT)
    await streams

    assert all(answer.is_complete for answer in answers)
    assert all(paced_text.startswith(answer.text()) for answer in answers)


async def test_vanishing_clients(paced: Stack, edge: Service) -> None:
    """Half requests whose senders reset the connection leave no file and no request behind."""
    before = edge.num_open_files
    whole = http_request(chat_body("x" * 1000, max_tokens=1000, stream=True))
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", edge.port)) as sock:
            sock.send(whole[: random.randrange(1, len(whole) + 1)])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    async def files_are_closed() -> bool:
        return edge.num_open_files <= before

    await eventually(files_are_closed, "all files are closed")
    await _nothing_runs(paced)
    assert (await ask(edge, chat_body(max_tokens=2))).is_complete


async def test_idle_and_slow_connections(edge: Service) -> None:
    """Connections that send nothing, or their head or body drop by drop, hold nobody up."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\nX-Slow: "
    body = http_request(chat_body("x" * 1000))[:-900]
    with ExitStack() as connections:
        for beginning in (b"", head, body):
            for _ in range(300):
                sock = socket.create_connection(("127.0.0.1", edge.port))
                connections.enter_context(sock)
                sock.send(beginning)
        assert (await get(edge, "/ready")).status == 200
        answer = await ask(edge, chat_body(max_tokens=25, stream=True))

    assert answer.is_complete
    # The edge waits much longer for the rest of a head or a body.
    assert answer.longest_gap < 5


async def _mixed_request(edge: Service, number: int) -> None:
    """One of what clients do, by number; each ends as it should."""
    match number % 6:
        case 0:
            body = chat_body(f"{number}", max_tokens=3, stream=True, stop=[f"s{number}"])
            assert (await ask(edge, body)).is_complete
        case 1:
            assert (await ask(edge, chat_body(f"{number}", max_tokens=2, n=2))).is_complete
        case 2:
            assert (await ask(edge, chat_body(temperature=9))).status == 400
        case 3:
            assert (await get(edge, f"/nothing/{number}")).status == 404
        case 4:
            async with connected(edge) as connection:
                await connection.send(http_request(chat_body(max_tokens=1000, stream=True)))
                await connection.read_until(b"assistant")
        case 5:
            async with connected(edge) as connection:
                for _ in range(3):
                    await connection.send(http_get("/v1/models"))
                    assert (await connection.read_answer()).status == 200


async def _storm(edge: Service, num_requests: int) -> None:
    permits = asyncio.Semaphore(100)

    async def one(number: int) -> None:
        async with permits:
            await _mixed_request(edge, number)

    await asyncio.gather(*(one(number) for number in range(num_requests)))


async def test_nothing_grows(paced: Stack, edge: Service, measured: Measured) -> None:
    """After many requests of all kinds no service has more files open, or much more memory."""
    services = [edge, *paced.workers, *paced.tokenizers]
    await _storm(edge, 400)
    await _nothing_runs(paced)
    files = [service.num_open_files for service in services]
    memory = [service.memory_bytes for service in services]
    await _storm(edge, 800)
    await _nothing_runs(paced)

    async def files_as_before() -> bool:
        pairs = zip(services, files, strict=True)
        return all(service.num_open_files <= before for service, before in pairs)

    await eventually(files_as_before, "no more files are open than before")
    grown = [
        (service.memory_bytes - before) // 2**20
        for service, before in zip(services, memory, strict=True)
    ]
    measured("MiB grown in 800 requests", grown)
    assert max(grown) < 16


async def test_trace_reaches_the_workers_log(paced: Stack) -> None:
    """The canonical lines of edge and worker carry the trace that the client named."""
    header = f"traceparent: 00-{_TRACE}-00f067aa0ba902b7-01"
    answer = await ask(paced.edge, chat_body(max_tokens=2), header)

    async def both_have_logged() -> bool:
        served = paced.edge.events("request_served")
        ended = [line for worker in paced.workers for line in worker.events("request_ended")]
        return all(_TRACE in {line["trace_id"] for line in lines} for lines in (served, ended))

    assert answer.is_complete
    await eventually(both_have_logged, "both lines carry the trace")
