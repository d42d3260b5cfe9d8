"""How a request ended, as its spans, figures and log line tell it."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest, StartedEvent


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """The end of a request that was taken. `model` is the served name that it chose.

    `started` is its first output's; None where none had a token. `failure` is the first of its
    outputs' failures. `longest_output` counts the tokens of the output that ended with most.
    """

    request: EngineRequest
    model: str
    started: StartedEvent | None
    outcomes: Sequence[str]
    output_tokens: int
    longest_output: int
    failure: ServiceError | None
    abort_cause: str | None

    @property
    def outcome(self) -> str:
        """The request's as a whole: its first failure's label, or how its first output ended."""
        return self.outcomes[0] if self.failure is None else self.failure.label
