"""`ModelMetrics`: what OpenTelemetry's GenAI conventions count, as the edge's clients see it."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram

from edge.answer_report import AnswerReport
from edge.request_outcome import RequestOutcome
from headrace.telemetry import buckets
from headrace.telemetry.bounded_labels import BoundedLabels
from headrace.telemetry.names import CHAT_OPERATION

_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_MAX_MODELS = 256
_USAGE = ("input", "cache_read_input", "output", "reasoning_output")


class ModelMetrics:
    """Figures by served model; of requests that a worker was asked for."""

    def __init__(self, registry: CollectorRegistry, provider_name: str) -> None:
        self._provider_name = provider_name
        self._names = BoundedLabels(_MAX_MODELS)
        self._served: dict[str, _ServedModel] = {}
        histogram = partial(Histogram, registry=registry)
        self._durations = histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's head to the last byte of its answer; refused ones are not among "
            "them.",
            (*_LABELS, "error_type"),
            buckets=buckets.REQUEST_DURATION,
        )
        self._first_texts = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's head to the first text, of requests that ended well; whole answers "
            "go out later.",
            _LABELS,
            buckets=buckets.TIME_TO_FIRST_TOKEN,
        )
        self._later_tokens = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time of the longest output's tokens after the first, of requests that ended "
            "well.",
            _LABELS,
            buckets=buckets.TIME_PER_OUTPUT_TOKEN,
        )
        self._usage = {
            kind: Counter(
                f"gen_ai_client_inference_usage_{kind}_tokens",
                f"Tokens of requests that a worker took up: {kind.replace('_', ' ')}.",
                _LABELS,
                registry=registry,
            )
            for kind in _USAGE
        }

    def ended(
        self, model: str, report: AnswerReport, began: float, outcome: RequestOutcome
    ) -> None:
        """A request for `model` ended whose head had come at `began`."""
        if not report.timeline.attempts:
            return
        name = self._names.bounded(model)
        served = self._served.get(name)
        if served is None:
            served = self._served[name] = self._serve(name)
        if report.timeline.started is not None:
            served.count(report)
        if outcome.reason is not None:
            self._durations.labels(*self._labels(name), outcome.reason).observe(outcome.seconds)
        else:
            served.observe(report, began, outcome.seconds)

    def _labels(self, model: str) -> tuple[str, str, str]:
        return CHAT_OPERATION, self._provider_name, model

    def _serve(self, model: str) -> "_ServedModel":
        labels = self._labels(model)
        return _ServedModel(
            self._durations.labels(*labels, ""),
            self._first_texts.labels(*labels),
            self._later_tokens.labels(*labels),
            [self._usage[kind].labels(*labels) for kind in _USAGE],
        )


class _ServedModel:
    """Figures of one model, bound; `usage` in the order of `_USAGE`."""

    __slots__ = ("_durations", "_first_texts", "_later_tokens", "_usage")

    def __init__(
        self,
        durations: Histogram,
        first_texts: Histogram,
        later_tokens: Histogram,
        usage: list[Counter],
    ) -> None:
        self._durations = durations
        self._first_texts = first_texts
        self._later_tokens = later_tokens
        self._usage = usage

    def count(self, report: AnswerReport) -> None:
        usage = report.usage
        counts = (
            usage.prompt_tokens,
            usage.cached_prompt_tokens,
            sum(usage.completion_tokens),
            sum(usage.reasoning_tokens),
        )
        for counter, count in zip(self._usage, counts, strict=True):
            counter.inc(count)

    def observe(self, report: AnswerReport, began: float, seconds: float) -> None:
        """A request that ended well."""
        self._durations.observe(seconds)
        first = report.first_text_seconds(began)
        if first is not None:
            self._first_texts.observe(first)
        later = report.token_seconds(began, seconds)
        if later is not None:
            self._later_tokens.observe(later)
