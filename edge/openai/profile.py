"""A profile: how strict the wire is, what is assumed where a request is silent, what answers hold.

Profiles are data: `edge/profiles.toml` holds the shipped ones, an operator adds others. Every key
is a choice in which at least two of the APIs that clients are written for differ.
"""

from typing import Literal

from pydantic import Field

from headrace.runtime.settings import SettingsGroup

MAX_TOKEN_COUNT = 2**32 - 1

UsageExtra = Literal["cached_tokens", "prompt_cache_tokens", "text_tokens", "criteria"]
MessageExtra = Literal["reasoning_content"]
ChoiceExtra = Literal["content_filter_results", "criteria_results"]


class Profile(SettingsGroup):
    """One dialect of the wire; the values given here are OpenAI's."""

    strict: bool = True
    """Refuse what is out of range or contradictory; false = take the nearest and say so in
    `x-headrace-clamped`, and leave out what the model does not honour, named in
    `x-headrace-ignored`."""
    strict_messages: bool = True
    """Hold names, ids, tools and formats to OpenAI's forms; false = take any, and calls and results
    that do not belong together."""
    model_echo: Literal["requested", "resolved"] = "requested"
    """The `model` of answers: the name that was asked for, or the one that an alias stands for."""
    system_first_only: bool = False
    """Refuse system and developer messages anywhere but at the beginning."""
    default_temperature: float | None = Field(default=None, ge=0, le=2)
    """Temperature of requests that give none; unset = 1."""
    default_top_p: float | None = Field(default=None, ge=0, le=1)
    """Nucleus of requests that give none; unset = 1."""
    default_max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKEN_COUNT)
    """Most tokens of an output where a request gives no limit; unset = to the context's end."""
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKEN_COUNT)
    """Largest token limit that a request may give; unset = any."""
    usage_extras: tuple[UsageExtra, ...] = ("cached_tokens",)
    """What `usage` holds beside OpenAI's own: `cached_tokens` at its top, `prompt_cache_tokens`
    (hit and miss, together the prompt), `text_tokens` in the details, empty `criteria`."""
    message_extras: tuple[MessageExtra, ...] = ()
    """Keys of an answer's message beside OpenAI's own; null where there is nothing to say."""
    choice_extras: tuple[ChoiceExtra, ...] = ()
    """Keys of an answer's choice beside OpenAI's own; empty objects: nothing filters or judges."""
