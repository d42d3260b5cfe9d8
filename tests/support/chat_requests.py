"""Chat requests under the shipped profiles, and how they are refused."""

import dataclasses
import json
from typing import Any

import pytest

from edge.openai.chat_request import ChatRequest, RequestRules, parse_chat_request
from edge.openai.fields import FIELDS
from edge.profile_data import shipped_profiles
from headrace.rpc.errors import ServiceError
from tests.support.fake_backend import MODEL

PROFILES = shipped_profiles()
BASE: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
STRICT = ("openai", "pinstripes", "polargrid", "premai")
LENIENT = ("openpipe", "lenient")
WHOLE = dataclasses.replace(
    MODEL,
    honoured_fields=frozenset(spec.honoured_as for spec in FIELDS if spec.honoured_as),
    max_outputs=128,
    max_logprobs=20,
)


def parsed(profile: str = "lenient", cap: int | None = None, **fields: Any) -> ChatRequest:
    """A request under a shipped profile, with an alias's cap."""
    rules = RequestRules(PROFILES[profile], max_tokens=cap)
    return parse_chat_request(json.dumps({**BASE, **fields}).encode(), rules)


def refusal(profile: str, **fields: Any) -> ServiceError:
    """The 400 that a request gets instead."""
    with pytest.raises(ServiceError) as caught:
        parsed(profile, **fields)
    assert caught.value.row.http_status == 400
    return caught.value


def code_of(error: ServiceError) -> str | None:
    """The code that the envelope shows."""
    return error.row.openai_code if error.openai_code is None else error.openai_code
