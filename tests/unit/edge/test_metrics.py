"""The edge's figures: what a request leaves in them, by labels of few values."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from edge.http_server import EdgeServer
from edge.metrics import EdgeMetrics
from headrace.client.figures import ClientFigures, LinkFigures, peer_figures
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.identity import Identity
from headrace.telemetry.service import Telemetry
from tests.support.edge_server import (
    CHAT,
    HELLO,
    ask,
    edge_settings,
    raw_client,
    wait_until,
)
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration

STREAM = {**HELLO, "stream": True}
GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "acme",
    "gen_ai_request_model": MODEL.name,
}


class Figures:
    """An edge's samples by name and labels."""

    def __init__(self, edge: EdgeServer, registry: CollectorRegistry) -> None:
        self.edge = edge
        self._registry = registry

    def value(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, labels)

    def labels(self, name: str) -> list[dict[str, str]]:
        """The labels of every series of that sample's name."""
        samples = (sample for family in self._registry.collect() for sample in family.samples)
        return [sample.labels for sample in samples if sample.name == name]

    async def settled(self) -> None:
        assert await self.edge._state.until_idle(5)


@asynccontextmanager
async def counting_edge(backend: FakeBackend, **groups: Any) -> AsyncIterator[Figures]:
    metrics = EdgeMetrics(Identity(), "acme")
    server = EdgeServer(edge_settings(**groups), backend, Telemetry(metrics))
    await server.start()
    try:
        yield Figures(server, metrics.registry)
    finally:
        await server.close()


def _play(generation: FakeGeneration) -> None:
    generation.start(cached=4)
    for text in ("a", "b", "c"):
        generation.text(text)
    generation.finish(reasoning=2)
    generation.done()


@pytest.mark.parametrize("document", [HELLO, STREAM], ids=["whole", "stream"])
async def test_an_answer_is_counted_by_its_model(document: Any) -> None:
    """Duration, first text, later tokens and usage, under the names of the conventions."""
    async with counting_edge(FakeBackend(play=_play)) as figures:
        await ask(figures.edge.port, document)
        await figures.settled()
        counts = [
            figures.value(f"gen_ai_server_{name}_seconds_count", **GEN_AI)
            for name in ("time_to_first_token", "time_per_output_token")
        ]
        usage = {
            kind: figures.value(f"gen_ai_client_inference_usage_{kind}_tokens_total", **GEN_AI)
            for kind in ("input", "cache_read_input", "output", "reasoning_output")
        }
        duration = figures.value(
            "gen_ai_server_request_duration_seconds_count", **GEN_AI, error_type=""
        )
        waits = figures.value("headrace_edge_admission_wait_seconds_count")

    assert ([1, 1], 1, 1) == (counts, duration, waits)
    assert {"input": 10, "cache_read_input": 4, "output": 3, "reasoning_output": 2} == usage


async def test_http_is_counted_by_route_and_status() -> None:
    """A path that nobody knows, and a method that nobody knows, make no series of their own."""
    async with counting_edge(FakeBackend()) as figures:
        await ask(figures.edge.port, HELLO)
        for number in range(3):
            async with raw_client(figures.edge.port) as client:
                client.send(f"LOCK /nowhere/{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                await client.response()
        await figures.settled()
        labels = figures.labels("http_server_request_duration_seconds_count")
        requests = figures.value("headrace_edge_requests_total", route=CHAT, status="200")

    assert [
        ("POST", CHAT, "200"),
        ("_OTHER", "/{path}", "404"),
    ] == [tuple(each.values()) for each in labels]
    assert 1 == requests


async def test_failures_keep_times_and_tokens_apart() -> None:
    """An answer that failed has a duration by its reason, its tokens, and no other times."""
    backend = FakeBackend(texts=None)
    async with counting_edge(backend) as figures:
        async with raw_client(figures.edge.port) as client:
            client.post(STREAM)
            generation = await backend.next_generation()
            generation.start()
            await client.head()
            generation.text("half")
            generation.fail(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "lost"))
            await figures.settled()
        durations = figures.labels("gen_ai_server_request_duration_seconds_count")
        failed = figures.value(
            "gen_ai_server_request_duration_seconds_count", **GEN_AI, error_type="worker_lost"
        )
        first = figures.value("gen_ai_server_time_to_first_token_seconds_count", **GEN_AI)
        output = figures.value("gen_ai_client_inference_usage_output_tokens_total", **GEN_AI)
        refusals = figures.labels("headrace_edge_refusals_total")

    assert {"", "worker_lost"} == {each["error_type"] for each in durations}
    assert (1, 0, 1, []) == (failed, first, output, refusals)


@pytest.mark.parametrize(
    ("document", "error", "reason"),
    [
        ({"n": 1}, None, "invalid_request"),
        (HELLO, errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, "no_worker_available"),
        (HELLO, errors_pb2.ERROR_REASON_OVERLOADED, "overloaded"),
    ],
)
async def test_what_is_not_taken_is_a_refusal(document: Any, error: Any, reason: str) -> None:
    """By reason and class of the caller; no model's times are touched."""
    failure = None if error is None else ServiceError(error, "no")
    async with counting_edge(FakeBackend(render_error=failure)) as figures:
        await ask(figures.edge.port, document)
        await figures.settled()
        refused = figures.value(
            "headrace_edge_refusals_total", reason=reason, tenant_class="anonymous"
        )
        failed = figures.value("headrace_edge_failures_total", reason=reason)

        assert (1, 1) == (refused, failed)
        assert [] == figures.labels("gen_ai_server_request_duration_seconds_count")


async def test_what_was_taken_up_is_no_refusal() -> None:
    """An answer that breaks off for want of room had been taken: a failure, and no refusal."""

    def play(generation: FakeGeneration) -> None:
        generation.start()
        generation.fail(ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "full"))

    async with counting_edge(FakeBackend(play=play)) as figures:
        await ask(figures.edge.port, HELLO)
        await figures.settled()

        assert [] == figures.labels("headrace_edge_refusals_total")
        assert 1 == figures.value("headrace_edge_failures_total", reason="overloaded")


async def test_an_engines_failure_is_no_refusal() -> None:
    """What was taken and failed is counted as a failure alone."""
    error = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken")
    async with counting_edge(FakeBackend(render_error=error)) as figures:
        await ask(figures.edge.port, HELLO)
        await figures.settled()

        assert [] == figures.labels("headrace_edge_refusals_total")
        assert 1 == figures.value("headrace_edge_failures_total", reason="engine_failure")


async def test_a_probe_of_an_edge_that_is_not_ready_is_no_failure() -> None:
    """Whoever asks once a second whether an edge is ready would drown what clients meet with."""
    backend = FakeBackend()
    backend.is_ready = False
    async with counting_edge(backend) as figures:
        async with raw_client(figures.edge.port) as client:
            client.get("/ready")
            assert (await client.response()).status == 503
        await wait_until(
            lambda: figures.value("headrace_edge_requests_total", route="/ready", status="503") == 1
        )

        assert [] == figures.labels("headrace_edge_failures_total")
        assert [] == figures.labels("headrace_edge_refusals_total")


async def test_a_client_that_leaves_is_no_failure() -> None:
    """Its status is 499 where requests are counted, and none where HTTP's are."""
    backend = FakeBackend(texts=None)
    async with counting_edge(backend) as figures:
        async with raw_client(figures.edge.port) as client:
            client.post(HELLO)
            await backend.next_generation()
        await wait_until(
            lambda: figures.value("headrace_edge_requests_total", route=CHAT, status="499") == 1
        )
        left = figures.value(
            "http_server_request_duration_seconds_count",
            http_request_method="POST",
            http_route=CHAT,
            http_response_status_code="",
        )
        slow = figures.value("headrace_edge_slow_readers_dropped_total")

        assert (1, 0) == (left, slow)
        assert [] == figures.labels("headrace_edge_failures_total")
        assert 1 == figures.value("headrace_edge_aborted_generations_total")


async def test_a_slow_reader_is_counted() -> None:
    """Who is dropped for reading too slowly is told from who left."""
    slow = {"stall_timeout_seconds": 0.2, "high_water_bytes": 1024, "low_water_bytes": 512}
    backend = FakeBackend(texts=None)
    async with counting_edge(backend, streaming=slow) as figures:
        async with raw_client(figures.edge.port) as client:
            client.post(STREAM)
            generation = await backend.next_generation()
            generation.start()
            await client.head()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined] (a socket's)
            for _ in range(2000):
                generation.text("x" * 10_000)
            await figures.settled()

        assert 1 == figures.value("headrace_edge_slow_readers_dropped_total")
        assert 1 == figures.value("headrace_edge_reader_stalls_total")


async def test_probes_are_not_refused() -> None:
    """A service that says that it is not ready has refused nobody."""
    async with counting_edge(FakeBackend(is_ready=False)) as figures:
        async with raw_client(figures.edge.port) as client:
            client.get("/ready")
            assert 503 == (await client.response()).status
        await figures.settled()

        assert [] == figures.labels("headrace_edge_refusals_total")


def test_peers_are_told_as_they_are_when_asked() -> None:
    """Frames and tokens by kind and direction, peers by state, look-ups, retries by reason."""
    metrics = EdgeMetrics(Identity())
    workers = [
        LinkFigures("serving", 1, 20, "received", 300),
        LinkFigures("away", 2, 30, "received", 400),
    ]
    retries = {"worker_lost": 2}
    peers = peer_figures(workers)
    peers.failed_lookups = 4
    metrics.watch_peers(lambda: ClientFigures({"worker": peers}, retries))
    value = metrics.registry.get_sample_value
    frames, tokens = "headrace_edge_frames_total", "headrace_edge_frame_tokens_total"

    assert [3, 50] == [
        value(frames, {"peer": "worker", "direction": d}) for d in ("sent", "received")
    ]
    assert 700 == value(tokens, {"peer": "worker", "direction": "received"})
    assert [1, 0, 1] == [
        value("headrace_edge_peers", {"kind": "worker", "state": state})
        for state in ("serving", "draining", "away")
    ]
    assert 4 == value("headrace_edge_failed_lookups_total", {"kind": "worker"})
    retries["worker_lost"] += 1
    assert 3 == value("headrace_edge_retries_total", {"reason": "worker_lost"})


async def test_whoever_waits_for_a_place_is_measured() -> None:
    """The wait for others to end is what the histogram and the log line say."""
    backend = FakeBackend(texts=None)
    async with counting_edge(backend, admission={"max_concurrent_requests": 1}) as figures:
        async with raw_client(figures.edge.port) as first, raw_client(figures.edge.port) as second:
            first.post(HELLO)
            running = await backend.next_generation()
            second.post(HELLO)
            await wait_until(lambda: figures.value("headrace_edge_requests_queued") == 1)
            waited_from = asyncio.get_running_loop().time()
            await asyncio.sleep(0.05)  # what is measured, not what is waited for
            running.answer(["ok"])
            (await backend.next_generation()).answer(["ok"])
            waited = asyncio.get_running_loop().time() - waited_from
            await second.response()
        await figures.settled()
        total = figures.value("headrace_edge_admission_wait_seconds_sum")

    assert total is not None
    assert 0.04 < total < waited + 1
