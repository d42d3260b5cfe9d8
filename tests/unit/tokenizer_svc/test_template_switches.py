"""Whether templates show functions, and what switches their thoughts."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count

import pytest

from tests.support.tokenizer_models import TEMPLATE
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.prompt_templates import PromptTemplates
from tokenizer_svc.template_budget import RenderBounds
from tokenizer_svc.template_support import TemplateSupport
from tokenizer_svc.template_switches import shown_tools, thinking_switch

TOOLS = "{% for tool in tools or [] %}{{ SHOWN }}\n{% endfor %}"
SUPPORT = TemplateSupport(tools=None)


def chat(source: str, ticks: Iterator[int] | None = None) -> ChatTemplate:
    start = datetime(2026, 1, 1)  # noqa: DTZ001 (local time without a zone is what templates get)
    ticks = ticks or iter(lambda: 0, 1)
    return ChatTemplate(source, {}, RenderBounds(), lambda: start + timedelta(seconds=next(ticks)))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("tool | tojson", "any"),
        ("tool", "any"),
        ("tool.function | tojson", "any"),
        ("tool.function.description + (tool | tojson)", "complete"),
        ("tool.function.parameters.properties.keys() | list ~ (tool | tojson)", "complete"),
        ("tool.function.description ~ none if not tool.function.description else tool", "complete"),
        ("tool.function.name", "none"),
        ("tool.function.name ~ tool.function.description", "none"),
        ("tool.function.parameters | tojson", "none"),
        ("tool.name", "none"),
    ],
)
def test_a_tool_is_shown_if_all_of_it_comes_out(shown: str, expected: str) -> None:
    """Name, description, a parameter and its description; what is refused bare is completed."""
    assert shown_tools(chat(TOOLS.replace("SHOWN", shown) + TEMPLATE), SUPPORT) == expected


@pytest.mark.parametrize(
    "condition",
    [
        "messages[0].role != 'system'",
        "messages[0].role == 'system'",
        "messages | length == 1",
        "messages[-1].role == 'user' and messages[-1].content != 'qzagainzq'",
    ],
)
def test_tools_must_be_shown_in_every_ordinary_conversation(condition: str) -> None:
    """A template that shows them here and there is one that shows none."""
    shown = TOOLS.replace("SHOWN", "tool | tojson")
    source = "{% if " + condition + " %}" + shown + "{% endif %}" + TEMPLATE
    templates = PromptTemplates(chat(source))

    assert templates.with_tools.showing == "none"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'x' if enable_thinking is false }}", "enable_thinking"),
        ("{{ 'x' if enable_thinking is defined and enable_thinking }}", "enable_thinking"),
        ("{{ 'x' if thinking }}", "thinking"),
        ("{% if messages[0].role == 'system' and thinking %}x{% endif %}", "thinking"),
        ("{{ '' if thinking else '' }}", None),
        ("{{ 'x' if thoughts }}", None),
        ("{{ raise_exception('no') if thinking is defined }}", None),
    ],
)
def test_a_switch_is_a_variable_that_changes_the_prompt(source: str, expected: str | None) -> None:
    """One of the two names that templates have for it, wherever it is read."""
    assert thinking_switch(chat(source + TEMPLATE), SUPPORT) == expected


def test_the_clock_is_no_switch() -> None:
    """A prompt that changes with every render does not change by a variable."""
    clock = "{{ strftime_now('%H:%M:%S') }}"

    assert thinking_switch(chat(clock + TEMPLATE, count()), SUPPORT) is None
    # Once a while it ticks between two renders, and the next try shows the switch.
    ticks = iter([0, 0, 1, *[1] * 100])
    switching = clock + "{{ 'x' if thinking }}" + TEMPLATE
    assert thinking_switch(chat(switching, ticks), SUPPORT) == "thinking"


def test_earlier_calls_are_in_the_style_of_the_description() -> None:
    """What a template that shows no functions makes of calls would teach the model another."""
    calls = "{% for c in m.tool_calls or [] %}CALL {{ c.function | tojson }}{% endfor %}"
    source = "{% for m in messages %}{{ m.role }}:{{ m.content or '' }}" + calls + "\n{% endfor %}"
    function = {"name": "f", "arguments": "{}"}
    called = {"id": "call_1", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "content": "22", "tool_call_id": "call_1"},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    templates = PromptTemplates(chat(source))

    def text(conversation: Conversation) -> str:
        has_tools = bool(conversation.tools)
        template = templates.of(has_tools=has_tools, calls_as=conversation.calls_as)
        return template.text(template.prepared(conversation))

    assert "CALL {" in text(Conversation(messages))
    assert "CALL {" in text(Conversation(messages, [tool], calls_as="mistral"))
    described = text(Conversation(messages, [tool]))
    assert 'assistant:<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>' in described
    assert "user:<tool_response>" in described


def test_a_template_for_tools_is_used_with_tools_only() -> None:
    """It may loop over them unguarded; one that does not show them is never used."""
    showing = TOOLS.replace("SHOWN", "tool | tojson").replace(" or []", "") + "T" + TEMPLATE
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    without = Conversation([{"role": "user", "content": "Hello"}])
    given = Conversation(without.messages, [tool])

    both = PromptTemplates(chat("D" + TEMPLATE), chat(showing))
    assert both.of(has_tools=False).text(without).startswith("D<|im_start|>")
    assert both.of(has_tools=True).text(given).startswith('{"type": "function"')
    useless = PromptTemplates(chat("D" + TEMPLATE), chat("T" + TEMPLATE))
    assert useless.of(has_tools=True).text(given).startswith("D<|im_start|>system\n# Tools")
