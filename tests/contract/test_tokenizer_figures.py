"""The tokenizer's figures of its shared streams, as Prometheus gets them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from headrace.access.key_ring import KeyRing
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeClose, DetokenizeOpen
from headrace.tokenizer.v1.encoding_pb2 import CountTokensRequest
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from tests.support.edge_server import wait_until
from tests.support.in_process import small_registry
from tests.support.keys import KEY, trusted_entry, write_keys
from tests.support.raw_detokenize import RawDetokenize, RunningTokenizer, running_tokenizer
from tests.support.raw_exchange import exchange
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.main import run
from tokenizer_svc.registry import ModelRegistry
from tokenizer_svc.settings import TokenizerSettings


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """One small model, `small`."""
    return small_registry(tmp_path)


def figure(tokenizer: RunningTokenizer, name: str, **labels: str) -> float:
    """One figure, which must be there."""
    name = f"headrace_tokenizer_{name}"
    value = tokenizer.metrics.registry.get_sample_value(name, labels)
    assert value is not None, name
    return value


async def test_streams_are_counted_while_they_run(registry: ModelRegistry) -> None:
    """Frames, tokens, seconds, strays and open outputs; all is zero, and there, before."""
    model = registry.find("")
    ids = model.encoder.encode("Hello, world!")
    async with running_tokenizer(registry) as tokenizer:
        names = ("decoded_tokens_total", "detokenize_seconds_total", "stray_entries_total")
        before = [figure(tokenizer, name) for name in (*names, "open_outputs")]
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([DetokenizeOpen(handle=h, decoder=model.decoder()) for h in (1, 2)])
        await raw.send(feeds=[(1, ids), (7, ids[:1])])
        await raw.send(closes=[DetokenizeClose(handle=1, finish_reason=FINISH_REASON_LENGTH)])
        await raw.output(1, closed=True)
        tokens, seconds, strays = (figure(tokenizer, name) for name in names)
        open_outputs = figure(tokenizer, "open_outputs")
        received = figure(tokenizer, "frames_total", direction="received")
        sent = figure(tokenizer, "frames_total", direction="sent")
        closed = figure(tokenizer, "outputs_total", reason="closed")
        lost = figure(tokenizer, "outputs_total", reason="stream_lost")
        raw.call.cancel()
        await tokenizer.servicer.activity.idle()
        lost_then = figure(tokenizer, "outputs_total", reason="stream_lost")

    assert before == [0, 0, 0, 0]
    assert (tokens, strays, open_outputs) == (len(ids) + 1, 1, 1)
    assert 0 < seconds < 10
    assert (received, sent) == (3, len(raw.frames))
    assert (closed, lost, lost_then) == (1, 0, 1)


async def test_refused_outputs_are_counted_by_who_asked(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    """The reason, and the class of the stream's key."""
    keys = KeyRing(write_keys(tmp_path / "keys.toml", trusted_entry(KEY)))
    decoder = registry.find("").decoder()
    async with running_tokenizer(registry, keys=keys) as tokenizer:
        raw = RawDetokenize(tokenizer.stub, KEY)
        await raw.send([DetokenizeOpen(handle=1, decoder=decoder, stop_strings=[""])])
        await raw.failed(1)
        labels = {"reason": "invalid_request", "tenant_class": "trusted"}
        refused = figure(tokenizer, "refusals_total", **labels)
        raw.call.cancel()

    assert refused == 1


async def test_the_text_is_what_prometheus_reads(registry: ModelRegistry) -> None:
    """Every figure of the tokenizer has a help text and the ending that its type demands."""
    async with running_tokenizer(registry) as tokenizer:
        families = list(tokenizer.metrics.registry.collect())
        text = tokenizer.metrics.render().decode()

    own = [family for family in families if family.name.startswith("headrace_tokenizer_")]
    assert len(own) == 12
    for family in own:
        assert family.documentation.endswith(".")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"# TYPE {name} {family.type}" in text


def logged(logs: list[Any], event: str) -> list[Any]:
    """The lines of an event."""
    return [line for line in logs if line["event"] == event]


async def scraped(port: int, sample: str) -> None:
    """Return when /metrics holds the sample; the test's own timeout bounds it."""
    asking = b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    while sample not in (await asyncio.to_thread(exchange, port, asking))[1].decode():
        pass


async def test_the_process_tells_of_its_calls_and_streams(tmp_path: Path) -> None:
    """`run` wires all of it: the line, the figures on the health port, those of streams too."""
    path = str(write_model(tmp_path / "small", train_tokenizer()).path)
    telemetry = {"health": {"port": 0, "metrics_interval_seconds": 0.1}}
    settings = TokenizerSettings.model_validate(
        {"models": (path,), "port": 0, "telemetry": telemetry}
    )
    stop = asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(run(settings, stop))
        await wait_until(lambda: bool(logged(logs, "tokenizer_serving")) or running.done())
        (serving,), (health,) = logged(logs, "tokenizer_serving"), logged(logs, "health_listening")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{serving['port']}") as channel:
            stub = TokenizerServiceStub(channel)
            await stub.CountTokens(CountTokensRequest(text="Hello"))
            await scraped(
                health["port"], 'headrace_tokenizer_calls_total{code="OK",method="CountTokens"} 1.0'
            )
            raw = RawDetokenize(stub)
            await raw.send()
            await raw.read()
            await scraped(
                health["port"], 'headrace_tokenizer_frames_total{direction="received"} 1.0'
            )
            raw.call.cancel()
        stop.set()
        await running

    assert [line["method"] for line in logged(logs, "call_ended")] == ["CountTokens"]
