"""What each family's template takes, found by probing; and what may go wrong while probing."""

from typing import Any

import pytest

from tests.support.chat_templates import FAMILIES
from tests.support.tool_templates import TOOL_FAMILIES
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.template_budget import RenderBounds
from tokenizer_svc.template_support import TemplateSupport, ToolSupport, probed_support


def support(source: str) -> TemplateSupport:
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    return probed_support(ChatTemplate(source, variables, RenderBounds()))


# What differs from the default, which is everything.
PLAIN = {"developer": False, "null_assistant": False, "null_user": False, "reasoning_field": None}
STRICT = PLAIN | {"repeated_roles": False, "assistant_first": False, "system_alone": False}
EXPECTED: dict[str, dict[str, Any]] = {
    "chatml": PLAIN | {"tools": None},
    "smollm2": PLAIN | {"tools": None},
    "llama3": PLAIN | {"tools": None},
    "qwen2.5": PLAIN | {"tools": None},
    "qwen3": {"developer": False, "tools": None},
    "mistral": STRICT | {"system": "first", "system_before_others": False, "tools": None},
    "turns": STRICT | {"system": "none", "system_before_others": False, "tools": None},
    "generation": {"null_user": False, "reasoning_field": None, "tools": None},
    "qwen2.5 with tools": PLAIN,
    "llama3.1": PLAIN | {"tools": ToolSupport(parallel_calls=False, content_beside_calls=False)},
    "hermes": PLAIN
    | {
        "tools": ToolSupport(
            content_beside_calls=False, results_without_calls=False, names_results=True
        )
    },
    "mistral with tools": STRICT
    | {
        "system": "first",
        "system_before_others": False,
        "tools": ToolSupport(
            short_ids=True,
            content_beside_calls=False,
            calls_without_results=False,
            results_without_calls=False,
            user_after_results=False,
        ),
    },
    "text arguments": {
        "developer": False,
        "null_user": False,
        "tools": ToolSupport(object_arguments=False),
    },
    "items": {
        "developer": False,
        "system": "first",
        "system_alone": False,
        "assistant_first": False,
        "reasoning_field": None,
        "tools": ToolSupport(text_arguments=False, results_without_calls=False),
    },
    "channels": PLAIN
    | {
        "system": "first",
        "assistant_first": False,
        "assistant_last": False,
        "reasoning_field": "thinking",
        "tools": ToolSupport(
            parallel_calls=False, content_beside_thoughts=False, results_without_calls=False
        ),
    },
}


@pytest.mark.parametrize("family", EXPECTED)
def test_the_families_take_what_their_templates_say(family: str) -> None:
    """Refusing, leaving out without a word, and writing Python's None all count as not taking."""
    assert support((FAMILIES | TOOL_FAMILIES)[family]) == TemplateSupport(**EXPECTED[family])


def test_a_template_of_nothing_but_refusals_gets_messages_as_they_are() -> None:
    """What cannot be learned is not guessed: its own words tell the caller."""
    assert support("{{ raise_exception('never') }}") == TemplateSupport()
    assert support("constant") == TemplateSupport()


CALLS = (
    "{% for m in messages %}{{ m.role }}:{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}{{ CALL }}{% endfor %}\n{% endfor %}"
)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("c.function | tojson", True),
        ("c.function.name + (c.function.arguments | tojson)", True),
        ("c.function.name ~ c.function.arguments", False),  # Python's own spelling of an object
        ("c.function.name + c.function.arguments", False),  # refuses an object
    ],
)
def test_arguments_are_an_object_where_the_template_writes_json(
    call: str, expected: object
) -> None:
    """Where it would write Python, or fail, it gets the text."""
    tools = support(CALLS.replace("CALL", call)).tools

    assert tools is not None
    assert tools.object_arguments is expected


def test_calls_that_show_only_the_name_are_not_taken() -> None:
    """A template that leaves the arguments out loses them."""
    assert support(CALLS.replace("CALL", "c.function.name")).tools is None


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_the_field_of_thoughts_is_the_templates_own(field: str) -> None:
    """Whichever it reads, also where it shows them only in the last turn."""
    source = (
        "{% for m in messages %}{{ m.role }}:{{ m.content or '' }}"
        f"{{{{ m.{field} if loop.last }}}}\n{{% endfor %}}"
    )

    assert support(source).reasoning_field == field


def test_a_developer_that_is_just_any_role_is_a_system() -> None:
    """Writing the role's name is not knowing it; a mark of its own is."""
    generic = "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    knowing = generic.replace("m.role }}", "m.role | replace('developer', 'DEV') }}")

    assert not support(generic).developer
    assert support(knowing).developer
