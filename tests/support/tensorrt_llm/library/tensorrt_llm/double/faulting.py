"""Faults of the switches: at a request's k-th response something else comes, or nothing more."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from tensorrt_llm.double.sequences import Failure, Fatal, Message, Response
from tensorrt_llm.double.switches import Fault

FIRST_ID = 2
"""Ids count up from here, one for each submission."""


class _Losing(Protocol):
    def lose(self, request_id: int, message: str) -> Failure:
        """End a request with an error."""

    def fail_all(self, message: str) -> list[Message]:
        """End all active requests with the same error."""


class Faults:
    """Watches responses go by. `submit` faults are raised in the parent, not here."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = [fault for fault in faults if fault.kind != "submit"]
        self._seen: Counter[int] = Counter()

    def apply(self, messages: list[Message], engine: _Losing) -> tuple[list[Message], Fatal | None]:
        """Replace what a fault takes; a fatal one ends all."""
        if not self._faults:
            return messages, None
        kept: list[Message] = []
        for message in messages:
            if any(isinstance(m, Failure) and message_id(m) == message_id(message) for m in kept):
                continue
            fault = self._due(message)
            if fault is None:
                kept.append(message)
            elif fault.kind == "request":
                kept.append(engine.lose(message_id(message), fault.message))
            elif fault.kind == "all_active":
                return self._all_failed(messages, message, engine, fault), None
            else:
                return kept, Fatal(fault.error, fault.message, message_id(message))
        return kept, None

    def _all_failed(
        self, messages: list[Message], taken: Message, engine: _Losing, fault: Fault
    ) -> list[Message]:
        """All that is active fails; what ended in this very iteration keeps its answer."""
        failed = {message_id(other): other for other in engine.fail_all(fault.message)}
        own = message_id(taken)
        failed.setdefault(own, Failure(own, fault.message))
        return [*(m for m in messages if message_id(m) not in failed), *failed.values()]

    def _due(self, message: Message) -> Fault | None:
        if not isinstance(message, Response):
            return None
        request_id = message.request_id
        self._seen[request_id] += 1
        ordinal = request_id - FIRST_ID
        for fault in self._faults:
            if fault.request in (None, ordinal) and fault.step == self._seen[request_id]:
                return fault
        return None


def message_id(message: Message) -> int:
    """Whose message it is; -1 for nobody's."""
    return -1 if message.request_id is None else message.request_id
