"""What a template does not take of a conversation, rewritten into what it does; nothing is lost.

Messages that the template takes are passed on as they are. What is written depends on roles and
structure only, never on what a text says, so that masked messages are rewritten alike.
"""

from collections.abc import Sequence
from typing import Any

from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.message_preparing import SEPARATOR
from tokenizer_svc.template_support import TemplateSupport
from tokenizer_svc.tool_turns import with_tool_turns


def adapted(messages: Sequence[TemplateMessage], support: TemplateSupport) -> list[TemplateMessage]:
    """The conversation for a template of that support; the messages were prepared before."""
    turns = [_with_known_role(message, support) for message in messages]
    if not support.repeated_roles:
        turns = _merged(turns)
    turns = with_tool_turns(turns, support)
    turns = [_without_null(message, support) for message in turns]
    turns = _with_system(turns, support)
    if not support.assistant_first:
        turns = _opened(turns, was_asked=_is_asked(messages))
    return _in_turns(turns, support)


def _is_asked(messages: Sequence[TemplateMessage]) -> bool:
    """Whether anybody but a tool speaks to the assistant before it answers."""
    roles = (message["role"] for message in messages)
    return next((role for role in roles if role not in ("system", "developer")), "user") != "tool"


def _opened(messages: list[TemplateMessage], *, was_asked: bool) -> list[TemplateMessage]:
    """With a message of the user at the beginning; a tool's result, written as one, is none."""
    count = 0
    while count < len(messages) and messages[count]["role"] == "system":
        count += 1
    if count == len(messages) or (was_asked and messages[count]["role"] == "user"):
        return messages
    return [*messages[:count], {"role": "user", "content": ""}, *messages[count:]]


def _with_known_role(message: TemplateMessage, support: TemplateSupport) -> TemplateMessage:
    if message["role"] == "developer" and not support.developer:
        return {**message, "role": "system"}
    return message


def _without_null(message: TemplateMessage, support: TemplateSupport) -> TemplateMessage:
    if message["content"] is not None or message.get("tool_calls"):
        return message
    takes_null = {"assistant": support.null_assistant, "user": support.null_user}
    return message if takes_null.get(message["role"]) else {**message, "content": ""}


def _with_system(
    messages: list[TemplateMessage], support: TemplateSupport
) -> list[TemplateMessage]:
    """System messages where the template looks for them, else as words of the user.

    Those at the beginning become one; where the template shows none they go into the first message
    of the user. Those that come later keep their place: moved to the front, they would speak before
    what they answer to, and no prompt would begin like the one before it.
    """
    count = 0
    while count < len(messages) and messages[count]["role"] == "system":
        count += 1
    first, rest = messages[:count], messages[count:]
    if support.system != "anywhere":
        rest = [_as_user(message) if message["role"] == "system" else message for message in rest]
    if not first:
        return rest
    if _shows_first(rest, support):
        return [*(first if support.system == "anywhere" else _merged(first)), *rest]
    begun = [_as_user(message) for message in first] + rest[:1]
    return [*_merged(begun), *rest[1:]]


def _shows_first(rest: Sequence[TemplateMessage], support: TemplateSupport) -> bool:
    if support.system == "none":
        return False
    if not rest:
        return support.system_alone
    return support.system_before_others or rest[-1]["role"] == "user"


def _as_user(message: TemplateMessage) -> TemplateMessage:
    return {**message, "role": "user"}


def _in_turns(
    messages: Sequence[TemplateMessage], support: TemplateSupport
) -> list[TemplateMessage]:
    """Begin, alternate and end as the template demands; who has nothing to say says nothing."""
    turns = list(messages) if support.repeated_roles else _merged(messages)
    tools = support.tools
    if tools is not None and not tools.user_after_results:
        turns = _with_pauses(turns)
    if not support.assistant_last and turns[-1]["role"] == "assistant":
        turns.append({"role": "user", "content": ""})
    return turns


def _with_pauses(turns: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """An empty answer between a tool's result and what the user says next."""
    spaced: list[TemplateMessage] = []
    for turn in turns:
        if turn["role"] == "user" and spaced and spaced[-1]["role"] == "tool":
            spaced.append({"role": "assistant", "content": ""})
        spaced.append(turn)
    return spaced


def _merged(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Neighbours of one role as one message; tool results and messages with calls end a run."""
    runs: list[list[TemplateMessage]] = []
    for message in messages:
        if runs and _goes_on(runs[-1][-1], message):
            runs[-1].append(message)
        else:
            runs.append([message])
    return [run[0] if len(run) == 1 else _joined(run) for run in runs]


def _goes_on(one: TemplateMessage, two: TemplateMessage) -> bool:
    return one["role"] == two["role"] != "tool" and not one.get("tool_calls")


def _joined(run: Sequence[TemplateMessage]) -> TemplateMessage:
    """All texts, a blank line between them; a name only where all have it.

    At once, since a text that grows message by message is copied as often.
    """
    joined: dict[str, Any] = {}
    for message in run:
        joined.update(message)
    for key in joined.keys() - {"role", "name", "tool_calls"}:
        texts = [message[key] for message in run if message.get(key)]
        if texts:
            joined[key] = SEPARATOR.join(texts)
    if any(message.get("name") != joined.get("name") for message in run):
        joined.pop("name", None)
    return joined
