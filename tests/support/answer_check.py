"""Whether an answer says what an undisturbed run has said, to the last token."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.chat_client import Answer

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass
class ToldChoice:
    """All that one choice says, put together from its parts."""

    content: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    """By index: name and arguments. Their ids are new in every answer."""
    logprobs: list[str] = field(default_factory=list)
    """The tokens that have one."""
    finish_reasons: list[str] = field(default_factory=list)

    def add(self, choice: dict[str, Any]) -> None:
        """Take up a chunk's choice, or a whole answer's."""
        part = choice["delta"] if "delta" in choice else choice["message"]
        self.content += part.get("content") or ""
        for position, call in enumerate(part.get("tool_calls") or ()):
            function = call["function"]
            own = self.calls.setdefault(call.get("index", position), ["", ""])
            own[0] += function.get("name") or ""
            own[1] += function.get("arguments") or ""
        entries = (choice.get("logprobs") or {}).get("content") or ()
        self.logprobs += [entry["token"] for entry in entries]
        if choice["finish_reason"]:
            self.finish_reasons.append(choice["finish_reason"])


def told(answer: Answer) -> tuple[dict[int, ToldChoice], dict[str, int]]:
    """The choices by index and the counts of tokens of a complete answer, streamed or not."""
    choices: dict[int, ToldChoice] = {}
    for event in answer.events if answer.is_stream else [answer.json]:
        for choice in event["choices"]:
            choices.setdefault(choice["index"], ToldChoice()).add(choice)
    return choices, {name: answer.usage[name] for name in _COUNTS}


def ids(answer: Answer) -> set[str]:
    """The completion's ids; there should be one."""
    return {event["id"] for event in (answer.events if answer.is_stream else [answer.json])}


def difference(answer: Answer, undisturbed: Answer) -> str:
    """What is wrong with an answer; empty when nothing is."""
    if not answer.is_complete:
        how = "broke off" if answer.is_cut else "failed"
        return f"it {how} (status {answer.status}): {answer.body[-300:]!r}"
    if answer.is_stream and len(ids(answer)) != 1:
        return f"it has the ids {sorted(ids(answer))}"
    got, wanted = told(answer), told(undisturbed)
    return "" if got == wanted else f"it says {got} instead of {wanted}"


def require_own_ids(answers: Sequence[Answer]) -> None:
    """No two answers share an id."""
    found = [each for answer in answers for each in ids(answer)]
    assert len(found) == len(set(found)) == len(answers)
