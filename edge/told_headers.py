"""Response headers that tell what of a request was taken otherwise than it was asked for."""

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from edge.openai.chat_request import ChatRequest
from edge.openai.problems import number_text

IGNORED_HEADER = "x-headrace-ignored"
CLAMPED_HEADER = "x-headrace-clamped"
_MAX_NAMED = 32
_MAX_NAME_CHARACTERS = 64
# Proxies and clients take heads of 4 KiB and more.
_MAX_VALUE_CHARACTERS = 2048


def told_headers(chat: ChatRequest) -> dict[str, str]:
    """The names of fields without effect, and the values that stand for those asked for.

    Names are percent-encoded, since clients choose them.
    """
    headers: dict[str, str] = {}
    if chat.ignored:
        headers[IGNORED_HEADER] = ", ".join(_shown_names(chat.ignored))
    if chat.clamped:
        values = (f"{name}={number_text(value)}" for name, value in chat.clamped)
        headers[CLAMPED_HEADER] = ", ".join(values)
    return headers


def _shown_names(names: Sequence[str]) -> Iterator[str]:
    """As many as there is room for, and what says that there are more."""
    room = _MAX_VALUE_CHARACTERS
    for index, name in enumerate(names):
        shown = quote(name[:_MAX_NAME_CHARACTERS], safe="[]")
        room -= len(shown)
        if index == _MAX_NAMED or room < 0:
            yield "..."
            return
        yield shown
