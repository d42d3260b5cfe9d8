"""Settings of who may call a service: the key file, and what an answer without a bound holds."""

from pathlib import Path

from pydantic import Field

from headrace.runtime.settings import SettingsGroup


class KeysSettings(SettingsGroup):
    """API keys of a service's callers."""

    file: Path | None = None
    """TOML file with the hashed keys and what each may do; unset = everybody may do everything."""
    check_seconds: float = Field(default=1.0, gt=0, le=3600)
    """How often is looked at the file, in seconds; a changed one is read at the next quiet look."""


class GenerationKeysSettings(KeysSettings):
    """API keys of callers who have answers generated."""

    unbounded_answer_tokens: int = Field(default=1024, ge=1, le=1_000_000)
    """Tokens held of a key's minute, at most all of it, for each output without max_tokens."""
