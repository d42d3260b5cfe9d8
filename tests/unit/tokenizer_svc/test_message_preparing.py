"""Arguments, ids, names, refusals and thoughts in the form that a template wants."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenizer_svc.message_mapping import changed_texts, client_texts
from tokenizer_svc.message_preparing import parsed_arguments, prepared
from tokenizer_svc.template_support import TemplateSupport, ToolSupport


def calling(*calls: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    tool_calls = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": text}}
        for i, name, text in calls
    ]
    return {"role": "assistant", "content": None, "tool_calls": tool_calls, **more}


def result(call_id: str | None, **more: Any) -> dict[str, Any]:
    named = {} if call_id is None else {"tool_call_id": call_id}
    return {"role": "tool", "content": "x", **named, **more}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text(), values))
def test_objects_are_parsed(value: dict[str, Any]) -> None:
    """An object's text gives that object."""
    assert parsed_arguments(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<string>",
        "[1]",
        '"x"',
        "null",
        "{'a': 1}",
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a":' * 65 + "1" + "}" * 65,
        "[" * 100_000,
        '{"a": [' + "1," * 50_000 + "1]}",
        '{"a": 1} {"b": 2}',
    ],
)
def test_what_would_lose_something_stays_a_text(text: str) -> None:
    """No object, no JSON, a key twice, numbers or characters that do not exist, or too deep."""
    assert parsed_arguments(text) == text


def test_many_flat_objects_are_parsed() -> None:
    """Depth is bounded, not length."""
    value = {"a": [{"b": []} for _ in range(1000)], "c": '"}]' * 200}

    assert parsed_arguments(json.dumps(value)) == value


def test_messages_in_the_form_already_are_passed_on() -> None:
    """The same objects: nothing is copied that needs no change."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "a"},
        {"role": "user", "content": "b", "name": "ann"},
        {"role": "assistant", "content": None, "reasoning_content": "c"},
    ]

    assert all(a is b for a, b in zip(prepared(messages, TemplateSupport()), messages, strict=True))


def test_results_find_their_calls() -> None:
    """By id; without one the oldest call without a result, by name where there is a name."""
    messages = [
        calling(("a", "one", "{}"), ("", "two", "{}"), ("", "one", "{}")),
        result(None, role="function", name="two"),
        result(None),
        result(None, role="function", name="one"),
        result(None),
        result("z"),
    ]

    found = prepared(messages, TemplateSupport())

    ids = [call["id"] for call in found[0]["tool_calls"]]
    assert ids == ["a", "call_0_1", "call_0_2"]
    assert [m.get("tool_call_id") for m in found[1:]] == ["call_0_1", "a", "call_0_2", None, "z"]
    assert {m["role"] for m in found[1:]} == {"tool"}


@pytest.mark.parametrize("names_results", [True, False])
def test_results_are_named_where_the_template_shows_it(names_results: bool) -> None:
    """By the call; a name of their own stays."""
    support = TemplateSupport(tools=ToolSupport(names_results=names_results))
    messages = [calling(("a", "one", "{}")), result("a"), result("a", name="mine"), result("b")]

    found = prepared(messages, support)

    assert [m.get("name") for m in found[1:]] == ["one" if names_results else None, "mine", None]


def test_short_ids_stand_for_the_ids() -> None:
    """Nine letters and digits, the same in call and result, others for others; short ones stay."""
    support = TemplateSupport(tools=ToolSupport(short_ids=True))
    calls = [("call_abcdef", "f", "{}"), ("call_abcdeg", "f", "{}"), ("abc123XYZ", "f", "{}")]
    messages = [calling(*calls), *(result(call[0]) for call in calls)]

    found = prepared(messages, support)

    ids = [call["id"] for call in found[0]["tool_calls"]]
    assert ids == [m["tool_call_id"] for m in found[1:]]
    assert len(set(ids)) == 3
    assert ids[2] == "abc123XYZ"
    assert all(len(i) == 9 and i.isalnum() and i.isascii() for i in ids)
    assert found == prepared(messages, support)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("thinking", {"thinking": "hm"}),
        (None, {}),
        ("reasoning_content", {"reasoning_content": "hm"}),
    ],
)
def test_thoughts_have_the_templates_own_field(field: str | None, expected: dict[str, str]) -> None:
    """Or none, where it reads none."""
    said = {"role": "assistant", "content": "a", "reasoning_content": "hm"}

    found = prepared([said], TemplateSupport(reasoning_field=field))

    assert found == [{"role": "assistant", "content": "a"} | expected]


def test_arguments_stay_texts_where_the_template_wants_them() -> None:
    """As the model wrote them, spaces and all."""
    support = TemplateSupport(tools=ToolSupport(object_arguments=False))
    message = calling(("a", "f", '{ "x":1 }'))

    assert prepared([message], support) == [message]
    assert prepared([message], TemplateSupport())[0]["tool_calls"][0]["function"] == {
        "name": "f",
        "arguments": {"x": 1},
    }


def test_every_text_of_a_message_is_the_clients() -> None:
    """Roles, types and the messages' own keys are not; keys of arguments are."""
    message = calling(("i", "n", "t"), content="c", name="m", reasoning_content="r")
    message["tool_calls"][0]["function"]["arguments"] = {"k": ["v", {"w": 1}], "l": None}

    assert sorted(client_texts([message])) == sorted("inckvwlmr")
    changed = changed_texts(message, str.upper)
    assert sorted(client_texts([changed])) == sorted("INCKVWLMR")
    assert changed["role"] == "assistant"
    assert changed["tool_calls"][0]["type"] == "function"
