"""Settings of what a service tells of itself."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from headrace.runtime.settings import FromEnvironment, SettingsGroup
from headrace.runtime.tls_settings import require_pair
from headrace.telemetry.collector_address import CollectorAddress
from headrace.telemetry.standard_variables import (
    standard_ca_file,
    standard_certificate_file,
    standard_compression,
    standard_endpoint,
    standard_headers,
    standard_key_file,
    standard_sample_ratio,
)


class CollectorTlsSettings(SettingsGroup):
    """TLS of the connection to the collector, with an https:// endpoint."""

    ca_file: Annotated[Path | None, FromEnvironment(standard_ca_file)] = None
    """PEM file with the authorities that the collector's certificate must come from.

    Unset, OTEL_EXPORTER_OTLP_CERTIFICATE holds; unset too = the system's.
    """
    certificate_file: Annotated[Path | None, FromEnvironment(standard_certificate_file)] = None
    """PEM file with the certificate chain shown to the collector; unset = none is shown.

    Unset, OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE holds.
    """
    key_file: Annotated[Path | None, FromEnvironment(standard_key_file)] = None
    """PEM file with that certificate's private key, not encrypted.

    Unset, OTEL_EXPORTER_OTLP_CLIENT_KEY holds.
    """

    @model_validator(mode="after")
    def _files_belong_together(self) -> Self:
        require_pair(self.certificate_file, self.key_file)
        return self

    @property
    def names_files(self) -> bool:
        """Whether it says anything."""
        return self.ca_file is not None or self.certificate_file is not None


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
    headers_file: Path | None = None
    """File with the headers that the collector asks for, such as api-key=…; read again on change.

    As `headers`, or a header a line. Set, `headers` and the standard variables do not hold.
    """
    headers: Annotated[SecretStr | None, FromEnvironment(standard_headers)] = None
    """Those headers themselves, name=value,name=value, values percent-encoded: rather in a file.

    Unset, OTEL_EXPORTER_OTLP_TRACES_HEADERS or OTEL_EXPORTER_OTLP_HEADERS hold.
    """
    headers_in_clear_text: bool = False
    """Whether they may go to an http:// endpoint off this machine: others can read them along."""
    tls: CollectorTlsSettings = CollectorTlsSettings()
    """Certificates, with an https:// endpoint."""
    compression: Annotated[Literal["none", "gzip"], FromEnvironment(standard_compression)] = "none"
    """How what is sent is compressed.

    Unset, OTEL_EXPORTER_OTLP_TRACES_COMPRESSION or OTEL_EXPORTER_OTLP_COMPRESSION hold.
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

    @model_validator(mode="after")
    def _certificates_have_a_use(self) -> Self:
        uses_tls = not self.endpoint or CollectorAddress.parse(self.endpoint).uses_tls
        if self.tls.names_files and not uses_tls:
            raise ValueError(
                f"tls names files, or OTEL_EXPORTER_OTLP_CERTIFICATE or _CLIENT_CERTIFICATE does, "
                f"but endpoint {self.endpoint} is not https://"
            )
        return self


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
