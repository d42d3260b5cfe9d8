"""Conversations on the wire: what is read, strictly and leniently, and what is refused."""

from typing import Any

import pytest

from edge.openai.messages import MAX_TOLD_KEYS, MessageRules, parse_messages
from edge.openai.tool_history import MAX_CONVERSATION_CALLS, MAX_TOOL_CALLS
from headrace.client.prompt_request import ChatMessage, ToolCall
from headrace.rpc.errors import ServiceError

STRICT = MessageRules()
LENIENT = MessageRules(is_strict=False)
ASK = {"role": "user", "content": "Weather?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "22 C", "tool_call_id": "c1"}
PREMAI = {
    "role": "system",
    "content": "<string>",
    "name": "<string>",
    "tool_calls": [
        {
            "id": "<string>",
            "type": "function",
            "function": {"name": "<string>", "arguments": "<string>"},
        }
    ],
    "tool_call_id": "<string>",
}


def parse(
    *messages: dict[str, Any], rules: MessageRules = STRICT
) -> tuple[tuple[ChatMessage, ...], list[str]]:
    """The messages, and the keys that are reported."""
    ignored: set[str] = set()
    return parse_messages(list(messages), ignored, rules=rules), sorted(ignored)


def refusal(*messages: dict[str, Any], rules: MessageRules = STRICT) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        parse(*messages, rules=rules)
    return caught.value


@pytest.mark.parametrize("rules", [STRICT, LENIENT])
def test_a_history_with_tools_is_carried_whole(rules: MessageRules) -> None:
    """Calls, the results' ids, thoughts and refusals of every role arrive (E12, C6)."""
    messages = (
        {"role": "developer", "content": "Be brief."},
        ASK,
        {**CALLING, "reasoning_content": "hm", "name": "ann", "audio": None},
        {**RESULT, "content": [{"type": "text", "text": "22"}, {"type": "text", "text": " C"}]},
        {"role": "assistant", "refusal": "No.", "function_call": None},
    )

    parsed, ignored = parse(*messages, rules=rules)

    call = ToolCall("c1", "look", '{"at":1}')
    assert parsed == (
        ChatMessage("developer", "Be brief."),
        ChatMessage("user", "Weather?"),
        ChatMessage("assistant", None, "ann", tool_calls=(call,), reasoning_content="hm"),
        ChatMessage("tool", "22 C", tool_call_id="c1"),
        ChatMessage("assistant", None, refusal="No."),
    )
    assert not ignored


@pytest.mark.parametrize("rules", [STRICT, LENIENT])
def test_the_older_form_is_a_call_without_an_id(rules: MessageRules) -> None:
    """function_call and the function role, whose result may be null."""
    parsed, ignored = parse(
        ASK,
        {"role": "assistant", "function_call": {"name": "look", "arguments": ""}},
        {"role": "function", "name": "look", "content": None},
        rules=rules,
    )

    assert parsed[1] == ChatMessage("assistant", None, tool_calls=(ToolCall("", "look", ""),))
    assert parsed[2] == ChatMessage("function", None, "look")
    assert not ignored


@pytest.mark.parametrize("rules", [STRICT, LENIENT])
def test_empty_extras_are_absent(rules: MessageRules) -> None:
    """Nulls, an empty list of calls and null entries in it say nothing (E12)."""
    said = {"role": "assistant", "content": "Hi", "refusal": "", "tool_calls": []}
    extras = dict.fromkeys(("name", "audio", "function_call", "reasoning_content", "other"))

    parsed, ignored = parse(
        ASK | {"tool_calls": None}, said | extras, said | {"tool_calls": [None, None]}, rules=rules
    )

    assert parsed[1:] == (ChatMessage("assistant", "Hi"),) * 2
    assert not ignored


@pytest.mark.parametrize("rules", [STRICT, LENIENT])
def test_keys_without_a_meaning_in_that_role_are_reported(rules: MessageRules) -> None:
    """They do not matter, also where they mean something in another role."""
    parsed, ignored = parse(
        ASK | {"tool_calls": "x", "refusal": 1, "tool_call_id": {}},
        {"role": "assistant", "content": "Hi", "annotations": []},
        rules=rules,
    )

    assert parsed == (ChatMessage("user", "Weather?"), ChatMessage("assistant", "Hi"))
    assert ignored == [
        "messages[].annotations",
        "messages[].refusal",
        "messages[].tool_call_id",
        "messages[].tool_calls",
    ]


def test_of_very_many_such_keys_only_some_are_reported() -> None:
    """A conversation of nothing but unknown keys takes no longer than reading it."""
    _, ignored = parse(*({**ASK, **{f"{i}-{j}": 1 for j in range(40)}} for i in range(1000)))

    assert MAX_TOLD_KEYS < len(ignored) < MAX_TOLD_KEYS + 50


def test_premais_own_example_is_lenient() -> None:
    """A system message with a name, calls and an id: left alone, and any name is taken (A4)."""
    parsed, ignored = parse(PREMAI, rules=MessageRules(is_strict=False, system_first_only=True))

    assert parsed == (ChatMessage("system", "<string>", "<string>"),)
    assert ignored == ["messages[].tool_call_id", "messages[].tool_calls"]
    assert refusal(PREMAI).param == "messages[0].name"


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_come_first_where_the_rule_says_so(role: str) -> None:
    """One later is refused by its place (A4); without the rule it may stand anywhere."""
    late = {"role": role, "content": "Be brief."}
    first_only = MessageRules(is_strict=False, system_first_only=True)

    error = refusal(late, ASK, late, rules=first_only)

    assert error.param == "messages[2].role"
    assert "system messages are only allowed as the first message" in error.message
    assert len(parse(late, ASK, late)[0]) == 3


LOOSE: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "result without a call": (
        [ASK, ASK, ASK, RESULT],
        "messages.[3].role",
        (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
            "message with 'tool_calls'."
        ),
    ),
    "result after the older form": (
        [ASK, {"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, RESULT],
        "messages.[2].role",
        "must be a response to a preceeding message",
    ),
    "result of another call": (
        [ASK, CALLING, RESULT | {"tool_call_id": "c2"}],
        "messages.[2].tool_call_id",
        "Invalid parameter: 'tool_call_id' of 'c2' not found in 'tool_calls' of previous message.",
    ),
    "result after somebody spoke": (
        [ASK, CALLING, RESULT, ASK, RESULT],
        "messages.[4].role",
        "must be a response to a preceeding message",
    ),
    "result without an id": (
        [ASK, CALLING, {"role": "tool", "content": "x"}],
        "messages.[2].tool_call_id",
        "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'.",
    ),
    "call without a result": (
        [ASK, CALLING | {"tool_calls": [CALL, CALL | {"id": "c0"}]}, RESULT, ASK],
        "messages.[3].role",
        (
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: c0"
        ),
    ),
    "call at the end": ([ASK, CALLING], "messages.[1].role", "response messages: c1"),
}


@pytest.mark.parametrize("case", LOOSE)
def test_calls_and_results_belong_together_where_strict(case: str) -> None:
    """OpenAI's words and param, and no code (E7, C29); leniently anything goes."""
    messages, param, part = LOOSE[case]

    error = refusal(*messages)

    assert error.param == param
    assert error.openai_code is None
    assert part in error.message
    assert len(parse(*messages, rules=LENIENT)[0]) == len(messages)


def test_several_results_in_any_order_are_strict_enough() -> None:
    """Each of two calls has its result, one of them twice."""
    calls = CALLING | {"tool_calls": [CALL, CALL | {"id": "c2"}]}

    parsed, _ = parse(ASK, calls, RESULT | {"tool_call_id": "c2"}, RESULT, RESULT, ASK)

    assert [message.tool_call_id for message in parsed[2:5]] == ["c2", "c1", "c1"]


def changed_call(**function: Any) -> dict[str, Any]:
    return CALLING | {"tool_calls": [CALL | {"function": CALL["function"] | function}]}  # type: ignore[operator]


LENIENTLY: dict[str, tuple[dict[str, Any], ChatMessage, str]] = {
    "no id": (
        CALLING | {"tool_calls": [CALL | {"id": None}]},
        ChatMessage("assistant", None, tool_calls=(ToolCall("", "look", '{"at":1}'),)),
        "messages[0].tool_calls[0].id",
    ),
    "no type": (
        CALLING | {"tool_calls": [CALL | {"type": None}]},
        ChatMessage("assistant", None, tool_calls=(ToolCall("c1", "look", '{"at":1}'),)),
        "messages[0].tool_calls[0].type",
    ),
    "no arguments": (
        changed_call(arguments=None),
        ChatMessage("assistant", None, tool_calls=(ToolCall("c1", "look", "{}"),)),
        "messages[0].tool_calls[0].function.arguments",
    ),
    "arguments as an object": (
        changed_call(arguments={"a": ["b"]}),
        ChatMessage("assistant", None, tool_calls=(ToolCall("c1", "look", '{"a":["b"]}'),)),
        "messages[0].tool_calls[0].function.arguments",
    ),
    "any function name": (
        changed_call(name="<string>"),
        ChatMessage("assistant", None, tool_calls=(ToolCall("c1", "<string>", '{"at":1}'),)),
        "messages[0].tool_calls[0].function.name",
    ),
    "any name": (
        ASK | {"name": "<a b>"},
        ChatMessage("user", "Weather?", "<a b>"),
        "messages[0].name",
    ),
    "empty name": (ASK | {"name": ""}, ChatMessage("user", "Weather?"), "messages[0].name"),
    "null content": (
        {"role": "assistant", "content": None},
        ChatMessage("assistant", None),
        "messages[0].content",
    ),
    "function without a name": (
        {"role": "function", "content": "x"},
        ChatMessage("function", "x"),
        "messages[0].name",
    ),
}


@pytest.mark.parametrize("case", LENIENTLY)
def test_what_only_lenient_rules_take(case: str) -> None:
    """Strictly it is refused by name."""
    message, expected, param = LENIENTLY[case]

    assert parse(message, rules=LENIENT)[0] == (expected,)
    assert refusal(message).param == param


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"x": value}
    return value


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "calls of another type": (CALLING | {"tool_calls": {}}, "messages[0].tool_calls"),
    "too many calls": (
        CALLING | {"tool_calls": [CALL] * (MAX_TOOL_CALLS + 1)},
        "messages[0].tool_calls",
    ),
    "a call that is no object": (CALLING | {"tool_calls": ["x"]}, "messages[0].tool_calls[0]"),
    "a custom tool": (
        CALLING | {"tool_calls": [None, CALL | {"type": "custom"}]},
        "messages[0].tool_calls[1].type",
    ),
    "a call of nothing": (
        CALLING | {"tool_calls": [{"id": "c", "type": "function"}]},
        "messages[0].tool_calls[0].function",
    ),
    "a call without a name": (changed_call(name=None), "messages[0].tool_calls[0].function.name"),
    "an empty function name": (changed_call(name=""), "messages[0].tool_calls[0].function.name"),
    "arguments of a number": (
        changed_call(arguments=1),
        "messages[0].tool_calls[0].function.arguments",
    ),
    "arguments without end": (
        changed_call(arguments=deep(400)),
        "messages[0].tool_calls[0].function.arguments",
    ),
    "an id of a number": (
        CALLING | {"tool_calls": [CALL | {"id": 1}]},
        "messages[0].tool_calls[0].id",
    ),
    "audio of an assistant": (
        {"role": "assistant", "content": "x", "audio": {"id": "a"}},
        "messages[0].audio",
    ),
    "audio of an assistant without an id": (
        {"role": "assistant", "content": "x", "audio": {}},
        "messages[0].audio",
    ),
    "refusal of a number": ({"role": "assistant", "refusal": 4}, "messages[0].refusal"),
    "thoughts in a list": (
        {"role": "assistant", "content": "", "reasoning_content": []},
        "messages[0].reasoning_content",
    ),
    "a tool's null": (RESULT | {"content": None}, "messages[0].content"),
    "a tool's silence": ({"role": "tool", "tool_call_id": "c"}, "messages[0].content"),
    "a tool's image": (
        RESULT | {"content": [{"type": "image_url", "image_url": {}}]},
        "messages[0].content[0].type",
    ),
    "a user's audio": (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]},
        "messages[0].content[1].type",
    ),
    "a user's file": (
        {"role": "user", "content": [{"type": "file"}]},
        "messages[0].content[0].type",
    ),
    "a function call that is a text": (
        {"role": "assistant", "function_call": "f"},
        "messages[0].function_call",
    ),
}


@pytest.mark.parametrize("rules", [STRICT, LENIENT])
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_rules_take(case: str, rules: MessageRules) -> None:
    """The refusal names the place."""
    message, param = REFUSED[case]

    assert refusal(message, rules=rules).param == param


@pytest.mark.parametrize("rules", [STRICT, LENIENT])
def test_calls_are_bounded_over_the_conversation(rules: MessageRules) -> None:
    """4,096 in all messages, whatever each of them has."""
    turns = [CALLING | {"tool_calls": [CALL] * MAX_TOOL_CALLS}] * 32

    assert refusal(*turns, CALLING, rules=rules).param == "messages"
    assert sum(len(m.tool_calls) for m in parse(*turns, rules=LENIENT)[0]) == MAX_CONVERSATION_CALLS
