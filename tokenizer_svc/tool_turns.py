"""Tool calls and their results, as the template takes them or else as text.

The text is the Hermes models': a call is JSON within `<tool_call>`, a result within
`<tool_response>` in a message of the user. What is written depends on the messages' structure only.
"""

import json
from collections.abc import Sequence
from typing import Any

from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.template_support import TemplateSupport, ToolSupport


def with_tool_turns(
    messages: Sequence[TemplateMessage], support: TemplateSupport
) -> list[TemplateMessage]:
    """The messages, prepared before, with every call and result in a form that is shown."""
    turns: list[TemplateMessage] = []
    speaker = None
    position = 0
    while position < len(messages):
        message = messages[position]
        end = position + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        if message.get("tool_calls"):
            # In strict turns calls are the beginning of an answer, never its continuation.
            is_late = speaker == "assistant" and not support.repeated_roles
            known = None if is_late else support.tools
            added = _turn(message, messages[position + 1 : end], support, known)
        elif message["role"] == "tool":
            added = _loose_results(messages[position:end], support)
        else:
            added = [message]
            end = position + 1
        turns += added
        speaker = _last_speaker(added) or speaker
        position = end
    return turns


def _last_speaker(messages: Sequence[TemplateMessage]) -> str | None:
    """Who said something last, calls and results aside."""
    spoken = (m["role"] for m in reversed(messages) if not m.get("tool_calls"))
    return next((role for role in spoken if role != "tool"), None)


def _turn(
    message: TemplateMessage,
    results: Sequence[TemplateMessage],
    support: TemplateSupport,
    tools: ToolSupport | None,
) -> list[TemplateMessage]:
    """One message with calls, and the results behind it; as text where `tools` is None."""
    answers = _answers(message, results)
    if tools is None or not _is_taken(message, answers, support, tools):
        return [_calls_as_text(message), *_results_as_text([r for group in answers for r in group])]
    turn: list[TemplateMessage] = []
    if _is_apart(message, support, tools):
        turn.append({"role": "assistant", "content": message["content"]})
        message = {**message, "content": None}
    if message["content"] is None:
        message = {**message, "content": _silence(tools)}
    if len(message["tool_calls"]) == 1 or tools.parallel_calls:
        return [*turn, message, *results]
    return [*turn, *_one_by_one(message, answers, tools)]


def _answers(
    message: TemplateMessage, results: Sequence[TemplateMessage]
) -> list[list[TemplateMessage]]:
    """The results of each call, in the calls' order; at the end those that belong to none."""
    left = list(results)
    answers = []
    for call in message["tool_calls"]:
        own = [result for result in left if result.get("tool_call_id") == call["id"]]
        left = [result for result in left if result.get("tool_call_id") != call["id"]]
        answers.append(own)
    return [*answers, left]


def _is_taken(
    message: TemplateMessage,
    answers: Sequence[Sequence[TemplateMessage]],
    support: TemplateSupport,
    tools: ToolSupport,
) -> bool:
    calls = message["tool_calls"]
    if answers[-1] and not (tools.results_without_calls and support.repeated_roles):
        return False
    if not (tools.calls_without_results or all(answers[:-1])):
        return False
    if _is_apart(message, support, tools) and not support.repeated_roles:
        return False
    return tools.text_arguments or not any(
        isinstance(call["function"]["arguments"], str) for call in calls
    )


def _is_apart(message: TemplateMessage, support: TemplateSupport, tools: ToolSupport) -> bool:
    """Whether the content needs a message of its own; thoughts stay with the calls."""
    if not message["content"]:
        return False
    has_thoughts = message.get(support.reasoning_field or "")
    return not tools.content_beside_calls or bool(
        has_thoughts and not tools.content_beside_thoughts
    )


def _one_by_one(
    message: TemplateMessage, answers: Sequence[Sequence[TemplateMessage]], tools: ToolSupport
) -> list[TemplateMessage]:
    """A message for each call, its results behind it; what was said and thought is said once."""
    turn: list[TemplateMessage] = []
    for call, own in zip(message["tool_calls"], answers, strict=False):
        turn += [{**message, "tool_calls": [call]}, *own]
        message = {"role": "assistant", "content": _silence(tools)}
    return [*turn, *answers[-1]]


def _silence(tools: ToolSupport) -> str | None:
    return None if tools.null_content else ""


def _loose_results(
    results: Sequence[TemplateMessage], support: TemplateSupport
) -> list[TemplateMessage]:
    # Where user and assistant must alternate it would have to be known whose turn it was.
    if support.tools is not None and support.tools.results_without_calls and support.repeated_roles:
        return list(results)
    return _results_as_text(results)


def _calls_as_text(message: TemplateMessage) -> TemplateMessage:
    changed: dict[str, Any] = {k: value for k, value in message.items() if k != "tool_calls"}
    calls = [
        f"<tool_call>\n{json.dumps(call['function'], ensure_ascii=False)}\n</tool_call>"
        for call in message["tool_calls"]
    ]
    changed["content"] = "\n".join([*filter(None, [message["content"]]), *calls])
    return changed


def _results_as_text(results: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """One message of the user with all results; none where there are none."""
    if not results:
        return []
    return [{"role": "user", "content": "\n".join(map(_result_as_text, results))}]


def _result_as_text(result: TemplateMessage) -> str:
    shown = {"name": result["name"]} if "name" in result else {}
    shown["content"] = result["content"] or ""
    return f"<tool_response>\n{json.dumps(shown, ensure_ascii=False)}\n</tool_response>"
