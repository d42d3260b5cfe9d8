"""The tokenizer's figures of its shared streams, as Prometheus gets them."""

from pathlib import Path

import pytest

from headrace.access.key_ring import KeyRing
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeClose, DetokenizeOpen
from tests.support.in_process import small_registry
from tests.support.keys import KEY, trusted_entry, write_keys
from tests.support.raw_detokenize import RawDetokenize, RunningTokenizer, running_tokenizer
from tokenizer_svc.registry import ModelRegistry


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
