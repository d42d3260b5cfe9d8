"""Settings of what a service tells of itself."""

from typing import Annotated

from pydantic import Field, field_validator

from headrace.runtime.settings import FromEnvironment, SettingsGroup
from headrace.telemetry.collector_address import CollectorAddress
from headrace.telemetry.standard_variables import standard_endpoint, standard_sample_ratio


class TracingSettings(SettingsGroup):
    """Where spans go, and how many."""

    endpoint: Annotated[str, FromEnvironment(standard_endpoint)] = ""
    """OTLP over gRPC, such as http://127.0.0.1:4317, https for TLS; empty = no spans are made.

    Unset, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT hold.
    """
    sample_ratio: Annotated[float, FromEnvironment(standard_sample_ratio)] = Field(
        default=1.0, ge=0, le=1
    )
    """Which part of the requests is traced whose caller has not decided it.

    Unset, OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG hold.
    """
    max_waiting_spans: int = Field(default=4096, ge=64, le=1_000_000)
    """Spans that wait to be sent; what comes on top is dropped and counted."""
    export_interval_seconds: float = Field(default=1.0, gt=0, le=60)
    """Longest wait of a span before it is sent."""
    export_timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    """Longest time that sending a batch may take."""
    provider_name: str = Field(default="headrace", min_length=1, max_length=64)
    """What spans and metrics say as gen_ai.provider.name."""
    capture_messages: bool = False
    """Whether prompts and answers are put on spans; only where that is allowed."""

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_an_address(cls, endpoint: str) -> str:
        if endpoint:
            CollectorAddress.parse(endpoint)
        return endpoint


class HealthSettings(SettingsGroup):
    """A second, plaintext port for probes and scrapes, answered by a small process of its own."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; whoever reaches it may read health and metrics."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """Port to listen on; 0 = any free one; unset = there is none."""
    stuck_seconds: float = Field(default=10.0, gt=0, le=3600)
    """An event loop that has not run for so long is unhealthy, in seconds."""
    start_seconds: float = Field(default=3600.0, gt=0, le=86_400)
    """A start that takes longer is unhealthy, in seconds; meanwhile the loop may stand still."""
    metrics_interval_seconds: float = Field(default=1.0, ge=0.1, le=60)
    """Time between two renderings of the metrics for this port, in seconds."""


class TelemetrySettings(SettingsGroup):
    """What the service tells of itself."""

    tracing: TracingSettings = TracingSettings()
    """Spans."""
    health: HealthSettings = HealthSettings()
    """The health port."""
