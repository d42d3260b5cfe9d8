"""Collectors that ask for keys or certificates, and what is sent to them compressed."""

from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from structlog.testing import capture_logs

from headrace.runtime.identity import Identity
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.span_counts import REFUSED
from headrace.telemetry.tracing import open_tracing
from tests.support.certificates import Authority
from tests.support.relay import relay_to
from tests.support.scripted_collector import (
    WatchedCounts,
    make_spans,
    running_collector,
    tracing_settings,
)

IDENTITY = Identity(build="headrace 1.2.3", instance_id="i-1")
KEY = "hr-collectors-key"


async def repeating(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
    """The batch is taken, with a sentence that has the key in it."""
    response = ExportTraceServiceResponse()
    response.partial_success.error_message = f"the key {KEY} ends soon"
    return response


async def refusing(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
    """The batch is not taken, with a sentence that has the key in it."""
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"who is {KEY}?")
    raise AssertionError("abort returns")


async def send_one(settings: TracingSettings, counts: WatchedCounts) -> None:
    """A span of a service's whole life, taken or lost."""
    async with open_tracing(settings, "edge", IDENTITY, counts) as tracing:
        make_spans(tracing)
        await counts.until(lambda now: now.num_exported + now.num_dropped.total())


async def test_headers_are_sent(tmp_path: Path) -> None:
    """Every batch carries those that the file then has, decoded."""
    file = tmp_path / "headers"
    file.write_text("Authorization=Bearer%20first\nx-org=a%2Cb\n", encoding="utf-8")
    async with running_collector() as collector:
        settings = tracing_settings(collector.endpoint, headers_file=file)
        async with open_tracing(settings, "edge", IDENTITY) as tracing:
            make_spans(tracing)
            await collector.spans(1)
            file.write_text("authorization=Bearer the-second", encoding="utf-8")
            make_spans(tracing)
            await collector.spans(1)
        first, second = collector.headers
    assert (first["authorization"], first["x-org"]) == ("Bearer first", "a,b")
    assert second["authorization"] == "Bearer the-second"
    assert "x-org" not in second


async def test_a_key_that_comes_back_is_not_logged() -> None:
    """Whatever a collector writes, refusing or only warning, its key is in no log line."""
    counts = WatchedCounts()
    async with running_collector(refusing, repeating) as collector:
        settings = tracing_settings(collector.endpoint, headers=f"api-key={KEY}")
        with capture_logs() as logs:
            await send_one(settings, counts)
            await send_one(settings, WatchedCounts())
    assert dict(counts.num_dropped) == {REFUSED: 1}
    assert "UNAUTHENTICATED: who is …?" in repr(logs)
    assert "the key … ends soon" in repr(logs)
    assert KEY not in repr(logs)


async def test_no_proxy_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector of this machine is called directly, whatever proxy others are called by."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("grpc_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    counts = WatchedCounts()
    async with running_collector() as collector:
        headers = f"api-key={KEY}"
        await send_one(tracing_settings(collector.endpoint, headers=headers), counts)
    assert counts.num_exported == 1


async def test_gzip() -> None:
    """Compressed, as many spans take a third less bytes, and arrive whole."""
    sizes = {}
    for compression in ("none", "gzip"):
        async with running_collector() as collector:
            port = int(collector.endpoint.rpartition(":")[2])
            async with relay_to(port) as relay:
                settings = tracing_settings(
                    f"http://{relay.address}", compression=compression, export_interval_seconds=60
                )
                async with open_tracing(settings, "edge", IDENTITY) as tracing:
                    make_spans(tracing, 100)
                assert len(await collector.spans(100)) == 100
                sizes[compression] = relay.bytes_out
    # Ids are random: a third of the bytes, which nothing makes smaller.
    assert sizes["gzip"] < sizes["none"] * 2 / 3


async def test_own_authority_and_a_renewed_one(tmp_path: Path) -> None:
    """A collector is believed by the file's authorities alone, by the newest of them."""
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    file = tmp_path / "ca.pem"
    file.write_bytes(first.file.read_bytes())
    async with running_collector(tls=second.issue("127.0.0.1")) as collector:
        settings = tracing_settings(
            collector.endpoint, tls={"ca_file": file}, export_timeout_seconds=0.5
        )
        counts = WatchedCounts()
        async with open_tracing(settings, "edge", IDENTITY, counts) as tracing:
            make_spans(tracing)
            await counts.until(lambda now: now.num_dropped)
            file.write_bytes(second.file.read_bytes())
            make_spans(tracing)
            await counts.until(lambda now: now.num_exported)
    assert (counts.num_exported, counts.num_dropped.total()) == (1, 1)


async def test_client_certificate(tmp_path: Path) -> None:
    """A collector that demands a certificate is shown the one of the settings."""
    authority = Authority(tmp_path)
    own = authority.issue("edge")
    files = {"ca_file": authority.file, "certificate_file": own.certificate, "key_file": own.key}
    counts, without = WatchedCounts(), WatchedCounts()
    async with running_collector(
        tls=authority.issue("127.0.0.1"), client_ca=authority.file.read_bytes()
    ) as collector:
        await send_one(tracing_settings(collector.endpoint, tls=files), counts)
        del files["certificate_file"], files["key_file"]
        settings = tracing_settings(collector.endpoint, tls=files, export_timeout_seconds=0.5)
        await send_one(settings, without)
    assert (counts.num_exported, without.num_exported) == (1, 0)
