"""What one request may ask for at most, whatever its profile: the operator's bounds."""

from pydantic import Field

from headrace.runtime.settings import SettingsGroup


class RequestLimits(SettingsGroup):
    """Bounds against requests that are small to send and large to serve.

    Strict profiles refuse what exceeds one, naming it; lenient ones take as much as is allowed.
    """

    max_outputs: int = Field(default=128, ge=1, le=128)
    """Largest `n`."""
    max_total_tokens: int = Field(default=262_144, ge=1)
    """Largest `n` times the token limit (the context, where none is given), for n above 1."""
    max_total_top_logprobs: int = Field(default=512, ge=20)
    """Largest `n` times `top_logprobs`, for n above 1."""
    max_logit_bias_entries: int = Field(default=300, ge=0, le=300)
    """Most entries of `logit_bias`."""
    max_tool_bytes: int = Field(default=262_144, ge=0)
    """Most bytes of `tools`, and of `functions`, as JSON."""
    max_schema_bytes: int = Field(default=131_072, ge=0)
    """Most bytes of the schema, regular expression, grammar or choices of a guided answer."""
