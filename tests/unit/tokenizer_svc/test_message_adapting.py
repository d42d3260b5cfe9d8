"""Each thing that a template may not take, and what is written in its place."""

from dataclasses import replace
from time import process_time
from typing import Any

import pytest

from tokenizer_svc.message_adapting import adapted
from tokenizer_svc.template_support import TemplateSupport, ToolSupport

ALL = TemplateSupport()
TOOLS = ToolSupport()
NO_TOOLS = TemplateSupport(tools=None)
STRICT = TemplateSupport(repeated_roles=False)
Message = dict[str, Any]


def s(text: str) -> Message:
    return {"role": "system", "content": text}


def u(text: str) -> Message:
    return {"role": "user", "content": text}


def a(text: str | None) -> Message:
    return {"role": "assistant", "content": text}


def calls(*names: str, content: str | None = None, **more: Any) -> Message:
    tool_calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": {"of": name}}}
        for name in names
    ]
    return {"role": "assistant", "content": content, **more, "tool_calls": tool_calls}


def r(name: str, **more: Any) -> Message:
    return {"role": "tool", "content": f"result {name}", "tool_call_id": name, **more}


def call_text(name: str, arguments: str | None = None) -> str:
    arguments = arguments or f'{{"of": "{name}"}}'
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def result_text(*names: str) -> str:
    return "\n".join(
        f'<tool_response>\n{{"content": "result {name}"}}\n</tool_response>' for name in names
    )


EVERYTHING = [
    s("1"), {"role": "developer", "content": "2"}, s("3"), u("4"), u("5"), a(None), a("6"),
    calls("x", "y", content="7"), r("y"), r("x"), r("z"), u("8"), calls("w"), s("9"), a("10"),
]  # fmt: skip


def test_what_is_taken_is_passed_on() -> None:
    """Every message in its place, as it is."""
    assert adapted(EVERYTHING, ALL) == EVERYTHING


def tools(**changes: Any) -> TemplateSupport:
    return TemplateSupport(tools=replace(TOOLS, **changes))


CASES: dict[str, tuple[TemplateSupport, list[Message], list[Message]]] = {
    "developer": (
        TemplateSupport(developer=False),
        [{"role": "developer", "content": "1", "name": "n"}, u("2")],
        [{"role": "system", "content": "1", "name": "n"}, u("2")],
    ),
    "several systems": (
        TemplateSupport(system="first"),
        [s("1"), s("2"), u("3"), s("4"), a("5"), s("6")],
        [s("1\n\n2"), u("3"), u("4"), a("5"), u("6")],
    ),
    "no system": (
        TemplateSupport(system="none"),
        [s("1"), s("2"), u("3"), a("4"), s("5")],
        [u("1\n\n2\n\n3"), a("4"), u("5")],
    ),
    "no system and no user": (TemplateSupport(system="none"), [s("1"), a("2")], [u("1"), a("2")]),
    "a lonely system": (TemplateSupport(system_alone=False), [s("1"), s("2")], [u("1\n\n2")]),
    "a system heard only before the user": (
        TemplateSupport(system_before_others=False),
        [s("1"), u("2"), a("3")],
        [u("1\n\n2"), a("3")],
    ),
    "the same, and the user speaks last": (
        TemplateSupport(system_before_others=False),
        [s("1"), u("2")],
        [s("1"), u("2")],
    ),
    "null of an assistant": (
        TemplateSupport(null_assistant=False),
        [{"role": "user", "content": None}, a(None), calls("x")],
        [{"role": "user", "content": None}, a(""), calls("x")],
    ),
    "null of a user": (
        TemplateSupport(null_user=False),
        [{"role": "user", "content": None}, a(None), {"role": "tool", "content": None}],
        [u(""), a(None), {"role": "tool", "content": ""}],
    ),
    "repeated roles": (
        STRICT,
        [s("1"), u("2"), u(""), u("3"), a("4"), a("5") | {"reasoning_content": "t"}],
        [s("1"), u("2\n\n3"), a("4\n\n5") | {"reasoning_content": "t"}],
    ),
    "names in repeated roles": (
        STRICT,
        [u("1") | {"name": "n"}, u("2") | {"name": "n"}, a("3"), u("4"), u("5") | {"name": "n"}],
        [u("1\n\n2") | {"name": "n"}, a("3"), u("4\n\n5")],
    ),
    "an assistant at the beginning": (
        TemplateSupport(assistant_first=False),
        [s("1"), a("2"), u("3")],
        [s("1"), u(""), a("2"), u("3")],
    ),
    "calls at the beginning": (
        TemplateSupport(assistant_first=False),
        [calls("x"), r("x")],
        [u(""), calls("x"), r("x")],
    ),
    "a result at the beginning, as text": (
        replace(NO_TOOLS, assistant_first=False),
        [s("1"), r("x"), a("2")],
        [s("1"), u(""), u(result_text("x")), a("2")],
    ),
    "calls that go on, strict turns": (
        STRICT,
        [u("1"), a("2"), s("3"), a("4"), calls("x"), r("x"), calls("y"), a("5")],
        [u("1"), a("2"), s("3"), a("4") | calls("x", content="4"), r("x"), calls("y"), a("5")],
    ),
    "calls behind an answer, strict turns": (
        replace(tools(calls_without_results=False), repeated_roles=False),
        [u("1"), calls("x"), calls("y"), r("y"), a("2")],
        [u("1"), a(f"{call_text('x')}\n\n{call_text('y')}"), u(result_text("y")), a("2")],
    ),
    "an assistant at the end": (TemplateSupport(assistant_last=False), [a("1")], [a("1"), u("")]),
    "no tools": (
        NO_TOOLS,
        [u("1"), calls("x", "y", content="2"), r("y"), r("x"), r("z"), a("3")],
        [
            u("1"),
            a(f"2\n{call_text('x')}\n{call_text('y')}"),
            u(result_text("x", "y", "z")),
            a("3"),
        ],
    ),
    "no tools, null results": (
        NO_TOOLS,
        [{"role": "tool", "content": None, "name": "n"}],
        [u('<tool_response>\n{"name": "n", "content": ""}\n</tool_response>')],
    ),
    "no tools, strict turns": (
        replace(NO_TOOLS, repeated_roles=False),
        [u("1"), a("2"), calls("x"), r("x"), u("3")],
        [u("1"), a(f"2\n{call_text('x')}"), u(f"{result_text('x')}\n\n3")],
    ),
    "one call at a time": (
        tools(parallel_calls=False),
        [calls("x", "y", content="1", reasoning_content="t"), r("y"), r("x"), r("z")],
        [calls("x", content="1", reasoning_content="t"), r("x"), calls("y"), r("y"), r("z")],
    ),
    "no null beside calls": (tools(null_content=False), [calls("x")], [calls("x", content="")]),
    "no content beside calls": (
        tools(content_beside_calls=False),
        [calls("x", content="1", reasoning_content="t"), r("x")],
        [a("1"), calls("x", reasoning_content="t"), r("x")],
    ),
    "no content beside thoughts": (
        tools(content_beside_thoughts=False),
        [calls("x", content="1", reasoning_content="t"), calls("x", content="2")],
        [a("1"), calls("x", reasoning_content="t"), calls("x", content="2")],
    ),
    "no content beside calls, strict turns": (
        replace(tools(content_beside_calls=False), repeated_roles=False),
        [u("1"), calls("x", content="2"), r("x"), a("3")],
        [u("1"), a(f"2\n{call_text('x')}"), u(result_text("x")), a("3")],
    ),
    "no calls without results": (
        tools(calls_without_results=False),
        [calls("x", "y"), r("x"), calls("z")],
        [a(f"{call_text('x')}\n{call_text('y')}"), u(result_text("x")), a(call_text("z"))],
    ),
    "no results without calls": (
        tools(results_without_calls=False),
        [r("x"), r("y"), calls("z"), r("z"), r("x")],
        [u(result_text("x", "y")), a(call_text("z")), u(result_text("z", "x"))],
    ),
    "no user after results": (
        replace(tools(user_after_results=False), repeated_roles=False),
        [u("1"), calls("x"), r("x"), u("2"), u("3")],
        [u("1"), calls("x"), r("x"), a(""), u("2\n\n3")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_taken_is_rewritten(case: str) -> None:
    """Into what the template takes, in its place, and nothing else changes."""
    support, messages, expected = CASES[case]

    assert adapted(messages, support) == expected


def test_arguments_that_are_a_text_are_written_as_one() -> None:
    """Where the template needs an object the whole turn is text."""
    message = calls("x")
    message["tool_calls"][0]["function"]["arguments"] = '["a"]'
    expected = [a(call_text("x", r'"[\"a\"]"')), u(result_text("x"))]

    assert adapted([message, r("x")], tools(text_arguments=False)) == expected
    assert adapted([message, r("x")], NO_TOOLS) == expected
    assert adapted([message, r("x")], ALL) == [message, r("x")]


def test_a_long_run_of_one_role_is_joined_at_once() -> None:
    """As long as it takes to copy its text once, however many messages it has."""
    begun = process_time()
    messages = [{"role": "user", "content": "x" * 8000, "name": "Ann"} for _ in range(2048)]
    (joined,) = adapted(messages, STRICT)

    assert joined["name"] == "Ann"
    assert len(joined["content"]) == 2048 * 8002 - 2
    assert process_time() - begun < 2
