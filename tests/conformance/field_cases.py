"""One case for each field of a chat completion request: what it asks for, and what is wrong.

`FIELD_CASES` is by name; `test_fields` sends every case of it under a strict and a lenient path.
"""

from collections.abc import Mapping

from tests.conformance.field_case import (
    FieldCase,
    Refusal,
    above,
    below,
    decimal_above,
    limit,
    one_of,
    sampling,
    unknown,
    unsupported,
)
from tests.conformance.prompt_field_cases import GUIDE_CASES, TOOL_CASES
from tests.support.fake_backend import MODEL

_CONVERSATION = {
    "model": FieldCase(
        asked=MODEL.name,
        see=lambda seen: seen.response.json()["model"],
        expected=MODEL.name,
        wrong=(5, "a string"),
        outside=Refusal(
            "",
            "Invalid 'model': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead.",
            "empty_string",
        ),
        required=True,
    ),
    "messages": FieldCase(
        asked=[{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}],
        see=lambda seen: seen.roles,
        expected=("developer", "user"),
        wrong=("x", "an array of objects"),
        outside=Refusal(
            [],
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            "empty_array",
        ),
        required=True,
    ),
    "stream": FieldCase(
        asked=True,
        see=lambda seen: seen.response.headers["content-type"],
        expected="text/event-stream; charset=utf-8",
        neutral=(False,),
        wrong=("yes", "a boolean"),
    ),
    "stream_options": FieldCase(
        asked={"include_usage": True},
        see=lambda seen: b'"usage":{' in seen.response.body,
        expected=True,
        neutral=(
            {},
            {"include_usage": False},
            {"include_usage": None, "include_obfuscation": False},
        ),
        wrong=([], "an object"),
        outside=Refusal(
            {"include_usage": 1},
            "Invalid type for 'stream_options.include_usage': expected a boolean, "
            "but got an integer instead.",
            "invalid_type",
            "stream_options.include_usage",
        ),
        beside={"stream": True},
    ),
}

_LENGTH = {
    "max_tokens": limit("max_tokens"),
    "max_completion_tokens": limit("max_completion_tokens"),
    "min_tokens": FieldCase(
        asked=2,
        see=lambda seen: seen.options.min_tokens,
        expected=2,
        neutral=(0,),
        wrong=("2", "an integer"),
        outside=Refusal(
            -1,
            below("min_tokens", "integer", ">= 0", -1),
            "integer_below_min_value",
            nearest="min_tokens=0",
        ),
    ),
    "n": FieldCase(
        asked=3,
        see=lambda seen: [choice["index"] for choice in seen.response.json()["choices"]],
        expected=[0, 1, 2],
        neutral=(1,),
        wrong=("3", "an integer"),
        outside=Refusal(
            129, above("n", "integer", 128, 129), "integer_above_max_value", nearest="n=128"
        ),
        beside={"max_tokens": 8},
    ),
    "stop": FieldCase(
        asked=["a", "b"],
        see=lambda seen: seen.options.stop_strings,
        expected=("a", "b"),
        neutral=([],),
        wrong=(5, "one of a string or array of strings"),
        outside=Refusal(
            ["a", "b", "c", "d", "e"],
            "Invalid 'stop': array too long. Expected an array with maximum length 4, "
            "but got an array with length 5 instead.",
            "array_above_max_length",
        ),
    ),
    "stop_token_ids": FieldCase(
        asked=[4],
        see=lambda seen: seen.options.stop_token_ids,
        expected=(4,),
        neutral=([],),
        wrong=(4, "an array of integers"),
        outside=Refusal(
            [-1],
            below("stop_token_ids[0]", "integer", ">= 0", -1),
            "integer_below_min_value",
            "stop_token_ids[0]",
        ),
    ),
    "ignore_eos": FieldCase(
        asked=True,
        see=lambda seen: seen.options.ignore_eos,
        expected=True,
        neutral=(False,),
        wrong=(1, "a boolean"),
    ),
}

_SAMPLING = {
    "temperature": sampling("temperature", 0.5, (1,), decimal_above("temperature", 2, 123)),
    "top_p": sampling("top_p", 0.5, (1,), decimal_above("top_p", 1, 123)),
    "top_k": sampling(
        "top_k",
        3,
        (0, -1),
        Refusal(
            -2,
            below("top_k", "integer", ">= -1", -2),
            "integer_below_min_value",
            nearest="top_k=-1",
        ),
        "an integer",
    ),
    "min_p": sampling("min_p", 0.25, (0,), decimal_above("min_p", 1, 1.5)),
    "seed": sampling(
        "seed",
        -5,
        (),
        Refusal(
            2**63,
            above("seed", "integer", 2**63 - 1, 2**63),
            "integer_above_max_value",
            nearest=f"seed={2**63 - 1}",
        ),
        "an integer",
    ),
    "presence_penalty": sampling(
        "presence_penalty", -1.5, (0,), decimal_above("presence_penalty", 2, 123)
    ),
    "frequency_penalty": sampling(
        "frequency_penalty",
        0.5,
        (0,),
        Refusal(
            -3,
            below("frequency_penalty", "decimal", ">= -2", -3),
            "decimal_below_min_value",
            nearest="frequency_penalty=-2",
        ),
    ),
    "repetition_penalty": sampling(
        "repetition_penalty",
        1.25,
        (1,),
        Refusal(0, below("repetition_penalty", "decimal", "> 0", 0), "decimal_below_min_value"),
    ),
    "logit_bias": FieldCase(
        asked={"5": 1.5, "6": 0},
        see=lambda seen: seen.sampling,
        expected={"logit_bias": [(5, 1.5)]},
        neutral=({}, {"5": 0}),
        wrong=([], "an object"),
        outside=Refusal(
            {"5": 101},
            above("logit_bias.5", "decimal", 100, 101),
            "decimal_above_max_value",
            "logit_bias.5",
        ),
    ),
    "logprobs": FieldCase(
        asked=True,
        see=lambda seen: seen.options.logprobs,
        expected=0,
        neutral=(False,),
        wrong=(3, "a boolean"),
    ),
    "top_logprobs": FieldCase(
        asked=3,
        see=lambda seen: seen.options.logprobs,
        expected=3,
        neutral=(0,),
        wrong=("3", "an integer"),
        outside=Refusal(
            123,
            above("top_logprobs", "integer", 20, 123),
            "integer_above_max_value",
            nearest="top_logprobs=20",
        ),
        beside={"logprobs": True},
    ),
}

_LABELS = {
    "user": FieldCase(
        asked="u-1", see=lambda seen: seen.log["user"], expected="u-1", wrong=(5, "a string")
    ),
    "safety_identifier": FieldCase(
        asked="s-1",
        see=lambda seen: seen.log["safety_identifier"],
        expected="s-1",
        wrong=(5, "a string"),
        outside=Refusal(
            "s" * 129,
            "Invalid 'safety_identifier': string too long. Expected a string with maximum length "
            "128, but got a string with length 129 instead.",
            "string_above_max_length",
        ),
    ),
    "metadata": FieldCase(
        asked={"a": "b"},
        see=lambda seen: seen.log["num_metadata"],
        expected=1,
        neutral=({},),
        wrong=([], "an object"),
        outside=Refusal(
            {"a": 1},
            "Invalid type for 'metadata.a': expected a string, but got an integer instead.",
            "invalid_type",
            "metadata.a",
        ),
    ),
    "store": FieldCase(
        asked=True,
        use="hint",
        see=lambda seen: seen.log["store"],
        expected=True,
        neutral=(False,),
        wrong=("yes", "a boolean"),
    ),
    "service_tier": FieldCase(
        asked="flex",
        use="hint",
        see=lambda seen: seen.response.json()["service_tier"],
        expected="default",
        neutral=("auto", "default"),
        wrong=(5, "a string"),
        outside=one_of("gold", "auto", "default", "flex", "scale", "priority", "fast"),
    ),
    "prompt_cache_key": FieldCase(asked="k", use="hint", wrong=(5, "a string")),
    "prompt_cache_retention": FieldCase(
        asked="24h",
        use="hint",
        wrong=(24, "a string"),
        outside=one_of("1h", "in_memory", "24h"),
    ),
    "prompt_cache_options": FieldCase(asked={"a": 1}, use="hint", wrong=("x", "an object")),
    "prediction": FieldCase(
        asked={"type": "content", "content": "x"},
        use="hint",
        wrong=("x", "an object"),
        outside=Refusal(
            {"type": "content"},
            "Missing required parameter: 'prediction.content'.",
            "missing_required_parameter",
            "prediction.content",
        ),
    ),
}

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_OTHERS = {
    "modalities": unsupported(
        "modalities",
        ["text", "audio"],
        neutral=(["text"], []),
        wrong=("text", "an array of strings"),
        outside=Refusal(
            ["image"], unknown("image", "text", "audio"), "invalid_value", "modalities[0]"
        ),
    ),
    "audio": unsupported(
        "audio",
        {"format": "wav", "voice": "alloy"},
        use="refused strictly",
        wrong=("wav", "an object"),
    ),
    "reasoning_effort": unsupported(
        "reasoning_effort",
        "low",
        use="refused strictly",
        wrong=(5, "a string"),
        outside=one_of("huge", *_EFFORTS),
    ),
    "chat_template_kwargs": FieldCase(
        asked={"enable_thinking": False},
        see=lambda seen: seen.prompt.thinking,
        expected=False,
        neutral=({}, {"thinking": None}),
        wrong=([], "an object"),
        outside=Refusal(
            {"thinking": 1},
            "Invalid type for 'chat_template_kwargs.thinking': expected a boolean, "
            "but got an integer instead.",
            "invalid_type",
            "chat_template_kwargs.thinking",
        ),
    ),
    "verbosity": unsupported(
        "verbosity",
        "low",
        use="refused strictly",
        neutral=("medium",),
        wrong=(5, "a string"),
        outside=one_of("none", "low", "medium", "high"),
    ),
    "moderation": unsupported("moderation", {}, wrong=("x", "an object")),
    "web_search_options": unsupported("web_search_options", {}, wrong=("x", "an object")),
}

FIELD_CASES: Mapping[str, FieldCase] = {
    **_CONVERSATION,
    **_LENGTH,
    **_SAMPLING,
    **_LABELS,
    **TOOL_CASES,
    **GUIDE_CASES,
    **_OTHERS,
}
