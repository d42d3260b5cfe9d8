"""A model by another name, as an operator's settings give it."""

from pydantic import Field

from edge.openai.profile import MAX_TOKEN_COUNT
from headrace.runtime.settings import SettingsGroup


class Alias(SettingsGroup):
    """Another name of a model; its own name may stand here too, to give it a profile or a cap."""

    model: str = Field(min_length=1)
    """The served model that answers."""
    profile: str | None = None
    """Profile of requests for this name, where neither key nor Host has one."""
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKEN_COUNT)
    """Most tokens of one output, also where a request gives no limit; unset = any."""
