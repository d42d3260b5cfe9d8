"""The worker's own figures for Prometheus: of requests when they end, of the rest when asked.

A request costs a few observations by children that are bound already; a frame and a token nothing
here. Names beginning with `gen_ai` are those of OpenTelemetry's GenAI conventions.
"""

from collections.abc import Sequence
from functools import partial

from prometheus_client import Counter, Histogram

from headrace.runtime.identity import Identity
from headrace.telemetry import buckets
from headrace.telemetry.metrics import ServiceMetrics
from headrace.telemetry.names import CHAT_OPERATION, DECODE_PHASE, PREFILL_PHASE, QUEUE_PHASE
from worker.request_end import RequestEnd
from worker.request_phases import Phase

_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class WorkerMetrics(ServiceMetrics):
    """Counted once a request, never once a token."""

    def __init__(self, identity: Identity, provider_name: str = "headrace") -> None:
        super().__init__("worker", identity)
        self._provider_name = provider_name
        self._served: dict[str, _ServedModel] = {}
        histogram = partial(Histogram, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        self._durations = histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's submission to its last end; refused ones are not among them.",
            (*_GEN_AI, "error_type"),
            buckets=buckets.REQUEST_DURATION,
        )
        self._first_tokens = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's submission to its first token, of requests that ended well.",
            _GEN_AI,
            buckets=buckets.TIME_TO_FIRST_TOKEN,
        )
        self._later_tokens = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time of a token after the first one, of requests that ended well.",
            _GEN_AI,
            buckets=buckets.TIME_PER_OUTPUT_TOKEN,
        )
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
            self._durations.labels(*self._labels(end.model), end.failure.label).observe(seconds)
        else:
            self._ended_well(end, phases, seconds)

    def _ended_well(self, end: RequestEnd, phases: Sequence[Phase], seconds: float) -> None:
        served = self._served.get(end.model)
        if served is None:
            served = self._served[end.model] = self._serve(end.model)
        served.durations.observe(seconds)
        times = {phase.name: phase.seconds for phase in phases}
        if DECODE_PHASE in times:
            served.first_tokens.observe(times[QUEUE_PHASE] + times[PREFILL_PHASE])
            if end.longest_output > 1:
                served.later_tokens.observe(times[DECODE_PHASE] / (end.longest_output - 1))

    def _labels(self, model: str) -> tuple[str, str, str]:
        return CHAT_OPERATION, self._provider_name, model

    def _serve(self, model: str) -> "_ServedModel":
        labels = self._labels(model)
        return _ServedModel(
            self._durations.labels(*labels, ""),
            self._first_tokens.labels(*labels),
            self._later_tokens.labels(*labels),
        )


class _ServedModel:
    """Figures of one served name, bound."""

    __slots__ = ("durations", "first_tokens", "later_tokens")

    def __init__(self, durations: Histogram, first: Histogram, later: Histogram) -> None:
        self.durations = durations
        self.first_tokens = first
        self.later_tokens = later
