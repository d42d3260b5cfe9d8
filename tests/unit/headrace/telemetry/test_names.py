"""The table of names against the conventions: what is not ours is spelt as they spell it."""

import re

import pytest

from headrace.telemetry import names

# Of the conventions, whatever we use of them. HTTP: semantic-conventions 1.44, stable. RPC: the
# release candidate of 1.40 to 1.44. GenAI: semantic-conventions-genai, in development; its
# names of before, such as gen_ai.system and gen_ai.usage.prompt_tokens, are not among them.
_CONVENTIONS = frozenset(
    [
        "error.type",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "network.protocol.version",
        "url.path",
        "url.scheme",
        "server.address",
        "server.port",
        "client.address",
        "user_agent.original",
        "rpc.system.name",
        "rpc.method",
        "rpc.response.status_code",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.output.type",
        "gen_ai.request.choice.count",
        "gen_ai.request.frequency_penalty",
        "gen_ai.request.max_tokens",
        "gen_ai.request.model",
        "gen_ai.request.presence_penalty",
        "gen_ai.request.reasoning.level",
        "gen_ai.request.seed",
        "gen_ai.request.stop_sequences",
        "gen_ai.request.stream",
        "gen_ai.request.temperature",
        "gen_ai.request.top_k",
        "gen_ai.request.top_p",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.id",
        "gen_ai.response.model",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.tool.definitions",
        "service.name",
        "service.instance.id",
        "service.version",
    ]
)
_NAMES = {key: value for key, value in vars(names).items() if key.isupper()}


@pytest.mark.parametrize("name", sorted(value for value in _NAMES.values() if "." in value))
def test_is_of_a_convention_or_ours(name: str) -> None:
    """A name is the conventions', current, or begins with our own."""
    is_ours = re.fullmatch(r"headrace(\.[a-z][a-z0-9_]*)+(/[A-Z]\w+)?", name) or "Service/" in name
    assert is_ours or name in _CONVENTIONS


def test_every_name_is_there_once() -> None:
    """No two constants have one value."""
    assert len(set(_NAMES.values())) == len(_NAMES)
