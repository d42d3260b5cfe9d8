"""Settings of the edge service, table [edge]."""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from edge.openai.alias import Alias
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.profile_data import host_name, merge_own_profiles, shipped_profiles
from headrace.access.settings import GenerationKeysSettings
from headrace.runtime.settings import SettingsGroup
from headrace.runtime.tls_settings import ClientTlsSettings, require_pair
from headrace.telemetry.settings import TelemetrySettings


class ServerSettings(SettingsGroup):
    """The HTTP listener."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 = any free one."""
    insecure: bool = False
    """Allow an address other than loopback although no API keys are configured."""
    tls_certificate_file: Path | None = None
    """PEM file with the certificate chain; unset = plain HTTP."""
    tls_key_file: Path | None = None
    """PEM file with the certificate's private key, not encrypted."""
    tls_port: int | None = Field(default=None, ge=0, le=65535)
    """Port for TLS beside plain HTTP on `port`; unset = with a certificate `port` speaks TLS."""
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024, le=2**30)
    """Largest request body, after decompression, in bytes."""
    body_timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    """Time in which a request's whole body must have arrived, in seconds."""
    keepalive_timeout_seconds: float = Field(default=75.0, gt=0, le=3600)
    """How long a connection may stay without a complete request head, in seconds."""
    drain_delay_seconds: float = Field(default=0.0, ge=0, le=300)
    """After a request to stop: not ready, but still taking what comes, for so long, in seconds."""
    drain_grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    """How long running requests may go on after that delay, in seconds."""

    @model_validator(mode="after")
    def _tls_is_complete(self) -> "ServerSettings":
        require_pair(self.tls_certificate_file, self.tls_key_file, "tls_")
        if self.tls_port is not None and self.tls_certificate_file is None:
            raise ValueError("tls_port needs tls_certificate_file and tls_key_file")
        if self.tls_port and self.tls_port == self.port:
            raise ValueError(f"tls_port and port must differ, both are {self.port}")
        return self


class AdmissionSettings(SettingsGroup):
    """How many requests are worked on, and how many wait."""

    max_concurrent_requests: int = Field(default=1024, ge=1, le=100_000)
    """Requests being rendered or generated at the same time."""
    max_queued_requests: int = Field(default=1024, ge=0, le=100_000)
    """Requests that wait for one of them to end; more are refused."""
    queue_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Longest wait in that queue, in seconds."""
    retry_after_seconds: float = Field(default=1.0, ge=1, le=3600)
    """What a refused client is told to wait, in seconds."""
    max_body_bytes_in_flight: int = Field(default=256 * 2**20, ge=1024)
    """Bytes of all bodies together that are not rendered yet, 64 KiB of each not counted."""


class StreamingSettings(SettingsGroup):
    """Bounds on clients that read too slowly."""

    high_water_bytes: int = Field(default=256 * 1024, ge=1024, le=2**30)
    """Unread bytes of one connection above which deltas are merged instead of written."""
    low_water_bytes: int = Field(default=64 * 1024, ge=0, le=2**30)
    """Unread bytes below which writing goes on."""
    max_held_bytes: int = Field(default=16 * 2**20, ge=1024, le=2**30)
    """Log probabilities that are held back, in bytes, above which a slow client is dropped."""
    stall_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    """A client is dropped that for so long, in seconds, stays above the low-water mark, takes
    nothing of what it was sent, or pipelines more than is buffered behind a running request."""

    @model_validator(mode="after")
    def _marks_are_ordered(self) -> "StreamingSettings":
        if self.low_water_bytes >= self.high_water_bytes:
            raise ValueError("low_water_bytes must be below high_water_bytes")
        return self


class BackendSettings(SettingsGroup):
    """The services behind."""

    tokenizer_addresses: tuple[str, ...] = Field(default=("127.0.0.1:50052",), min_length=1)
    """Addresses of tokenizer services, host:port; every address of a name is one."""
    worker_addresses: tuple[str, ...] = Field(default=("127.0.0.1:50061",), min_length=1)
    """Addresses of workers, host:port; every address of a name is one."""
    resolve_seconds: float = Field(default=2.0, ge=0.1, le=300)
    """How often names among these addresses are looked up, in seconds."""
    render_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Longest time that rendering a prompt may take, in seconds."""
    request_timeout_seconds: float = Field(default=3600.0, gt=0, le=86400)
    """Longest time from the arrival of a request's body to its last byte, in seconds."""
    heartbeat_seconds: float = Field(default=5.0, gt=0, le=60)
    """Longest time between two frames to a worker or tokenizer, in seconds."""
    silence_seconds: float = Field(default=15.0, gt=0, le=600)
    """A worker or tokenizer that sends nothing for so long is dead, in seconds."""
    tls: ClientTlsSettings = ClientTlsSettings()
    """TLS of the connections to them."""
    api_key_file: Path | None = None
    """File with the trusted API key that is shown to them, re-read on change; unset = none is."""


class EdgeSettings(SettingsGroup):
    """What one edge process serves, and where."""

    server: ServerSettings = ServerSettings()
    """The HTTP listener."""
    admission: AdmissionSettings = AdmissionSettings()
    """Bounds on the number of requests."""
    streaming: StreamingSettings = StreamingSettings()
    """Bounds on slow readers."""
    backend: BackendSettings = BackendSettings()
    """The services behind."""
    keys: GenerationKeysSettings = GenerationKeysSettings()
    """Who may call."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What it tells of itself."""
    limits: RequestLimits = RequestLimits()
    """What one request may ask for, whatever its profile says."""
    profiles: dict[str, Profile] = Field(default_factory=dict)
    """An operator's own profiles by name; `base` names the one whose values they begin with."""
    hosts: dict[str, str] = Field(default_factory=dict)
    """Which profile requests have that come to a Host (without its port)."""
    aliases: dict[str, Alias] = Field(default_factory=dict)
    """Models by other names; `*` is every name that is nobody's."""

    @field_validator("profiles", mode="before")
    @classmethod
    def _profiles_have_bases(cls, value: Any) -> Any:
        return merge_own_profiles(value) if isinstance(value, dict) else value

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, value: dict[str, str]) -> dict[str, str]:
        for host in value:
            if host_name(host) != host:
                raise ValueError(f"a host is spelt without port, in lower case: {host!r}")
        return value

    @model_validator(mode="after")
    def _named_profiles_exist(self) -> "EdgeSettings":
        known = shipped_profiles().keys() | self.profiles.keys()
        named = {f"hosts.{host}": name for host, name in self.hosts.items()}
        for name, alias in self.aliases.items():
            if alias.profile is not None:
                named[f"aliases.{name}.profile"] = alias.profile
        for key, name in named.items():
            if name not in known:
                raise ValueError(
                    f"{key} names no profile: {name!r}; known are {', '.join(sorted(known))}"
                )
        return self

    @model_validator(mode="after")
    def _largest_body_fits(self) -> "EdgeSettings":
        if self.admission.max_body_bytes_in_flight < self.server.max_body_bytes:
            raise ValueError(
                "admission.max_body_bytes_in_flight must be at least server.max_body_bytes"
            )
        return self
