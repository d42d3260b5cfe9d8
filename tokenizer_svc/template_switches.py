"""Whether a chat template shows functions, and what switches its thoughts: found out by rendering.

As in `template_support`: every text of a probe is a word that nothing else spells.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from headrace.rpc.errors import ServiceError
from tokenizer_svc.chat_template import ChatTemplate
from tokenizer_svc.message_adapting import adapted
from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.message_preparing import prepared
from tokenizer_svc.template_support import TemplateSupport
from tokenizer_svc.template_tools import TemplateTool

_SWITCHES = ("enable_thinking", "thinking")
_TRIES = 3

PROBE_TOOL: TemplateTool = {
    "type": "function",
    "function": {
        "name": "qztoolnamezq",
        "description": "qztoolpurposezq",
        "parameters": {
            "type": "object",
            "properties": {"qzfieldzq": {"type": "string", "description": "qzfieldpurposezq"}},
            "required": ["qzfieldzq"],
        },
    },
}
_TOOL_WORDS = ("qztoolnamezq", "qztoolpurposezq", "qzfieldzq", "qzfieldpurposezq")
_BARE_TOOL: TemplateTool = {
    "type": "function",
    "function": {"name": "qztoolnamezq", "parameters": {"type": "object"}},
}

_SYSTEM = {"role": "system", "content": "qzsystemzq"}
_USER = {"role": "user", "content": "qzuserzq"}
_AGAIN = {"role": "user", "content": "qzagainzq"}
_SAID = {"role": "assistant", "content": "qzsaidzq"}
_CALL = {"name": "qzcallzq", "arguments": '{"qzkeyzq": 1}'}
_CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_qz", "type": "function", "function": _CALL}],
}
_RESULT = {"role": "tool", "content": "qzresultzq", "tool_call_id": "call_qz"}
_CONVERSATIONS: tuple[tuple[TemplateMessage, ...], ...] = (
    (_USER,),
    (_SYSTEM, _USER),
    (_USER, _SAID, _AGAIN),
    (_USER, _CALLING, _RESULT),
    (_SYSTEM, _USER, _CALLING, _RESULT, _SAID, _AGAIN),
)

Showing = Literal["none", "complete", "any"]
"""Of functions: none, those with a description and properties (empty ones will do), any."""


def shown_tools(template: ChatTemplate, support: TemplateSupport) -> Showing:
    """Which functions the template shows in every ordinary conversation.

    Of a function its name, its description, and a parameter's name and description must come out.
    """
    for conversation in _CONVERSATIONS:
        text = _text(template, support, conversation, [PROBE_TOOL])
        if text is None or not all(word in text for word in _TOOL_WORDS):
            return "none"
    whole = _text(template, support, (_USER,), [PROBE_TOOL]) or ""
    bare = _text(template, support, (_USER,), [_BARE_TOOL])
    is_taken = bare is not None and bare.count("None") <= whole.count("None")
    return "any" if is_taken else "complete"


def thinking_switch(
    template: ChatTemplate, support: TemplateSupport, tools: Sequence[TemplateTool] = ()
) -> str | None:
    """The variable that tells the template whether the model is to think; None if there is none."""
    for name in _SWITCHES:
        for conversation in ((_USER,), (_SYSTEM, _USER)):
            if _is_switch(template, support, conversation, tools, name):
                return name
    return None


def _is_switch(
    template: ChatTemplate,
    support: TemplateSupport,
    conversation: Sequence[TemplateMessage],
    tools: Sequence[TemplateTool],
    name: str,
) -> bool:
    """Whether the variable, and not the clock, changes the prompt."""
    for _ in range(_TRIES):
        thinking, silent, again = (
            _text(template, support, conversation, tools, {name: value})
            for value in (True, False, True)
        )
        if thinking == again:
            return None not in (thinking, silent) and thinking != silent
    return False


def _text(
    template: ChatTemplate,
    support: TemplateSupport,
    conversation: Sequence[TemplateMessage],
    tools: Sequence[TemplateTool],
    variables: Mapping[str, Any] | None = None,
) -> str | None:
    messages = adapted(prepared(conversation, support), support)
    try:
        return template.render(messages, tools, variables or {})
    except ServiceError:
        return None
