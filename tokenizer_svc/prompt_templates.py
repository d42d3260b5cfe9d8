"""A model's chat templates, each with what it takes: a conversation to the prompt's text.

A model may have a template of its own for conversations with functions (`tool_use`). Where no
template shows the functions, they are described in the system text of the default one.
"""

from dataclasses import replace
from typing import Any

from tokenizer_svc.chat_template import ChatTemplate, TemplateRefusalError
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.formats.catalog import CALLS_BY_DEFAULT
from tokenizer_svc.message_adapting import adapted
from tokenizer_svc.message_preparing import prepared
from tokenizer_svc.template_support import TemplateSupport, probed_support
from tokenizer_svc.template_switches import PROBE_TOOL, Showing, shown_tools, thinking_switch
from tokenizer_svc.template_tools import completed
from tokenizer_svc.tool_describing import described, with_description


class PromptTemplate:
    """A chat template, probed once. `showing`: which functions it shows."""

    def __init__(
        self,
        template: ChatTemplate,
        support: TemplateSupport,
        showing: Showing,
        switch: str | None,
    ) -> None:
        self._template = template
        self.support = support
        self.showing = showing
        self.switch = switch

    def prepared(self, conversation: Conversation) -> Conversation:
        """The conversation in the form that `text` takes; done before anything is masked."""
        tools = conversation.tools
        if self.showing == "complete":
            tools = [completed(tool) for tool in tools]
        messages = prepared(conversation.messages, self.support)
        return replace(conversation, messages=messages, tools=tools)

    def text(self, conversation: Conversation) -> str:
        """The prompt. Raises ServiceError for what the template refuses, naming tools if those."""
        if not conversation.tools or self.showing == "none":
            return self._rendered(_with_tools_described(conversation))
        try:
            return self._rendered(conversation)
        except TemplateRefusalError as error:
            if not self._takes(replace(conversation, tools=())):
                raise
            message = error.message.replace("these messages", "these tools", 1)
            raise TemplateRefusalError(error.reason, message, param="tools") from error

    def _takes(self, conversation: Conversation) -> bool:
        try:
            self._rendered(conversation)
        except TemplateRefusalError:
            return False
        return True

    def _rendered(self, conversation: Conversation) -> str:
        variables: dict[str, Any] = {}
        if self.switch is not None and conversation.thinking is not None:
            variables[self.switch] = conversation.thinking
        messages = adapted(conversation.messages, self.support)
        return self._template.render(messages, conversation.tools, variables)


class PromptTemplates:
    """A model's default template and, where it has one, that for functions.

    Making one renders the templates' probes, a few milliseconds each.
    """

    def __init__(self, default: ChatTemplate, tool_use: ChatTemplate | None = None) -> None:
        support = probed_support(default)
        switch = thinking_switch(default, support)
        self.default = PromptTemplate(default, support, "none", switch)
        # With calls of earlier turns as text, in the same style as the description.
        described = PromptTemplate(default, replace(support, tools=None), "none", switch)
        self.with_tools = _showing_tools(tool_use or default) or described

    def of(self, *, has_tools: bool, calls_as: str = CALLS_BY_DEFAULT) -> PromptTemplate:
        """The template for conversations with or without functions, and calls in that format."""
        is_described = self.with_tools.showing == "none"
        if not has_tools or (is_described and calls_as != CALLS_BY_DEFAULT):
            return self.default
        return self.with_tools


def _showing_tools(template: ChatTemplate) -> PromptTemplate | None:
    """The template, for conversations with functions; None where it does not show them."""
    support = probed_support(template, [PROBE_TOOL])
    showing = shown_tools(template, support)
    if showing == "none":
        return None
    switch = thinking_switch(template, support, [PROBE_TOOL])
    return PromptTemplate(template, support, showing, switch)


def _with_tools_described(conversation: Conversation) -> Conversation:
    if not conversation.tools:
        return conversation
    description = described(conversation.tools, conversation.calls_as)
    messages = with_description(conversation.messages, description)
    return replace(conversation, messages=messages, tools=())
