"""What runs in the worker: requests, their sequences, and what a sequence says when it stepped.

`Response` and its finish reasons are what crosses from the worker to the parent process.
"""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from tensorrt_llm.double.blocks import Block
from tensorrt_llm.double.guides import Matcher
from tensorrt_llm.double.model import Context
from tensorrt_llm.double.sampler import Drawing

RawFinish: TypeAlias = Literal[
    "end_id", "stop_words", "length", "timeout", "cancelled", "not_finished", "unset"
]
FINISH_NAMES: Mapping[RawFinish, str | None] = {
    "end_id": "stop",
    "stop_words": "stop",
    "length": "length",
    "timeout": "timeout",
    "cancelled": "cancelled",
    "not_finished": "not_finished",
    "unset": None,
}
"""Finish reasons of a CompletionOutput."""
TokenLogprobs: TypeAlias = "dict[int, tuple[float, int]]"


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """A request as the worker takes it: no end (-1), all stops as sequences of ids."""

    request_id: int
    prompt: tuple[int, ...]
    num_sequences: int
    max_tokens: int | None
    min_tokens: int
    end_id: int
    stop_sequences: tuple[tuple[int, ...], ...]
    bad_sequences: tuple[tuple[int, ...], ...]
    drawing: Drawing
    streaming: bool
    namespace: str
    adapter: str = ""
    """Path of the LoRA adapter that computes it."""
    logprobs: int | None = None
    """0: the sampled id only."""
    prompt_logprobs: int = 0
    guide: Any = None
    wants_metrics: bool = False
    priorities: tuple[tuple[int, int | None, int, float | None], ...] = ()
    """Ranges of the prompt: start, end or None, priority, seconds or None."""
    decode_priority: tuple[int, float | None] | None = None


@dataclass(slots=True)
class Timing:
    """Seconds on the monotonic clock; 0.0 for what has not happened."""

    arrival: float = 0.0
    first_scheduled: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """What return_perf_metrics is made of."""

    timing: Timing
    allocated_blocks: int
    reused_blocks: int
    first_iteration: int
    last_iteration: int
    draft_tokens: int
    accepted_draft_tokens: int


@dataclass(frozen=True, slots=True)
class Response:
    """One sequence's step; `token_ids` are those added by it. `is_last`: the request has ended."""

    request_id: int
    sequence_index: int
    token_ids: tuple[int, ...]
    finish: RawFinish | None
    is_last: bool
    cached_tokens: int
    decoding_iterations: int
    tokens_per_iteration: float
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    cumulative_logprob: float = 0.0
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One request's error; the worker goes on."""

    request_id: int
    message: str


@dataclass(frozen=True, slots=True)
class Fatal:
    """The worker is lost; `request_id` names the request whose waiter is told, if any is."""

    error: str
    message: str
    request_id: int | None


Message: TypeAlias = Response | Failure | Fatal


@dataclass(slots=True, eq=False)
class RunningSequence:
    """One output. `blocks` cover the prompt and its tokens; unsent ids are the tail."""

    index: int
    context: Context
    chance: random.Random
    matcher: Matcher | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    cumulative_logprob: float = 0.0
    sent: int = 0
    blocks: list[Block] = field(default_factory=list)
    finish: RawFinish | None = None
    is_told: bool = False
    """Its finish has been sent."""

    def ends_with(self, sequences: Sequence[Sequence[int]]) -> bool:
        """Whether the tail is one of these."""
        return any(
            len(ids) <= len(self.token_ids) and self.token_ids[-len(ids) :] == list(ids)
            for ids in sequences
        )


@dataclass(slots=True, eq=False)
class RunningRequest:
    """A request in the worker, waiting or active."""

    request: WorkerRequest
    max_tokens: int
    sequences: list[RunningSequence]
    prompt_counts: Counter[int]
    timing: Timing = field(default_factory=lambda: Timing(arrival=time.monotonic()))
    is_active: bool = False
    computed_prompt: int = 0
    cached_tokens: int | None = None
    iterations: int = 0
    first_iteration: int = 0
    num_responses: int = 0
    cancel_in: int | None = None
    """Iterations until a cancellation takes effect."""
    allocated: int = 0
    reused: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def has_prefilled(self) -> bool:
        """The whole prompt has been computed."""
        return self.computed_prompt >= len(self.request.prompt)

    @property
    def running(self) -> list[RunningSequence]:
        """Sequences that have not ended."""
        return [sequence for sequence in self.sequences if sequence.finish is None]

    def tokens_of(self, sequence: RunningSequence) -> Sequence[int]:
        """The prompt and what followed."""
        return (*self.request.prompt, *sequence.token_ids)

    def all_blocks(self) -> list[Block]:
        """Held blocks, once for each sequence that holds one."""
        return [block for sequence in self.sequences for block in sequence.blocks]
