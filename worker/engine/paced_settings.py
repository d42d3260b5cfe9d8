"""Settings of the paced engine, table [worker.paced]."""

from typing import Literal

from pydantic import Field

from headrace.runtime.settings import SettingsGroup


class PacedSettings(SettingsGroup):
    """A double that emits deterministic tokens at a set rate: for tests, load and benchmarks."""

    tokens_per_second: float = Field(default=50.0, gt=0, le=10_000)
    """Tokens a second of each output."""
    prefill_tokens_per_second: float = Field(default=1_000_000.0, gt=0)
    """Prompt tokens a second of each request, before its first token."""
    script: Literal["sentence", "echo"] = "sentence"
    """What is emitted: a fixed sentence over and over, or the prompt's own tokens and an end."""
    max_running_outputs: int = Field(default=4096, ge=1, le=65536)
    """Outputs that run at once; further ones are queued."""
    max_queued_outputs: int = Field(default=4096, ge=0, le=65536)
    """Outputs that may wait; further ones are refused as overloaded."""
