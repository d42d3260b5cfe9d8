"""Templates that show functions, rendered as Hugging Face's own library renders them."""

from typing import Any

import pytest

from tests.support.chat_templates import CONVERSATIONS
from tests.support.shown_tools import LOOK, SHOWING_FAMILIES, TOOL_LISTS
from tests.support.template_pairs import Pair
from tests.support.tokenizer_models import write_model
from tests.support.tool_templates import TOOL_CONVERSATIONS
from tokenizer_svc.conversation import Conversation

ALL_CONVERSATIONS = {**CONVERSATIONS, **TOOL_CONVERSATIONS}


@pytest.fixture(scope="module")
def pairs(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """A model for each family, with the same small vocabulary."""
    folder = tmp_path_factory.mktemp("families")
    for family, templates in SHOWING_FAMILIES.items():
        more = {name: source for name, source in templates.items() if name != "default"}
        default = templates["default"]
        write_model(folder / family, document, template=default, more_templates=more)
    return {family: Pair(folder / family) for family in SHOWING_FAMILIES}


@pytest.mark.parametrize("tools", TOOL_LISTS)
@pytest.mark.parametrize("family", SHOWING_FAMILIES)
def test_rendering_with_tools_is_the_librarys(
    pairs: dict[str, Pair], family: str, tools: str
) -> None:
    """Every family renders every conversation with tools to the same text, or refuses it."""
    pair, given = pairs[family], TOOL_LISTS[tools]

    for messages in ALL_CONVERSATIONS.values():
        before = pair.expected_text(messages, given)
        text = pair.text(messages, given)
        assert text in (before, pair.expected_text(messages, given))  # midnight may be between


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("family", ["qwen3", "smollm3", "granite"])
def test_the_switch_is_the_librarys(pairs: dict[str, Pair], family: str, wanted: bool) -> None:
    """With tools and without the template gets the variable that its users give it."""
    pair, messages = pairs[family], CONVERSATIONS["system and user"]

    for tools in ([], [LOOK]):
        template = pair.templates.of(has_tools=bool(tools))
        assert template.switch is not None
        text = template.text(Conversation(messages, tools, thinking=wanted))
        assert text == pair.expected_text(messages, tools, **{template.switch: wanted})
        assert text != template.text(Conversation(messages, tools, thinking=not wanted))


SHOWING = dict.fromkeys(SHOWING_FAMILIES, "any") | {
    "hermes 3": "complete",
    "command-r": "complete",
}


@pytest.mark.parametrize("family", SHOWING_FAMILIES)
def test_it_is_found_out_what_is_shown(pairs: dict[str, Pair], family: str) -> None:
    """All of them show functions; some only with a description and properties."""
    templates = pairs[family].templates

    assert templates.with_tools.showing == SHOWING[family]
    assert templates.with_tools is not templates.default


def test_what_the_assistant_says_first_is_not_the_users(pairs: dict[str, Pair]) -> None:
    """A template that takes the first message for the user's, whoever says it, gets one."""
    template = pairs["llama3.1"].templates.with_tools
    said = {"role": "assistant", "content": "I said this."}
    text = template.text(template.prepared(Conversation([said], [LOOK])))

    assert text.split("I said this.")[0].endswith("assistant<|end_header_id|>\n\n")


@pytest.mark.parametrize("family", SHOWING_FAMILIES)
def test_every_conversation_is_rendered_with_tools(pairs: dict[str, Pair], family: str) -> None:
    """What a template refuses is rewritten with tools as without, and the tools are shown."""
    template = pairs[family].templates.with_tools
    missing = []
    for tools in ("two", "no description", "no properties"):
        for name, messages in ALL_CONVERSATIONS.items():
            conversation = Conversation(messages, TOOL_LISTS[tools])
            text = template.text(template.prepared(conversation))
            if not all(tool["function"]["name"] in text for tool in TOOL_LISTS[tools]):
                missing.append((tools, name))

    assert not missing
