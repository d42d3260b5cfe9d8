"""Templates of the well-known families, rendered as Hugging Face's own library renders them."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.cache import resolve_model
from headrace.models.default import DEFAULT_MODEL
from tests.support.chat_templates import CONVERSATIONS, FAMILIES
from tests.support.template_pairs import Pair
from tests.support.tokenizer_models import write_model
from tests.support.tool_templates import TOOL_CONVERSATIONS, TOOL_FAMILIES
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.message_adapting import adapted
from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.message_preparing import prepared

ALL_FAMILIES = FAMILIES | TOOL_FAMILIES


@pytest.fixture(scope="module")
def pairs(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """A model for each family, with the same small vocabulary."""
    folder = tmp_path_factory.mktemp("families")
    for family, template in ALL_FAMILIES.items():
        write_model(folder / family, document, template=template)
    return {family: Pair(folder / family) for family in ALL_FAMILIES}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_rendering_is_the_librarys(pairs: dict[str, Pair], family: str, conversation: str) -> None:
    """Every family renders every conversation to the same text, or refuses it as the library."""
    pair, messages = pairs[family], CONVERSATIONS[conversation]

    before = pair.expected_text(messages)
    text = pair.text(messages)

    assert text in (before, pair.expected_text(messages))  # midnight may be between them


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_have_the_librarys_ids(pairs: dict[str, Pair], family: str) -> None:
    """The ids of whole prompts agree too, special tokens of the template included."""
    pair = pairs[family]
    messages = CONVERSATIONS["no system"]

    ids = pair.oracle.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    assert pair.model.prompt_renderer().render(Conversation(messages)) == ids


# What each family takes of calls and results; the rest is rewritten, which is tested elsewhere.
NATIVE = {
    "qwen2.5 with tools": set(TOOL_CONVERSATIONS),
    "llama3.1": set(TOOL_CONVERSATIONS) - {"content beside calls", "two calls"},
    "hermes": set(TOOL_CONVERSATIONS) - {"content beside calls"},
    "mistral with tools": set(TOOL_CONVERSATIONS) - {"content beside calls", "call and user"},
    "text arguments": set(TOOL_CONVERSATIONS),
    "items": set(TOOL_CONVERSATIONS) - {"text for arguments"},
    "channels": set(TOOL_CONVERSATIONS) - {"two calls"},
}


@pytest.mark.parametrize("conversation", TOOL_CONVERSATIONS)
@pytest.mark.parametrize("family", TOOL_FAMILIES)
def test_tool_turns_are_the_librarys(
    pairs: dict[str, Pair], family: str, conversation: str
) -> None:
    """Where a template takes the calls the prompt is the library's, of the same messages."""
    pair, messages = pairs[family], TOOL_CONVERSATIONS[conversation]
    support = pair.templates.default.support
    assert support.tools is not None
    wanted = prepared(messages, support)

    text = pair.text(adapted(wanted, support))

    expected = pair.expected_text(parsed(messages) if support.tools.object_arguments else messages)
    is_native = conversation in NATIVE[family]
    assert (adapted(wanted, support) == wanted) is is_native
    assert text is not None
    if is_native and not (support.tools.short_ids or support.tools.names_results):
        assert text == expected
    assert not is_native or text == pair.expected_text(wanted)


def parsed(messages: Sequence[TemplateMessage]) -> list[dict[str, Any]]:
    """The messages as the library's users write them: arguments as objects where they are some."""
    copies: list[dict[str, Any]] = copy.deepcopy([dict(message) for message in messages])
    for message in copies:
        for call in message.get("tool_calls", []):
            if call["function"]["arguments"].startswith("{"):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return copies


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_renders_and_refuses_something(pairs: dict[str, Pair], family: str) -> None:
    """The conversations reach both ends of a template, so that agreement says something."""
    texts = [pairs[family].expected_text(messages) for messages in CONVERSATIONS.values()]

    rendered = [text for text in texts if text is not None]
    assert len(set(rendered)) > len(CONVERSATIONS) / 3
    assert family in {"llama3", "macros", "qwen3", "generation"} or None in texts


turns = st.tuples(
    st.sampled_from(["system", "user", "assistant"]),
    st.text(max_size=12) | st.sampled_from(["{{ x }}", "{% endif %}", "</think>", " <|im_end|>\n"]),
)


@settings(max_examples=150)
@given(family=st.sampled_from(list(FAMILIES)), said=st.lists(turns, min_size=1, max_size=5))
def test_any_conversation_renders_as_in_the_library(
    pairs: dict[str, Pair], family: str, said: list[tuple[str, str]]
) -> None:
    """So do conversations that nobody thought of."""
    messages = [{"role": role, "content": content} for role, content in said]

    before = pairs[family].expected_text(messages)

    assert pairs[family].text(messages) in (before, pairs[family].expected_text(messages))


@pytest.fixture(scope="module")
def default_pair() -> Pair:
    """The default model, from the cache folder."""
    return Pair(resolve_model(DEFAULT_MODEL.name))


@pytest.mark.model
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_default_model_renders_as_in_the_library(default_pair: Pair, conversation: str) -> None:
    """The default model's own template and special tokens give the library's text."""
    messages = CONVERSATIONS[conversation]

    assert default_pair.text(messages) == default_pair.expected_text(messages)
