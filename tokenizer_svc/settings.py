"""Settings of the tokenizer service, table [tokenizer]."""

from typing import Literal

from pydantic import Field

from headrace.access.settings import KeysSettings
from headrace.runtime.settings import SettingsGroup
from headrace.runtime.tls_settings import ServerTlsSettings
from headrace.telemetry.settings import TelemetrySettings

SpecialTokensInContent = Literal["text", "refuse", "allow"]


class TemplateSettings(SettingsGroup):
    """What rendering one conversation may use."""

    max_seconds: float = Field(default=2.0, gt=0, le=60)
    """Longest time in a chat template, in seconds of CPU time."""
    max_characters: int = Field(default=32 * 1024 * 1024, ge=1)
    """Longest text that a chat template may make, in characters."""
    max_bytes: int = Field(default=512 * 1024 * 1024, ge=1024 * 1024)
    """Memory of all that a chat template computes for one conversation, in bytes."""


class LimitSettings(SettingsGroup):
    """Bounds on what callers may ask for."""

    max_pending_encodings: int = Field(default=256, ge=1)
    """Calls that may be encoding or waiting for it; more are refused as overloaded."""
    max_text_characters: int = Field(default=2_000_000, ge=1)
    """Longest text of Encode and CountTokens, in characters."""
    max_text_tokens: int = Field(default=500_000, ge=1)
    """Most ids that Encode gives for one text."""
    long_text_characters: int = Field(default=65_536, ge=1)
    """Longer texts and conversations leave one thread to shorter ones, in characters."""
    max_open_outputs: int = Field(default=65_536, ge=1)
    """Outputs that may be open on one Detokenize stream; more are refused as overloaded."""
    max_stop_strings: int = Field(default=16, ge=1, le=64)
    """Stop strings of one output."""
    max_stop_string_characters: int = Field(default=4096, ge=1)
    """Length of one stop string, in characters."""
    max_schema_characters: int = Field(default=262_144, ge=0)
    """Length of the schemas of all functions of one output together, in characters."""
    max_shared_rules: int = Field(default=32, ge=1)
    """Sets of stop strings for which is kept, between outputs, which tokens cannot begin one."""


class TokenizerSettings(SettingsGroup):
    """What one tokenizer process serves, and where."""

    models: tuple[str, ...] = Field(default=("SmolLM2-135M-Instruct",), min_length=1)
    """Model directories, or names of models in the cache folder; the first is the default."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: int = Field(default=50052, ge=0, le=65535)
    """Port to listen on; 0 = any free one."""
    insecure: bool = False
    """Allow an address other than loopback although callers are not checked."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads that render templates and encode; with one, short texts wait for long ones."""
    special_tokens_in_content: SpecialTokensInContent = "text"
    """Special tokens spelt out in messages: plain text, refused, or read as what they say."""
    output_formats: dict[str, str] = Field(default_factory=dict)
    """Output formats by served name of a model, where what is found out is not wanted."""
    drain_delay_seconds: float = Field(default=0.0, ge=0, le=300)
    """After a request to stop: not ready, but still taking what comes, for so long, in seconds."""
    drain_grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    """How long open outputs may go on after that delay, in seconds."""
    heartbeat_seconds: float = Field(default=5.0, gt=0, le=60)
    """Longest time between two frames to an edge, in seconds."""
    silence_seconds: float = Field(default=15.0, gt=0, le=600)
    """An edge that sends nothing for so long is dead, in seconds."""
    tls: ServerTlsSettings = ServerTlsSettings()
    """TLS of the listener."""
    keys: KeysSettings = KeysSettings()
    """Who may call."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What it tells of itself."""
    template: TemplateSettings = TemplateSettings()
    """Bounds of chat templates."""
    limits: LimitSettings = LimitSettings()
    """Bounds on what callers may ask for."""
