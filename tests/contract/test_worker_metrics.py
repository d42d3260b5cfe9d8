"""The worker's figures after real requests, and that scraping them disturbs nothing."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from headrace.access.key_ring import KeyRing
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import OwnKey
from headrace.rpc.errors import ServiceError
from headrace.runtime.identity import Identity
from headrace.worker.v1.generate_pb2 import GenerateRequest
from tests.support.engines import ScriptedEngine
from tests.support.keys import KEY, OTHER_KEY, TRUSTED_KEY, entry, trusted_entry, write_keys
from tests.support.models import fake_model
from tests.support.raw_attach import RawAttach, generation, running_worker
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import Engine, EngineLoad
from worker.load_figures import LoadFigures
from worker.metrics import WorkerMetrics
from worker.request_report import RequestReports

GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "me",
    "gen_ai_request_model": fake_model().name,
}
BROKEN = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken")


class Counted:
    """A worker whose figures are kept."""

    def __init__(self, engine: Engine, keys: KeyRing | None = None) -> None:
        self.metrics = WorkerMetrics(Identity(), "me")
        self.engine = engine
        self.serving = running_worker(
            engine, keys=keys, reports=RequestReports(metrics=self.metrics)
        )

    def value(self, name: str, **labels: str) -> float | None:
        """A sample, as a scraper reads it."""
        return self.metrics.registry.get_sample_value(name, labels)


def paced() -> PacedEngine:
    """A quick engine."""
    return PacedEngine(fake_model(), PacedSettings(tokens_per_second=1000))


@pytest.mark.parametrize("way", ["attach", "generate"])
async def test_a_request_that_ends_well_is_in_every_figure(way: str) -> None:
    """Durations, phases, tokens and the outcome, once each; two outputs are one request."""
    counted = Counted(paced())
    async with counted.serving as worker:
        counted.metrics.registry.register(
            LoadFigures(worker.servicer._engine, worker.servicer.table)
        )
        if way == "attach":
            edge = RawAttach(worker.stub)
            await edge.submit(1, generation(n=2))
            await edge.read_until("terminals", 2)
        else:
            call = worker.stub.Generate(GenerateRequest(request=generation(n=2)))
            assert [response async for response in call]
        await worker.servicer.table.idle()
        value = counted.value
        seconds = value("gen_ai_server_request_duration_seconds_sum", **GEN_AI, error_type="")
        first = value("gen_ai_server_time_to_first_token_seconds_sum", **GEN_AI)
        later = value("gen_ai_server_time_per_output_token_seconds_sum", **GEN_AI)
        phases = [value(f"headrace_worker_{p}_seconds_sum") for p in ("queue", "prefill", "decode")]
        assert value("headrace_worker_output_tokens_total") == 18
        assert value("headrace_worker_requests_running") == 0
        is_framed = way == "attach"
        assert value("headrace_worker_frame_tokens_total") == 18 * is_framed
        frames = value("headrace_worker_frames_total", direction="received")
        assert frames == is_framed

    assert value("headrace_worker_requests_total", outcome="length") == 1
    assert value("headrace_worker_prompt_tokens_total", source="computed") == 3
    assert value("headrace_worker_prompt_tokens_total", source="cached") == 0
    assert seconds
    assert first
    assert later
    assert first == pytest.approx(sum(phases[:2]))
    assert later == pytest.approx(phases[2] / 8)
    assert first + phases[2] <= seconds < first + phases[2] + 1


async def test_a_failed_request_is_no_promise_kept() -> None:
    """Its duration has the error's type; times of tokens are those of good ends alone."""
    engine = ScriptedEngine()
    counted = Counted(engine)
    async with counted.serving as worker:
        edge = RawAttach(worker.stub)
        await edge.submit(1)
        await edge.read_until("accepted_handles")
        engine.start_output(1)
        engine.emit(1, 5, 6)
        engine.fail(1, BROKEN)
        await edge.read_until("terminals")

    value = counted.value
    duration = "gen_ai_server_request_duration_seconds_count"
    assert value(duration, **GEN_AI, error_type="engine_failure") == 1
    assert value(duration, **GEN_AI, error_type="") == 0
    assert value("gen_ai_server_time_to_first_token_seconds_count", **GEN_AI) == 0
    assert value("headrace_worker_requests_total", outcome="engine_failure") == 1
    counts = [value(f"headrace_worker_{p}_seconds_count") for p in ("queue", "prefill", "decode")]
    assert counts == [1, 1, 0]
    assert value("headrace_worker_prompt_tokens_total", source="cached") == 2


@pytest.mark.parametrize(
    ("key", "tenant_class"),
    [(None, "anonymous"), (KEY, "unlimited"), (OTHER_KEY, "limited"), (TRUSTED_KEY, "trusted")],
)
@pytest.mark.parametrize("way", ["attach", "generate"])
async def test_refusals_are_counted_by_reason_and_class(
    key: str | None, tenant_class: str, way: str, tmp_path: Path
) -> None:
    """Whoever is refused is named by a class, never by a name; a refusal has no duration."""
    entries = [
        entry(KEY),
        entry(OTHER_KEY, more="requests_per_minute = 9"),
        trusted_entry(TRUSTED_KEY),
    ]
    ring = None if key is None else KeyRing(write_keys(tmp_path / "keys.toml", *entries))
    counted = Counted(paced(), ring)
    async with counted.serving as worker:
        if way == "attach":
            edge = RawAttach(worker.stub, key)
            await edge.submit(1, generation(max_tokens=0))
            await edge.read_until("terminals")
        else:
            request = GenerateRequest(request=generation(max_tokens=0))
            call = worker.stub.Generate(request, metadata=OwnKey(key).metadata())
            await call.code()

    refusals = "headrace_worker_refusals_total"
    assert counted.value(refusals, reason="invalid_request", tenant_class=tenant_class) == 1
    assert not any(sample.name.startswith("gen_ai") for sample in samples(counted.metrics.render()))


async def test_aborts_are_counted_by_cause() -> None:
    """Outputs that their edge aborted, that were late, and whose stream ended."""
    counted = Counted(ScriptedEngine())
    async with counted.serving as worker:
        counted.metrics.registry.register(LoadFigures(counted.engine, worker.servicer.table))
        edge = RawAttach(worker.stub)
        await edge.submit(1, generation(n=2))
        await edge.submit(3, generation(remaining_ms=0))
        await edge.submit(4)
        await edge.abort(1, 2, 9)
        await edge.read_until("terminals", 3)
        edge.call.cancel()
        await worker.servicer.table.idle()
        causes = {
            cause: counted.value("headrace_worker_aborts_total", reason=cause)
            for cause in ("caller", "deadline", "stream_ended", "slow_reader", "failed")
        }
        strays = counted.value("headrace_worker_stray_entries_total")

    aborted = {"caller": 2, "deadline": 1, "stream_ended": 1, "slow_reader": 0, "failed": 0}
    assert causes == aborted
    assert strays == 1


class LoadedEngine(ScriptedEngine):
    """Says how busy it is."""

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(7, 10, 2, 3, 5, 11, 12, 13)


async def test_an_engines_load_is_read_at_the_scrape() -> None:
    """Blocks by state, what waits, what was evicted and preempted; as Prometheus reads it."""
    counted = Counted(LoadedEngine())
    async with counted.serving as worker:
        counted.metrics.registry.register(LoadFigures(counted.engine, worker.servicer.table))
        read = {
            (sample.name, *sample.labels.values()): sample.value
            for sample in samples(counted.metrics.render())
        }

    blocks = {state: read["headrace_worker_kv_blocks", state] for state in BLOCKS}
    assert blocks == BLOCKS
    assert read[("headrace_worker_outputs_queued",)] == 7
    assert read[("headrace_worker_kv_evictions_total",)] == 11
    assert read[("headrace_worker_preemptions_total",)] == 12


BLOCKS: Mapping[str, float] = {"free": 2, "cached": 3, "referenced": 5}


def samples(text: bytes) -> list[Sample]:
    """All of a page."""
    return [
        sample
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    ]
