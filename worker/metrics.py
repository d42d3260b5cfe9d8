"""The worker's own figures for Prometheus: of requests when they end, of the rest when asked.

A request costs a few observations by children that are bound already; a frame and a token nothing
here. Names beginning with `gen_ai` are those of OpenTelemetry's GenAI conventions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from prometheus_client import Counter, Histogram

from headrace.runtime.identity import Identity
from headrace.telemetry import buckets
from headrace.telemetry.metrics import ServiceMetrics
from headrace.telemetry.model_histograms import HistogramTexts, ModelHistograms
from headrace.telemetry.names import DECODE_PHASE, PREFILL_PHASE, QUEUE_PHASE
from worker.request_end import RequestEnd
from worker.request_phases import Phase

_TEXTS: Final = HistogramTexts(
    durations="From a request's submission to its last end; refused ones are not among them.",
    first_tokens="From a request's submission to its first token, of requests that ended well.",
    later_tokens="Mean time of a token after the first one, of requests that ended well.",
)


class WorkerMetrics(ServiceMetrics):
    """Counted once a request, never once a token."""

    def __init__(self, identity: Identity, provider_name: str = "headrace") -> None:
        super().__init__("worker", identity)
        histogram = partial(Histogram, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        self._models = ModelHistograms(self.registry, provider_name, _TEXTS)
        self._phases = {
            name: histogram(f"headrace_worker_{name}_seconds", text, buckets=buckets.PHASE_SECONDS)
            for name, text in (
                (QUEUE_PHASE, "From submission to the first step that fed the model."),
                (PREFILL_PHASE, "From the first step that fed the model to the first token."),
                (DECODE_PHASE, "From the first to the last token, of requests that ended well."),
            )
        }
        prompt_tokens = counter(
            "headrace_worker_prompt_tokens",
            "Prompt tokens of requests that had a first token, by where they came from.",
            ("source",),
        )
        self._cached_tokens = prompt_tokens.labels("cached")
        self._computed_tokens = prompt_tokens.labels("computed")
        self._requests = counter(
            "headrace_worker_requests",
            "Requests that ended, by how: stop, length, or the reason of the first failure.",
            ("outcome",),
        )
        self._refusals = counter(
            "headrace_worker_refusals",
            "Requests that were not taken, by reason and by class of their caller.",
            ("reason", "tenant_class"),
        )

    def refused(self, reason: str, tenant_class: str) -> None:
        """A request was not taken; `reason` is a label of the error table."""
        self._refusals.labels(reason, tenant_class).inc()

    def ended(self, end: RequestEnd, phases: Sequence[Phase], seconds: float) -> None:
        """A request ended `seconds` after its submission."""
        self._requests.labels(end.outcome).inc()
        for phase in phases:
            if phase.is_whole:
                self._phases[phase.name].observe(phase.seconds)
        if end.started is not None:
            cached = end.started.cached_prompt_tokens
            self._cached_tokens.inc(cached)
            self._computed_tokens.inc(end.started.prompt_tokens - cached)
        if end.failure is not None:
            self._models.failed(end.model, end.failure.label, seconds)
        else:
            self._ended_well(end, phases, seconds)

    def _ended_well(self, end: RequestEnd, phases: Sequence[Phase], seconds: float) -> None:
        times = {phase.name: phase.seconds for phase in phases}
        first = later = None
        if DECODE_PHASE in times:
            first = times[QUEUE_PHASE] + times[PREFILL_PHASE]
            if end.longest_output > 1:
                later = times[DECODE_PHASE] / (end.longest_output - 1)
        self._models.ended_well(end.model, seconds, first, later)
