"""Settings of what a service tells of itself."""

from pydantic import Field

from headrace.runtime.settings import SettingsGroup


class TracingSettings(SettingsGroup):
    """Where spans go, and how many."""

    endpoint: str = ""
    """OTLP over gRPC, such as http://127.0.0.1:4317, https for TLS; empty = no spans are made."""
    sample_ratio: float = Field(default=1.0, ge=0, le=1)
    """Which part of the requests is traced whose caller has not decided it."""
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


class TelemetrySettings(SettingsGroup):
    """What the service tells of itself."""

    tracing: TracingSettings = TracingSettings()
    """Spans."""
