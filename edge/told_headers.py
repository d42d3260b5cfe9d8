"""Response headers that tell what of a request was taken otherwise than it was asked for."""

from urllib.parse import quote

from edge.openai.chat_request import ChatRequest
from edge.openai.problems import number_text

IGNORED_HEADER = "x-headrace-ignored"
CLAMPED_HEADER = "x-headrace-clamped"
_MAX_NAMED = 32
_MAX_NAME_CHARACTERS = 64


def told_headers(chat: ChatRequest) -> dict[str, str]:
    """The names of fields without effect, and the values that stand for those asked for.

    Names are percent-encoded, since clients choose them.
    """
    headers: dict[str, str] = {}
    if chat.ignored:
        names = [
            quote(name[:_MAX_NAME_CHARACTERS], safe="[]") for name in chat.ignored[:_MAX_NAMED]
        ]
        if len(chat.ignored) > _MAX_NAMED:
            names.append("...")
        headers[IGNORED_HEADER] = ", ".join(names)
    if chat.clamped:
        values = (f"{name}={number_text(value)}" for name, value in chat.clamped)
        headers[CLAMPED_HEADER] = ", ".join(values)
    return headers
