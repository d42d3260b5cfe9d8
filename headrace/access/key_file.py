"""The key file: TOML with a [[keys]] entry for every key, checked as a whole.

Problems name the file, the entry and its line. They never show a value: somebody may have put the
key itself where its hash belongs.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from headrace.access.caller import Caller, Limits
from headrace.runtime.errors import StartError
from headrace.runtime.settings import SettingsGroup

_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*keys[ \t]*\]\]")
_ID_DIGITS = 12
_MOST_A_MINUTE = 10**9
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")


class KeyEntry(SettingsGroup):
    """One [[keys]] entry, as it is written."""

    model_config = ConfigDict(strict=True)

    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    """SHA-256 of the whole key, in hex."""
    label: str | None = Field(default=None, pattern=_NAME)
    """A name for people; it is logged."""
    tenant: str | None = Field(default=None, pattern=_NAME)
    """Whose prefix cache is shared; every key but a trusted one has one."""
    profile: str | None = Field(default=None, min_length=1)
    """Profile of the edge; unset = chosen by host, model or path."""
    models: list[str] | None = Field(default=None, min_length=1)
    """Models that may be used; unset = all."""
    requests_per_minute: int | None = Field(default=None, ge=1, le=_MOST_A_MINUTE)
    """Requests a minute; unset = no bound."""
    tokens_per_minute: int | None = Field(default=None, ge=1, le=_MOST_A_MINUTE)
    """Prompt and answer tokens a minute; unset = no bound."""
    concurrent_requests: int | None = Field(default=None, ge=1, le=_MOST_A_MINUTE)
    """Requests at a time; unset = no bound."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Higher goes first in a worker's queue."""
    trusted: bool = False
    """A service of ours, which speaks for others: it sets salt and priority, without limits."""

    @model_validator(mode="after")
    def _is_somebodys(self) -> "KeyEntry":
        if not self.trusted:
            if self.tenant is None:
                raise ValueError("tenant is missing; only trusted keys have none")
            return self
        for name in ("tenant", "profile", "models", *_LIMITS):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} does not go with trusted: such a key may do everything")
        if self.priority:
            raise ValueError("priority does not go with trusted: such a caller sets each request's")
        return self

    def caller(self) -> Caller:
        """Who holds the key."""
        digits = self.sha256.lower()[:_ID_DIGITS]
        return Caller(
            tenant=self.tenant or "",
            key_id=f"{self.label}:{digits}" if self.label else digits,
            profile=self.profile,
            models=None if self.models is None else frozenset(self.models),
            limits=Limits(
                self.requests_per_minute, self.tokens_per_minute, self.concurrent_requests
            ),
            priority=self.priority,
            is_trusted=self.trusted,
        )


def read_key_file(file: Path) -> Mapping[str, Caller]:
    """The callers by the lower-case hex SHA-256 of their keys.

    Raises StartError, one sentence: unreadable, no TOML, no keys at all, or an entry at fault.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise StartError(f"key file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StartError(f"key file {file} is not UTF-8") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at [^()]*\)$", str(error))
        shown = place[0] if place else ""
        raise StartError(f"key file {file} is not valid TOML {shown}".rstrip()) from None
    return _callers(content, f"key file {file}", text)


def check_entry(values: Mapping[str, Any]) -> None:
    """Raise StartError for an entry that a key file may not have."""
    _entry(values, "the entry")


def _callers(content: Mapping[str, Any], name: str, text: str) -> Mapping[str, Caller]:
    if set(content) - {"keys"}:
        raise StartError(f"{name}: only [[keys]] entries belong into it")
    entries = content.get("keys")
    if not (isinstance(entries, list) and entries and all(isinstance(e, dict) for e in entries)):
        # A file that is being written anew is empty for a moment: that must not lock all out.
        raise StartError(f"{name} has no [[keys]] entry")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if _HEADER.match(line)]
    found: dict[str, tuple[str, Caller]] = {}
    for index, values in enumerate(entries):
        place = f"entry {index + 1}"
        if len(lines) == len(entries):
            place += f" (line {lines[index]})"
        entry = _entry(values, f"{name}, {place}")
        digest = entry.sha256.lower()
        if digest in found:
            raise StartError(f"{name}, {place}: sha256 is that of {found[digest][0]}")
        found[digest] = (place, entry.caller())
    return {digest: caller for digest, (_, caller) in found.items()}


def _entry(values: Mapping[str, Any], place: str) -> KeyEntry:
    try:
        return KeyEntry.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(item["loc"], item) for item in error.errors())
        raise StartError(f"{place}: {problems}") from None


def _problem(path: tuple[int | str, ...], item: Any) -> str:
    """What is wrong with a value, without the value; nor is a name shown that is none of ours."""
    if item["type"] == "extra_forbidden":
        return f"unknown field; known are {', '.join(KeyEntry.model_fields)}"
    if item["type"] == "string_pattern_mismatch" and path[:1] == ("sha256",):
        return "sha256 must be the 64 hex digits that `headrace key hash` gives, not the key"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    message = str(item["msg"])
    name = ".".join(str(part) for part in path)
    return f"{name}: {message[:1].lower()}{message[1:]}"
