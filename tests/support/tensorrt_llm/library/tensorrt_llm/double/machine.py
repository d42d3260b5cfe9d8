"""The machine that an LLM is built on: its switches, what tests see of it and do to it.

Machines form a stack: `using` puts one on top for a while; below all lies one whose switches come
from the environment variable TENSORRT_LLM_DOUBLE (the JSON of Switches), for processes of their
own. An LLM keeps the machine on which it was built.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tensorrt_llm.double.switches import FatalError, Switches

VARIABLE = "TENSORRT_LLM_DOUBLE"
_PATIENCE_SECONDS = 30.0


@dataclass
class Recorded:
    """One call of generate_async, as the library took it; `sampling_params` is the caller's own."""

    request_id: int
    prompt_token_ids: list[int]
    sampling_params: Any
    streaming: bool
    keywords: dict[str, Any]


@dataclass
class Span:
    """An `llm_request` span of the library's tracer."""

    parent_headers: dict[str, str] | None
    attributes: dict[str, Any]


@dataclass
class _Gate:
    """Which iterations may run: None any, else so many more."""

    permits: int | None = None


@dataclass
class Machine:
    """All that tests see: what was asked for, what still runs, and levers.

    Every field is guarded by `changed`, which is notified after each change.
    """

    switches: Switches
    changed: threading.Condition = field(default_factory=threading.Condition)
    llms: list[Any] = field(default_factory=list)
    requests: list[Recorded] = field(default_factory=list)
    aborted_ids: list[int] = field(default_factory=list)
    live_ids: set[int] = field(default_factory=set)
    """Requests that hold a place in the engine, active or waiting."""
    active_ids: set[int] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    iterations: int = 0
    generated_tokens: int = 0
    wedged: bool = False
    closed: threading.Event = field(default_factory=threading.Event)
    workers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._gate = _Gate(0 if self.switches.held else None)
        self._construction = threading.Event()
        if not self.switches.construction_held:
            self._construction.set()
        self._ids = 2

    @property
    def live_requests(self) -> int:
        """How many requests hold a place in the engine."""
        with self.changed:
            return len(self.live_ids)

    def next_id(self) -> int:
        """Request ids count from 2, as in a process of the real library."""
        with self.changed:
            self._ids += 1
            return self._ids - 1

    def steps(self, count: int) -> None:
        """Let a held engine run so many more iterations."""
        with self.changed:
            self._gate.permits = (self._gate.permits or 0) + count
            self.changed.notify_all()

    def hold(self) -> None:
        """Stop before the next iteration."""
        with self.changed:
            self._gate.permits = 0

    def release(self) -> None:
        """Run freely."""
        with self.changed:
            self._gate.permits = None
            self.changed.notify_all()

    @property
    def may_iterate(self) -> bool:
        """An iteration is allowed now; to be asked under `changed`."""
        return self._gate.permits != 0 and not self.wedged

    def take_permit(self) -> None:
        """An iteration begins; to be called under `changed`."""
        if self._gate.permits is not None:
            self._gate.permits -= 1

    def release_construction(self) -> None:
        """Let a held constructor return."""
        self._construction.set()

    def await_construction(self) -> None:
        """What the constructor does for minutes. Raises what it was told to raise."""
        self.closed.wait(self.switches.construction_seconds)
        while not (self._construction.wait(0.02) or self.closed.is_set()):
            pass
        if self.switches.construction_error is not None:
            raise RuntimeError(self.switches.construction_error)

    def fail_active(self, message: str) -> None:
        """All active requests fail with the same RequestError; the engine goes on."""
        for worker in self.workers:
            worker.fail_active(message)

    def crash(self, message: str, error: FatalError = "CppExecutorError") -> None:
        """The executor fails for good."""
        for worker in self.workers:
            worker.crash(error, message)

    def wait_until(self, predicate: Callable[[], bool]) -> None:
        """Block until something holds that only the engine's doings change.

        Raises TimeoutError after half a minute.
        """
        with self.changed:
            if not self.changed.wait_for(predicate, _PATIENCE_SECONDS):
                raise TimeoutError(f"live {self.live_ids}, {self.iterations} iterations")

    def wait_idle(self) -> None:
        """Block until no request holds a place."""
        self.wait_until(lambda: not self.live_ids)

    def close(self) -> None:
        """End what hangs and all threads."""
        self.closed.set()
        self.release()
        for worker in self.workers:
            worker.stop(timedelta(seconds=_PATIENCE_SECONDS))


_machines: list[Machine] = []


def current() -> Machine:
    """The machine on top; the environment's where there is no other."""
    if not _machines:
        _machines.append(Machine(Switches.model_validate_json(os.environ.get(VARIABLE, "{}"))))
    return _machines[-1]


@contextmanager
def using(switches: Switches) -> Iterator[Machine]:
    """A machine on top for as long as the block runs; then its threads have ended."""
    machine = Machine(switches)
    _machines.append(machine)
    try:
        yield machine
    finally:
        _machines.remove(machine)
        machine.close()
