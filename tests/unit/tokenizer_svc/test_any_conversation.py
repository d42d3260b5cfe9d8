"""Any conversation in every template: rendered without an error, and nothing of it lost."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.chat_templates import FAMILIES
from tests.support.shown_tools import LOOK, SHOWING_FAMILIES, SILENT
from tests.support.tool_templates import TOOL_FAMILIES
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.message_adapting import adapted
from tokenizer_svc.message_preparing import prepared
from tokenizer_svc.prompt_templates import PromptTemplates
from tokenizer_svc.template_budget import RenderBounds
from tokenizer_svc.template_support import TemplateSupport, probed_support

Message = dict[str, Any]
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
# What only the template of a document writer would do: it stops after six messages.
FORGETFUL = "macros"
ALL_FAMILIES = FAMILIES | TOOL_FAMILIES


class Family:
    """A template and what it takes."""

    def __init__(self, source: str) -> None:
        self.template = ChatTemplate(source, SPECIAL_TOKENS, RenderBounds())
        self.support: TemplateSupport = probed_support(self.template)

    def text(self, messages: list[Message]) -> str:
        return self.template.render(adapted(prepared(messages, self.support), self.support))


KNOWN = {name: Family(source) for name, source in ALL_FAMILIES.items()}


class Writer:
    """Draws a conversation in which every text is a word of its own."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._words: Iterator[int] = count(1)

    def conversation(self) -> list[Message]:
        """Up to six turns of any kind in any order, also those that OpenAI's API refuses."""
        kinds = (self._said, self._said, self._said, self._asked, self._tools, self._stray)
        turns = self._draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6))
        return [message for turn in turns for message in turn()]

    def _word(self) -> str:
        return f"qw{next(self._words)}wq"

    def _maybe(self) -> bool:
        return self._draw(st.booleans())

    def _asked(self) -> list[Message]:
        return [{"role": "user", "content": self._word()}]

    def _said(self) -> list[Message]:
        role = self._draw(st.sampled_from(["system", "developer", "user", "assistant"]))
        message: Message = {"role": role, "content": self._word()}
        if role == "assistant":
            if self._maybe():
                message |= {"content": None, "refusal": self._word()}
            if self._maybe():
                message["reasoning_content"] = self._word()
        if self._maybe():
            message["name"] = "ann"
        return [message]

    def _tools(self) -> list[Message]:
        calls = [self._call() for _ in range(self._draw(st.integers(1, 3)))]
        calling: Message = {"role": "assistant", "content": None, "tool_calls": calls}
        if self._maybe():
            calling["content"] = self._word()
        if self._maybe():
            calling["reasoning_content"] = self._word()
        results = [self._result(call) for call in calls if self._draw(st.integers(0, 4))]
        return [calling, *self._draw(st.permutations(results))]

    def _call(self) -> Message:
        arguments = self._draw(
            st.sampled_from(
                [
                    f'{{"{self._word()}": "{self._word()}"}}',
                    f'["{self._word()}"]',
                    f'{{"broken": "{self._word()}',
                    "",
                ]
            )
        )
        call_id = self._draw(st.sampled_from([self._word() + "_of_a_call", ""]))
        function = {"name": self._word(), "arguments": arguments}
        return {"id": call_id, "type": "function", "function": function}

    def _result(self, call: Message) -> Message:
        if call["id"]:
            return {"role": "tool", "content": self._word(), "tool_call_id": call["id"]}
        name = call["function"]["name"]
        return {"role": "function", "content": self._word(), "name": name}

    def _stray(self) -> list[Message]:
        return [{"role": "tool", "content": self._word(), "tool_call_id": "nobody's"}]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Messages as `template_messages` gives them."""
    return Writer(draw).conversation()


def words(message: Message) -> set[str]:
    """All that must be shown: thoughts, ids and names of participants need not be."""
    shown: list[Any] = [message["content"], message.get("refusal")]
    shown += [call["function"] for call in message.get("tool_calls", [])]
    return set(re.findall(r"qw\d+wq", json.dumps(shown)))


@pytest.mark.parametrize("family", ALL_FAMILIES)
@settings(max_examples=40)
@given(messages=conversations())
def test_nothing_is_refused_or_lost(family: str, messages: list[Message]) -> None:
    """Every text of every message is in the prompt, in every template."""
    text = KNOWN[family].text(messages)

    if family != FORGETFUL:
        missing = set().union(*map(words, messages)) - set(re.findall(r"qw\d+wq", text))
        assert not missing
    assert "None" not in text or family == FORGETFUL


@pytest.mark.parametrize("family", ALL_FAMILIES)
@settings(max_examples=30)
@given(messages=conversations())
def test_what_comes_next_leaves_the_beginning_alone(family: str, messages: list[Message]) -> None:
    """What the user says next changes nothing in front of it: the prefix cache is reused."""
    support = KNOWN[family].support
    longer = [*messages, {"role": "user", "content": "more"}, {"role": "user", "content": "again"}]
    before = adapted(prepared(longer[:-1], support), support)
    after = adapted(prepared(longer, support), support)

    assert before[:-1] == after[: len(before) - 1]


def _templates(sources: Mapping[str, str]) -> PromptTemplates:
    made = {
        name: ChatTemplate(source, SPECIAL_TOKENS, RenderBounds())
        for name, source in sources.items()
    }
    return PromptTemplates(made["default"], made.get("tool_use"))


SHOWING = {f"{name} showing tools": sources for name, sources in SHOWING_FAMILIES.items()}
DESCRIBING = {name: {"default": source} for name, source in ALL_FAMILIES.items()}
WITH_TOOLS = {name: _templates(sources) for name, sources in {**DESCRIBING, **SHOWING}.items()}


@pytest.mark.parametrize("family", WITH_TOOLS)
@settings(max_examples=40)
@given(messages=conversations())
def test_nothing_is_lost_beside_tools(family: str, messages: list[Message]) -> None:
    """So it is with functions, which every template then shows or has in the system's text."""
    template = WITH_TOOLS[family].with_tools
    text = template.text(template.prepared(Conversation(messages, [LOOK, SILENT])))

    if family != FORGETFUL:
        wanted = set().union(*map(words, messages))
        assert not wanted - set(re.findall(r"qw\d+wq", text))
        assert all(word in text for word in ("look", "silent", "somewhere", "town"))


def shown(family: str, *messages: Mapping[str, Any]) -> str:
    return KNOWN[family].text([dict(message) for message in messages])


def test_a_lonely_system_speaks_as_the_user_where_it_would_not_be_heard() -> None:
    """OpenPipe's and PremAI's examples have nothing but a system message."""
    system = {"role": "system", "content": "Be brief."}

    assert "<start_of_turn>user\nBe brief.<end_of_turn>" in shown("turns", system)
    assert shown("mistral", system) == "<s>[INST] Be brief.[/INST]"
    assert "<|im_start|>system\nBe brief.<|im_end|>" in shown("smollm2", system)
