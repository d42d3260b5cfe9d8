"""Real services that send their spans to a collector, and what tests ask of them."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.settings import EdgeSettings
from headrace.telemetry.settings import HealthSettings, TelemetrySettings, TracingSettings
from tests.support.chat_client import CHAT_PATH, Answer, connected, http_request
from tests.support.otlp_recorder import OtlpRecorder
from tests.support.seen_spans import SeenSpan
from tests.support.stack import Service, Stack
from tests.support.trace_check import Row, differences, first_chunk_faults
from tests.telemetry.span_table import SCENARIOS, Asked
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

_TRACE_SECONDS = 10.0


@dataclass(frozen=True)
class CallersTrace:
    """The trace of a caller, who sends its context along."""

    is_sampled: bool = True
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def traceparent(self) -> str:
        """The header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    @property
    def header(self) -> str:
        """The header."""
        return f"traceparent: {self.traceparent}"


def telemetry(endpoint: str, **tracing: object) -> TelemetrySettings:
    """Spans go there at once."""
    values = {"endpoint": endpoint, "export_interval_seconds": 0.05, **tracing}
    return TelemetrySettings(
        tracing=TracingSettings.model_validate(values),
        health=HealthSettings(port=0, metrics_interval_seconds=0.1),
    )


async def ask_traced(
    edge: Service,
    body: dict[str, Any],
    trace: CallersTrace,
    *headers: str,
    path: str = CHAT_PATH,
    into: Answer | None = None,
) -> Answer:
    """One request of that trace, and its whole answer, which grows in `into`."""
    async with connected(edge) as connection:
        await connection.send(http_request(body, path=path, headers=(trace.header, *headers)))
        return await connection.read_answer(into)


class TracedStack(Stack):
    """A stack whose services all send to one endpoint; checks traces that reach the recorder."""

    def __init__(
        self, folder: Path, endpoint: str, recorder: OtlpRecorder, **tracing: object
    ) -> None:
        super().__init__(folder)
        self.recorder = recorder
        self._endpoint = endpoint
        self._tracing = tracing
        # Of each trace that was checked, the most spans that it may ever have.
        self._most: dict[str, int] = {}

    def start_backend(
        self, workers: list[WorkerSettings], tokenizers: list[TokenizerSettings] | None = None
    ) -> None:
        traced = {"telemetry": telemetry(self._endpoint, **self._tracing)}
        super().start_backend(
            [each.model_copy(update=traced) for each in workers],
            [each.model_copy(update=traced) for each in tokenizers or [TokenizerSettings()]],
        )

    def add_edge(self, settings: EdgeSettings | None = None, **tracing: object) -> Service:
        settings = settings or EdgeSettings()
        traced = telemetry(self._endpoint, **self._tracing, **tracing)
        return super().add_edge(settings.model_copy(update={"telemetry": traced}))

    async def check(self, scenario: str, asked: Asked, trace: CallersTrace) -> list[SeenSpan]:
        """The trace of a request is what the table says of the scenario; returns its spans."""
        return await self.check_trees([SCENARIOS[scenario](asked)], trace.trace_id, trace.span_id)

    async def check_trees(
        self, trees: Sequence[Row], trace_id: str, parent_id: str
    ) -> list[SeenSpan]:
        """The same for trees below the caller's span `parent_id`, "" for none."""
        size = sum(tree.size for tree in trees)

        def is_whole(spans: Sequence[SeenSpan]) -> bool:
            return len(spans) >= size

        spans = await asyncio.to_thread(
            self.recorder.await_trace, trace_id, is_whole, _TRACE_SECONDS
        )
        self._most[trace_id] = sum(tree.most for tree in trees)
        faults = [*differences(spans, trees, parent_id), *first_chunk_faults(spans)]
        assert not faults, "\n".join(faults)
        return spans

    def expect_nothing(self, trace: CallersTrace) -> None:
        """No span of that trace may ever come."""
        self._most[trace.trace_id] = 0

    def close(self) -> None:
        """End all services, which sends what is left; nothing more of a checked trace may come."""
        super().close()
        late = {
            trace_id: [span.name for span in self.recorder.spans(trace_id)]
            for trace_id, count in self._most.items()
            if len(self.recorder.spans(trace_id)) > count
        }
        assert not late, f"more spans than were checked: {late}"
