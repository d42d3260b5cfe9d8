"""The life of a process's tracing: its channel, its end, its threads, and other processes."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headrace.runtime.identity import Identity
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.span_counts import (
    SHUTDOWN,
    TIMEOUT,
    UNREACHABLE,
)
from headrace.telemetry.span_exporter import MAX_BATCH_SPANS
from headrace.telemetry.span_queue import DUE_SPANS
from headrace.telemetry.spans import NoTracing, SpanKind
from headrace.telemetry.trace_context import NO_TRACE
from headrace.telemetry.tracing import open_tracing
from tests.support.certificates import Authority
from tests.support.scripted_collector import (
    WatchedCounts,
    make_spans,
    never,
    running_collector,
    spans_of,
    tracing_settings,
)

IDENTITY = Identity(build="headrace 1.2.3", instance_id="i-1")
AGES = 60.0


async def test_tls_by_the_systems_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An https endpoint is believed by the system's certificates, of which OpenSSL knows where."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    counts = WatchedCounts()
    async with (
        running_collector(tls=authority.issue("127.0.0.1")) as collector,
        open_tracing(tracing_settings(collector.endpoint), "edge", IDENTITY, counts) as tracing,
    ):
        make_spans(tracing)
        await counts.until(lambda now: now.num_exported)
    assert len(spans_of(collector.arrived.get_nowait())) == 1


async def test_tls_of_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector whose certificate the system does not know gets nothing."""
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path, "known").file))
    counts = WatchedCounts()
    stranger = Authority(tmp_path, "stranger").issue("127.0.0.1")
    async with running_collector(tls=stranger) as collector:
        group = tracing_settings(collector.endpoint, export_timeout_seconds=0.5)
        async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
            make_spans(tracing)
            await counts.until(lambda now: now.num_dropped)
    assert (counts.num_exported, collector.arrived.empty()) == (0, True)
    assert counts.num_dropped.keys() <= {UNREACHABLE, TIMEOUT}


async def test_end_is_bounded() -> None:
    """A collector that never answers holds the service's end up no longer than a batch may take."""
    counts = WatchedCounts()
    async with running_collector(never) as collector:
        group = tracing_settings(collector.endpoint, export_timeout_seconds=0.2)
        began = time.monotonic()
        async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
            make_spans(tracing, 1000)
        took = time.monotonic() - began
    # The first batch's own time ends with the whole's.
    assert counts.num_dropped.total() == 1000
    assert counts.num_dropped[SHUTDOWN] >= 1000 - MAX_BATCH_SPANS
    assert took >= 0.2


async def test_span_that_ends_after_the_service() -> None:
    """A span that somebody still held is lost and counted; nothing raises."""
    counts = WatchedCounts()
    async with running_collector() as collector:
        async with open_tracing(
            tracing_settings(collector.endpoint), "edge", IDENTITY, counts
        ) as tracing:
            span = tracing.begin("POST /x", SpanKind.SERVER, NO_TRACE)
        span.end()
    assert dict(counts.num_dropped) == {SHUTDOWN: 1}


async def test_spans_of_other_threads() -> None:
    """A span may be ended by another thread: it wakes the loop when a batch waits."""
    async with running_collector() as collector:
        group = tracing_settings(collector.endpoint, export_interval_seconds=AGES)
        async with open_tracing(group, "worker", IDENTITY) as tracing:
            await asyncio.to_thread(make_spans, tracing, DUE_SPANS)
            assert len(await collector.spans(DUE_SPANS)) == DUE_SPANS


async def test_switched_off_is_nothing() -> None:
    """Without an endpoint no thread, no task and no channel is made."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with open_tracing(TracingSettings(), "edge", IDENTITY) as tracing:
        assert isinstance(tracing, NoTracing)
        assert (asyncio.all_tasks(), set(threading.enumerate())) == (tasks, threads)


async def test_sending_starts_no_thread() -> None:
    """Spans are sent by the loop: a thread of ours would not live on in a forked process."""
    async with running_collector() as collector:
        await asyncio.to_thread(int)
        threads = {thread for thread in threading.enumerate() if not thread.daemon}
        async with open_tracing(tracing_settings(collector.endpoint), "edge", IDENTITY) as tracing:
            make_spans(tracing)
            await collector.spans(1)
            now = {thread for thread in threading.enumerate() if not thread.daemon}
        assert now == threads


_FORKED = """
import asyncio, os, sys
from headrace.runtime.identity import Identity
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import NO_TRACE
from headrace.telemetry.tracing import open_tracing

async def main():
    settings = TracingSettings(endpoint=sys.argv[1])
    async with open_tracing(settings, "worker", Identity()) as tracing:
        tracing.begin("POST /x", SpanKind.SERVER, NO_TRACE).end()

pid = os.fork()
asyncio.run(main())
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


async def test_each_process_has_its_own() -> None:
    """A process that is forked from one that has loaded tracing sends its own spans, once each."""
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    async with running_collector() as collector:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _FORKED, collector.endpoint),
            env=environment,
            stderr=subprocess.PIPE,
        )
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        spans = await collector.spans(2)
    assert len({span.trace_id for span in spans}) == 2
    assert len({span.span_id for span in spans}) == 2
    assert collector.arrived.empty()
