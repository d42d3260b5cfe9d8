"""What a stream's chunks make of a message, by the rules that clients join them by."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class StreamedMessage:
    """One choice of a stream; `calls` are names with their arguments, `ids` theirs."""

    content: str | None = None
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    finish_reason: str | None = None

    def take(self, delta: dict[str, Any]) -> None:
        """Go on by a chunk's delta; asserts what each delta of a call must have."""
        if delta.get("content") is not None:
            self.content = (self.content or "") + delta["content"]
        self.reasoning += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            self._take_call(call)

    def _take_call(self, call: dict[str, Any]) -> None:
        index, function = call["index"], call["function"]
        if index == len(self.calls):
            assert set(call) == {"index", "id", "type", "function"}
            assert set(function) == {"name", "arguments"}
            assert call["type"] == "function"
            self.ids.append(call["id"])
            self.calls.append((function["name"], function["arguments"]))
            return
        # Only the call that was begun last goes on.
        assert index == len(self.calls) - 1
        assert set(call) == {"index", "function"}
        assert set(function) == {"arguments"}
        name, arguments = self.calls[index]
        self.calls[index] = name, arguments + function["arguments"]


def streamed_message(events: list[Any], index: int = 0) -> StreamedMessage:
    """The message of one choice; asserts that its role comes first, and once."""
    message = StreamedMessage()
    num_deltas = 0
    for event in events:
        if event == "[DONE]" or "error" in event:
            continue
        for choice in event["choices"]:
            if choice["index"] != index:
                continue
            assert ("role" in choice["delta"]) == (num_deltas == 0)
            assert message.finish_reason is None
            num_deltas += 1
            message.take(choice["delta"])
            message.finish_reason = choice["finish_reason"]
    return message
