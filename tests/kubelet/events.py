"""What happened in a cluster, in order, as `kubectl get events` would tell it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "pod_created",
    "pod_started",
    "pod_ready",
    "pod_unready",
    "pod_deleted",
    "probe_failed",
    "exited",
    "killed",
    "pod_gone",
    "endpoint_added",
    "endpoint_removed",
]
"""`pod_started`: a container's process began, `probe_failed`: liveness or startup gave it up,
`exited`: it ended, by whatever, `killed`: its grace was over and it was ended by force."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of them."""

    seconds: float
    """By time.monotonic."""
    kind: Kind
    subject: str
    """The pod's name; of endpoints the Service's."""
    detail: str = ""
    """Of endpoints ip:port; of what failed or was killed, why."""
    code: int | None = None
    """Of `exited` alone: the exit code, or minus the signal's number."""

    def __str__(self) -> str:
        words = [self.kind, self.detail, "" if self.code is None else str(self.code)]
        return " ".join(word for word in words if word)


class EventLog:
    """All events so far."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def note(self, kind: Kind, subject: str, detail: str = "", code: int | None = None) -> None:
        """Another one, now."""
        self._events.append(Event(time.monotonic(), kind, subject, detail, code))

    def __iter__(self) -> Iterator[Event]:
        """In order."""
        return iter(tuple(self._events))

    def of(self, kind: Kind, subject: str | None = None) -> Sequence[Event]:
        """Those of one kind, where said of one subject alone."""
        return [
            event
            for event in self._events
            if event.kind == kind and subject in (None, event.subject)
        ]
