"""The rows of the wire's specification, each of which has a test that names it.

A test names rows by `@pytest.mark.wire("E1", "A5.stop")`. `A1` to `A4` are the vendors' pages
(Pinstripes, PolarGrid, OpenPipe, PremAI) with their fields, `A5` the points in which they
contradict one another, `E` what OpenAI's own API does.
"""

from collections.abc import Mapping

_COMMON_FIELDS = (
    "model",
    "messages",
    "stream",
    "temperature",
    "top_p",
    "stop",
    "frequency_penalty",
    "presence_penalty",
)

_ROWS: Mapping[str, tuple[str, ...]] = {
    "A1": ("path", "auth", *_COMMON_FIELDS, "max_tokens", "response", "sse", "reuse", "curl"),
    "A2": (
        "path",
        "auth",
        *_COMMON_FIELDS,
        "max_tokens",
        "top_k",
        "user",
        "response",
        "finish_reasons",
        "sse",
        "curl",
    ),
    "A3": (
        "path",
        "auth",
        *_COMMON_FIELDS,
        "name",
        "audio",
        "function_call",
        "functions",
        "tool_choice",
        "tools",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "response_format",
        "logprobs",
        "top_logprobs",
        "stream_options",
        "store",
        "metadata",
        "response",
        "usage",
        "curl",
    ),
    "A4": (
        "path",
        "auth",
        *_COMMON_FIELDS,
        "max_completion_tokens",
        "seed",
        "response_format",
        "tools",
        "tool_choice",
        "response",
        "curl",
    ),
    "A5": (
        "temperature_default",
        "top_p_default",
        "max_tokens_default",
        "max_tokens_range",
        "token_limit_field",
        "stop",
        "base_path",
        "scheme",
        "cached_tokens",
        "first_chunk",
        "out_of_range",
        "system_message",
        "roles",
        "model_in_response",
        "message_extras",
        "determinism",
        "strict_and_lenient_paths",
        "superset",
        "expect_100_continue",
    ),
    "E7": (
        "unparsable_json",
        "missing_field",
        "unknown_parameter",
        "out_of_range",
        "stop_too_long",
        "function_name",
        "both_token_limits",
        "unsupported_parameter",
        "unsupported_value",
        "tool_message",
        "context_overflow",
        "no_key",
        "bad_key",
        "forbidden_model",
        "unknown_model",
        "unknown_url",
        "wrong_method",
        "rate_limit",
        "server",
        "overloaded",
        "never_422",
    ),
    "E": ("1", "2", "3", "4", "5", "6", "8", "9", "10", "11", "12", "14", "15", "16", "17", "18"),
}

ROWS = frozenset(
    f"{part}{row}" if part == "E" else f"{part}.{row}"
    for part, rows in _ROWS.items()
    for row in rows
)
"""Every row that a test must name. E13 and the tool rows of E3 and E7 come with tool calls."""
