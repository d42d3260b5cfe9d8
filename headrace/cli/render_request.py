"""A request file as a prompt request, by the rules that the edge would hold it to."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from edge.openai.chat_request import ChatRequest, RequestRules, read_chat_request
from edge.openai.document import parse_document
from edge.profiles import STRICT_PREFIX, ProfileBook
from edge.settings import EdgeSettings
from headrace.runtime.errors import StartError

_PATH = f"{STRICT_PREFIX}/chat/completions"
_ANY_NAME = "*"


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What a file asks for. `target` is the model's own name, where its `model` is an alias."""

    chat: ChatRequest
    profile: str
    target: str


def read_file_request(
    body: bytes, settings: EdgeSettings, profile: str | None, known: Collection[str]
) -> FileRequest:
    """Validate the body as one that was posted to /v1/chat/completions.

    `profile` goes before what an alias says, as a key's would; `known` are the models' own names.
    Raises ServiceError as the edge would answer it, and StartError for an unknown profile.
    """
    document = parse_document(body)
    target, alias_profile, max_tokens = _resolved(document, settings, known)
    book = ProfileBook(settings.profiles, settings.hosts)
    if profile is not None and profile not in book.names:
        raise StartError(
            f"no profile is named {profile}; known are {', '.join(sorted(book.names))}"
        )
    name, rules = book.choose(profile, "", alias_profile, _PATH)
    chat = read_chat_request(document, RequestRules(rules, settings.limits, max_tokens))
    return FileRequest(chat, name, target or chat.model)


def _resolved(
    document: dict[str, Any], settings: EdgeSettings, known: Collection[str]
) -> tuple[str, str | None, int | None]:
    """The model's own name, and the profile and the most tokens that its alias says."""
    model = document.get("model")
    if not isinstance(model, str):
        return "", None, None
    alias = settings.aliases.get(model)
    if alias is None and model not in known:
        alias = settings.aliases.get(_ANY_NAME)
    return (model, None, None) if alias is None else (alias.model, alias.profile, alias.max_tokens)
