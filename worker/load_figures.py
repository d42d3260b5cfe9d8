"""The worker's figures that are kept anyway, read only when somebody asks: load, frames, aborts."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.active_requests import RequestTable
from worker.engine.seam import Engine, EngineLoad


class LoadFigures(Collector):
    """An engine's load and a table's counts, as they are at the scrape; asked from any thread."""

    def __init__(self, engine: Engine, table: RequestTable) -> None:
        self._engine = engine
        self._table = table

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering asks nothing of an engine that has not started."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of them, of one moment."""
        yield from _load_metrics(self._engine.load)
        yield from self._table_metrics()

    def _table_metrics(self) -> Iterator[Metric]:
        table = self._table
        yield GaugeMetricFamily(
            "headrace_worker_requests_running",
            "Requests that were taken and have not ended.",
            table.num_running,
        )
        yield CounterMetricFamily(
            "headrace_worker_output_tokens", "Tokens generated.", table.output_tokens
        )
        aborts = CounterMetricFamily(
            "headrace_worker_aborts",
            "Outputs that were aborted, by cause.",
            labels=["reason"],
        )
        for cause, count in list(table.aborts.items()):
            aborts.add_metric([cause], count)
        yield aborts
        frames = CounterMetricFamily(
            "headrace_worker_frames", "Frames on streams of edges.", labels=["direction"]
        )
        frames.add_metric(["received"], table.frames.received)
        frames.add_metric(["sent"], table.frames.sent)
        yield frames
        yield CounterMetricFamily(
            "headrace_worker_frame_tokens", "Tokens in frames to edges.", table.frame_tokens
        )
        yield CounterMetricFamily(
            "headrace_worker_stray_entries",
            "Entries and aborts of outputs that are not known, or not any more.",
            table.stray_entries,
        )


def _load_metrics(load: EngineLoad) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "headrace_worker_outputs_queued",
        "Outputs that the engine has not fed to the model yet.",
        load.queued_outputs,
    )
    blocks = GaugeMetricFamily(
        "headrace_worker_kv_blocks",
        "Blocks of the KV cache: free ones hold nothing, cached ones a prefix that nobody uses.",
        labels=["state"],
    )
    blocks.add_metric(["free"], load.free_blocks)
    blocks.add_metric(["cached"], load.cached_blocks)
    blocks.add_metric(["referenced"], load.referenced_blocks)
    yield blocks
    yield CounterMetricFamily(
        "headrace_worker_kv_evictions",
        "Cached blocks that were given up for another request.",
        load.evicted_blocks,
    )
    yield CounterMetricFamily(
        "headrace_worker_preemptions",
        "Outputs put back to the queue since blocks ran out.",
        load.preemptions,
    )
