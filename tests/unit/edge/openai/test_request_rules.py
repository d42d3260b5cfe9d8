"""What profiles make of a request: strict refuses, lenient takes what is nearest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai.chat_request import ChatRequest, RequestRules, parse_chat_request
from edge.openai.fields import FIELDS
from edge.openai.profile import Profile
from headrace.rpc.errors import ServiceError
from tests.support.chat_requests import BASE, LENIENT, PROFILES, STRICT, code_of, parsed, refusal


def taken(request: ChatRequest, names: list[str]) -> list[Any]:
    return [getattr(request, name) for name in names]


@pytest.mark.parametrize("profile", LENIENT)
@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("temperature", 123, 2),
        ("temperature", -1, 0),
        ("top_p", 123, 1),
        ("presence_penalty", 123, 2),
        ("frequency_penalty", -123, -2),
        ("n", 123_456, 128),
        ("n", 0, 1),
        ("max_tokens", 0, 1),
        ("min_p", 1.5, 1),
        ("seed", 2**64, 2**63 - 1),
    ],
)
def test_out_of_range(profile: str, name: str, given: float, expected: float) -> None:
    """Lenient profiles take the nearest value and tell it; strict ones refuse by name."""
    request = parsed(profile, **{name: given})

    assert ((name, expected),) == request.clamped
    assert getattr(request, name) in (expected, None)
    for strict in STRICT:
        assert name == refusal(strict, **{name: given}).param


def test_values_in_range_are_not_told() -> None:
    """What is taken as it was asked for is not named anywhere."""
    request = parsed(temperature=0.5, top_p=1, n=2, max_tokens=7, seed=3)

    assert ((), ()) == (request.clamped, request.ignored)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("value", ["1", True, [], {}])
def test_wrong_types_are_refused_everywhere(profile: str, value: Any) -> None:
    """No profile guesses what a value of another type means."""
    assert "invalid_type" == code_of(refusal(profile, temperature=value))


@pytest.mark.parametrize(
    ("older", "newer", "limit", "clamped"),
    [
        (123, 123, 123, ()),
        (50, 20, 20, (("max_tokens", 20),)),
        (20, 50, 20, (("max_completion_tokens", 20),)),
    ],
)
def test_both_token_limits(older: int, newer: int, limit: int, clamped: Any) -> None:
    """Lenient takes the smaller and names the other; strict refuses the pair, equal or not."""
    fields = {"max_tokens": older, "max_completion_tokens": newer}

    request = parsed(**fields)

    assert (limit, clamped) == (request.max_tokens, request.clamped)
    for profile in STRICT:
        error = refusal(profile, **fields)
        assert ("max_tokens", "invalid_parameter_combination") == (error.param, code_of(error))


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("openai", [None, None, None]),
        ("pinstripes", [None, None, None]),
        ("polargrid", [0.7, 0.9, 150]),
        ("openpipe", [None, None, None]),
        ("premai", [0.7, None, None]),
        ("lenient", [None, None, None]),
    ],
)
def test_defaults(profile: str, expected: list[Any]) -> None:
    """Each profile has its own values for what a request leaves open, or null; none is told."""
    names = ["temperature", "top_p", "max_tokens"]

    assert expected == taken(parsed(profile), names)
    assert expected == taken(parsed(profile, **dict.fromkeys(names)), names)
    assert () == parsed(profile).clamped


def test_neutral_values_are_no_gaps() -> None:
    """An explicit 1 is OpenAI's default and nobody else's: it stands."""
    request = parsed("polargrid", temperature=1, top_p=1, max_completion_tokens=9)

    assert [None, None, 9] == taken(request, ["temperature", "top_p", "max_tokens"])


def test_profile_cap() -> None:
    """A limit above the profile's is refused by the name that it was given under."""
    assert 4096 == parsed("polargrid", max_tokens=4096).max_tokens
    for name in ("max_tokens", "max_completion_tokens"):
        error = refusal("polargrid", **{name: 4097})
        assert (name, "integer_above_max_value") == (error.param, code_of(error))
        assert "<= 4096, but got 4097" in error.message


def test_lenient_profile_cap() -> None:
    """A lenient profile with a cap takes it."""
    rules = RequestRules(Profile(strict=False, max_tokens=10))

    request = parse_chat_request(json.dumps({**BASE, "max_tokens": 11}).encode(), rules)

    assert (10, (("max_tokens", 10),)) == (request.max_tokens, request.clamped)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("fields", [{}, {"max_tokens": 300}, {"max_completion_tokens": 300}])
def test_alias_cap(profile: str, fields: dict[str, int]) -> None:
    """An alias's cap shortens every answer and is told; it refuses nobody."""
    request = parsed(profile, cap=100, **fields)

    assert 100 == request.max_tokens
    assert ((next(iter(fields), "max_tokens"), 100),) == request.clamped
    assert 7 == parsed(profile, cap=100, max_tokens=7).max_tokens


def test_min_tokens_above_limit() -> None:
    """Lenient brings min_tokens down to the limit."""
    request = parsed(min_tokens=9, max_tokens=5)

    assert (5, (("min_tokens", 5),)) == (request.min_tokens, request.clamped)


@pytest.mark.parametrize("options", [{"include_usage": True}, {}])
def test_stream_options_without_stream(options: dict[str, bool]) -> None:
    """Strict refuses them in OpenAI's words; lenient names them as ignored."""
    assert ("stream_options",) == parsed(stream=False, stream_options=options).ignored
    error = refusal("openai", stream_options=options)
    assert ("stream_options", None) == (error.param, code_of(error))
    assert error.message == (
        "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    )


def test_top_logprobs_without_logprobs() -> None:
    """Strict refuses it in OpenAI's words; lenient names it as ignored; 0 asks for nothing."""
    assert ("top_logprobs",) == parsed(top_logprobs=3).ignored
    error = refusal("openai", top_logprobs=3)
    assert ("top_logprobs", None) == (error.param, code_of(error))
    assert (
        error.message == "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
    )
    assert parsed("openai") == parsed("openai", top_logprobs=0)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
        ({"logprobs": False}, None),
    ],
)
def test_logprobs(fields: dict[str, Any], count: int | None) -> None:
    """The flag and the number become one count of alternatives."""
    assert count == parsed("openai", **fields).logprobs


@pytest.mark.parametrize("name", ["audio", "reasoning_effort", "verbosity"])
def test_without_a_meaning_for_texts(name: str) -> None:
    """What a text model has no use for is refused by strict profiles, named by lenient ones."""
    values: dict[str, Any] = {"audio": {"format": "wav", "voice": "alloy"}}
    fields = {name: values.get(name, "low")}

    assert (name,) == parsed(**fields).ignored
    assert (name, "unsupported_parameter") == (
        (error := refusal("openai", **fields)).param,
        code_of(error),
    )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("name", "value"),
    [("modalities", ["text", "audio"]), ("web_search_options", {}), ("moderation", {})],
)
def test_never_dropped(profile: str, name: str, value: Any) -> None:
    """What would make another answer is refused by name, by lenient profiles as well."""
    error = refusal(profile, **{name: value})
    assert (name, "unsupported_parameter") == (error.param, code_of(error))


@pytest.mark.parametrize("profile", PROFILES)
def test_system_message_first(profile: str) -> None:
    """Only one vendor holds system messages to the first place."""
    messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
    if profile == "premai":
        assert "messages[1].role" == refusal(profile, messages=messages).param
    else:
        assert 2 == len(parsed(profile, messages=messages).messages)


@pytest.mark.parametrize("profile", PROFILES)
def test_stop_is_a_string_or_at_most_four(profile: str) -> None:
    """Both forms are taken by all, and five are refused by all."""
    assert ("a",) == parsed(profile, stop="a").stop
    assert tuple("abcd") == parsed(profile, stop=list("abcd")).stop
    assert "array_above_max_length" == code_of(refusal(profile, stop=list("abcde")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(sorted(PROFILES)),
    st.dictionaries(st.sampled_from([spec.name for spec in FIELDS]), JSON, max_size=4),
)
def test_any_value_is_taken_or_refused(profile: str, fields: dict[str, Any]) -> None:
    """Whatever JSON stands in a known field, the result is a request or a refusal by name."""
    try:
        told = set(dict(parsed(profile, **fields).clamped))
        status = 400
    except ServiceError as error:
        told, status = set(), error.row.http_status

    assert status == 400
    assert told <= set(fields)
