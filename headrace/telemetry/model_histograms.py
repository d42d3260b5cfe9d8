"""The histograms that OpenTelemetry's GenAI conventions have of a server's models."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Histogram

from headrace.telemetry import buckets
from headrace.telemetry.names import CHAT_OPERATION

MODEL_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


def model_labels(provider_name: str, model: str) -> tuple[str, str, str]:
    """The values of `MODEL_LABELS`; `model` is the served name, never a client's text."""
    return CHAT_OPERATION, provider_name, model


@dataclass(frozen=True, slots=True)
class HistogramTexts:
    """What the service says of each: whence and whither its seconds count."""

    durations: str
    first_tokens: str
    later_tokens: str


@dataclass(frozen=True, slots=True)
class _Bound:
    """Those of one model's requests that ended well."""

    durations: Histogram
    first_tokens: Histogram
    later_tokens: Histogram


class ModelHistograms:
    """Of requests that were taken, by model; a model's first makes all its series, however it ends.

    A counter that begins at zero is one whose first increase can be seen.
    """

    def __init__(
        self, registry: CollectorRegistry, provider_name: str, texts: HistogramTexts
    ) -> None:
        self._provider_name = provider_name
        self._bound: dict[str, _Bound] = {}
        histogram = partial(Histogram, registry=registry)
        self._durations = histogram(
            "gen_ai_server_request_duration_seconds",
            texts.durations,
            (*MODEL_LABELS, "error_type"),
            buckets=buckets.REQUEST_DURATION,
        )
        self._first_tokens = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            texts.first_tokens,
            MODEL_LABELS,
            buckets=buckets.TIME_TO_FIRST_TOKEN,
        )
        self._later_tokens = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            texts.later_tokens,
            MODEL_LABELS,
            buckets=buckets.TIME_PER_OUTPUT_TOKEN,
        )

    def failed(self, model: str, error_type: str, seconds: float) -> None:
        """A request failed after so long."""
        labels = model_labels(self._provider_name, model)
        self._durations.labels(*labels, error_type).observe(seconds)
        self._bound_to(model)

    def ended_well(
        self, model: str, seconds: float, first_token: float | None, later_token: float | None
    ) -> None:
        """A request took so long; None where it had no such token."""
        bound = self._bound_to(model)
        bound.durations.observe(seconds)
        if first_token is not None:
            bound.first_tokens.observe(first_token)
        if later_token is not None:
            bound.later_tokens.observe(later_token)

    def _bound_to(self, model: str) -> _Bound:
        bound = self._bound.get(model)
        if bound is None:
            labels = model_labels(self._provider_name, model)
            bound = self._bound[model] = _Bound(
                self._durations.labels(*labels, ""),
                self._first_tokens.labels(*labels),
                self._later_tokens.labels(*labels),
            )
        return bound
