"""`ModelMetrics`: what OpenTelemetry's GenAI conventions count, as the edge's clients see it."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from edge.answer_report import AnswerReport
from edge.request_outcome import RequestOutcome
from headrace.client.answers import AnswerUsage
from headrace.telemetry.bounded_labels import BoundedLabels
from headrace.telemetry.model_histograms import (
    MODEL_LABELS,
    HistogramTexts,
    ModelHistograms,
    model_labels,
)

_MAX_MODELS = 256
_USAGE = ("input", "cache_read_input", "output", "reasoning_output")
_TEXTS: Final = HistogramTexts(
    durations="From a request's head to the last byte of its answer; refused ones are not among "
    "them.",
    first_tokens="From a request's head to the first text, of requests that ended well; whole "
    "answers go out later.",
    later_tokens="Mean time of the longest output's tokens after the first, of requests that ended "
    "well.",
)


class ModelMetrics:
    """Figures by served model; of requests that a worker was asked for."""

    def __init__(self, registry: CollectorRegistry, provider_name: str) -> None:
        self._provider_name = provider_name
        self._names = BoundedLabels(_MAX_MODELS)
        self._histograms = ModelHistograms(registry, provider_name, _TEXTS)
        self._usage = [
            Counter(
                f"gen_ai_client_inference_usage_{kind}_tokens",
                f"Tokens of requests that a worker took up: {kind.replace('_', ' ')}.",
                MODEL_LABELS,
                registry=registry,
            )
            for kind in _USAGE
        ]
        self._bound_usage: dict[str, list[Counter]] = {}

    def ended(
        self, model: str, report: AnswerReport, began: float, outcome: RequestOutcome
    ) -> None:
        """A request for `model` ended whose head had come at `began`."""
        if not report.timeline.attempts:
            return
        name, seconds = self._names.bounded(model), outcome.seconds
        if report.timeline.started is not None:
            self._count(name, report.usage)
        if outcome.reason is not None:
            self._histograms.failed(name, outcome.reason, seconds)
        else:
            first = report.first_text_seconds(began)
            later = report.token_seconds(began, seconds)
            self._histograms.ended_well(name, seconds, first, later)

    def _count(self, name: str, usage: AnswerUsage) -> None:
        counts = (
            usage.prompt_tokens,
            usage.cached_prompt_tokens,
            sum(usage.completion_tokens),
            sum(usage.reasoning_tokens),
        )
        for counter, count in zip(self._bound_usage_of(name), counts, strict=True):
            counter.inc(count)

    def _bound_usage_of(self, name: str) -> list[Counter]:
        """In the order of `_USAGE`."""
        bound = self._bound_usage.get(name)
        if bound is None:
            labels = model_labels(self._provider_name, name)
            bound = self._bound_usage[name] = [kind.labels(*labels) for kind in self._usage]
        return bound
