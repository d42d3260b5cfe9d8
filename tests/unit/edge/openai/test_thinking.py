"""Whether the model thinks: an effort of none, and the template's switches."""

from typing import Any

import pytest

from tests.support.chat_requests import LENIENT, PROFILES, STRICT, code_of, parsed, refusal


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("fields", "thinking", "param"),
    [
        ({"reasoning_effort": "none"}, False, "reasoning_effort"),
        (
            {"chat_template_kwargs": {"enable_thinking": True}},
            True,
            "chat_template_kwargs.enable_thinking",
        ),
        (
            {"chat_template_kwargs": {"enable_thinking": None, "thinking": False}},
            False,
            "chat_template_kwargs.thinking",
        ),
        (
            {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"},
            False,
            "chat_template_kwargs.enable_thinking",
        ),
        (
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
            True,
            "chat_template_kwargs.enable_thinking",
        ),
        (
            {"chat_template_kwargs": {"thinking": None}, "reasoning_effort": "none"},
            False,
            "reasoning_effort",
        ),
    ],
)
def test_said(profile: str, fields: Any, thinking: bool, param: str) -> None:
    """The model is told to think or not to, and where that was said is kept for errors."""
    request = parsed(profile, **fields)

    assert (thinking, param, ()) == (
        request.thinking,
        request.origins.thinking_param,
        request.ignored,
    )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("switches", [{}, {"enable_thinking": None}, {"x": None}])
def test_not_said(profile: str, switches: Any) -> None:
    """Without a word the template does as it does by itself."""
    assert parsed(profile) == parsed(profile, chat_template_kwargs=switches)
    assert parsed(profile).thinking is None


@pytest.mark.parametrize("profile", PROFILES)
def test_switches_that_contradict_one_another(profile: str) -> None:
    """Nobody can do both; the effort gives way in lenient profiles alone."""
    error = refusal(profile, chat_template_kwargs={"enable_thinking": True, "thinking": False})
    assert "chat_template_kwargs.thinking" == error.param
    fields: dict[str, Any] = {
        "chat_template_kwargs": {"enable_thinking": True},
        "reasoning_effort": "none",
    }
    if profile in STRICT:
        error = refusal(profile, **fields)
        assert ("chat_template_kwargs.enable_thinking", "invalid_parameter_combination") == (
            error.param,
            code_of(error),
        )
    else:
        request = parsed(profile, **fields)
        assert (True, ("reasoning_effort",)) == (request.thinking, request.ignored)


def test_other_switches() -> None:
    """They are refused by name; lenient profiles name them as ignored."""
    switches = {"enable_thinking": False, "documents": []}
    for profile in STRICT:
        error = refusal(profile, chat_template_kwargs=switches)
        assert ("chat_template_kwargs.documents", "unsupported_parameter") == (
            error.param,
            code_of(error),
        )
    for profile in LENIENT:
        request = parsed(profile, chat_template_kwargs=switches)
        assert (False, ("chat_template_kwargs.documents",)) == (request.thinking, request.ignored)


@pytest.mark.parametrize("profile", ["openai", "lenient"])
def test_wrong_switches(profile: str) -> None:
    """They are flags in an object."""
    assert "chat_template_kwargs" == refusal(profile, chat_template_kwargs=[]).param
    error = refusal(profile, chat_template_kwargs={"thinking": "yes"})
    assert ("chat_template_kwargs.thinking", "invalid_type") == (error.param, code_of(error))
