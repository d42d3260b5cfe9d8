"""One iteration of the engine: cancellations, admission, prefill, a step of every sequence.

Its answers are messages for the parent process. A request that leaves without one is `silenced`.
"""

import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from tensorrt_llm.double.faulting import Faults
from tensorrt_llm.double.guides import GuideError, Guides
from tensorrt_llm.double.machine import Machine
from tensorrt_llm.double.messages import MessageMaker, interleaved
from tensorrt_llm.double.model import Context
from tensorrt_llm.double.scheduler import Scheduler
from tensorrt_llm.double.sequences import (
    Failure,
    Message,
    RawFinish,
    RunningRequest,
    RunningSequence,
    WorkerRequest,
)
from tensorrt_llm.double.stats import stats_of
from tensorrt_llm.double.stepping import Stepper

_WEDGE_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_seq_len` bounds prompt and output; `draft_tokens` is 0 without speculation."""

    max_seq_len: int
    draft_tokens: int
    stream_interval: int
    max_stats: int


class Iteration:
    """All state of the engine; used by the worker's thread only, but for `has_work`."""

    def __init__(
        self,
        machine: Machine,
        scheduler: Scheduler,
        stepper: Stepper,
        limits: Limits,
        guides: Guides | GuideError | None,
    ) -> None:
        self._machine = machine
        self._switches = machine.switches
        self._scheduler = scheduler
        self._stepper = stepper
        self._limits = limits
        self._guides = guides
        self._chance = random.Random(machine.switches.seed)
        self._messages = MessageMaker(machine.switches, limits.stream_interval)
        self._faults = Faults(machine.switches.faults)
        self._number = 0
        self._recent_cancels: deque[float] = deque()
        self.silenced: set[int] = set()
        self.stats: deque[dict[str, Any]] = deque(maxlen=limits.max_stats)

    @property
    def has_work(self) -> bool:
        """Some request waits or runs."""
        return bool(self._scheduler.active or self._scheduler.waiting)

    @property
    def active_ids(self) -> set[int]:
        """Requests that hold blocks."""
        return {request.request.request_id for request in self._scheduler.active}

    def oldest(self) -> int | None:
        """The active request that came first."""
        ids = self.active_ids
        return min(ids) if ids else None

    def enqueue(self, asked: WorkerRequest) -> list[Message]:
        """Into the queue, unless the worker refuses it."""
        room = self._limits.max_seq_len - len(asked.prompt)
        if room <= 0:
            return [Failure(asked.request_id, self._too_long(asked))]
        if asked.max_tokens is not None and asked.max_tokens < 1:
            return [Failure(asked.request_id, f"max_tokens must be positive: {asked.max_tokens}")]
        if asked.max_tokens is not None and asked.max_tokens > room:
            self._machine.warnings.append(f"max_tokens {asked.max_tokens} clamped to {room}")
        max_tokens = room if asked.max_tokens is None else min(asked.max_tokens, room)
        request = RunningRequest(
            request=asked,
            max_tokens=max_tokens,
            sequences=[self._sequence(asked, index) for index in range(asked.num_sequences)],
            prompt_counts=Counter(asked.prompt),
        )
        self._scheduler.waiting.append(request)
        return []

    def _too_long(self, asked: WorkerRequest) -> str:
        limit = self._limits.max_seq_len
        return f"prompt length {len(asked.prompt)} is greater than max_seq_len {limit} - 1"

    def _sequence(self, asked: WorkerRequest, index: int) -> RunningSequence:
        seed = asked.drawing.seed
        source = f"{self._switches.seed}:{asked.request_id}:{index}"
        if seed is not None:
            source = f"seed {seed}:{index}"
        context = Context(self._switches.seed, asked.prompt, adapter=asked.adapter)
        return RunningSequence(index, context, random.Random(source))

    def take_stats(self) -> list[dict[str, Any]]:
        """What was not read yet; from any thread."""
        taken = []
        while self.stats:
            taken.append(self.stats.popleft())
        return taken

    def cancel(self, request_id: int) -> list[Message]:
        """Waiting: gone without a word. Active: cancelled some iterations later."""
        self._count_cancel()
        for request in self._scheduler.waiting:
            if request.request.request_id == request_id:
                return self._cancel_waiting(request)
        for request in self._scheduler.active:
            if request.request.request_id == request_id:
                if request.cancel_in is None:
                    delay = self._switches.abort_delay_iterations
                    request.cancel_in = delay + self._switches.abort_ignored_iterations
                return []
        self._machine.warnings.append(f"request {request_id} to be cancelled is not there")
        return []

    def _cancel_waiting(self, request: RunningRequest) -> list[Message]:
        self._scheduler.drop(request)
        if self._switches.queued_abort_is_silent and not request.num_responses:
            self.silenced.add(request.request.request_id)
            return []
        return self._ended(request, "cancelled")

    def _count_cancel(self) -> None:
        most = self._switches.aborts_until_wedged
        now = self._messages.now()
        self._recent_cancels.append(now)
        while self._recent_cancels[0] < now - _WEDGE_WINDOW_SECONDS:
            self._recent_cancels.popleft()
        if most and len(self._recent_cancels) >= most:
            self._machine.wedged = True

    def fail_all(self, message: str) -> list[Message]:
        """Every active request fails alike."""
        failed = list(self._scheduler.active)
        return [self._failed(request, message) for request in failed]

    def run(self) -> list[Message]:
        """One iteration."""
        self._number += 1
        messages = self._cancel_due()
        for request in self._scheduler.admit():
            messages += self._begin(request)
        self._scheduler.prefill()
        for request in list(self._scheduler.active):
            if request.has_prefilled and request.is_active:
                messages += self._step(request)
        if self._switches.interleaving == "random":
            messages = interleaved(messages, self._chance)
        messages, fatal = self._faults.apply(messages, self)
        self.stats.append(stats_of(self._number, self._scheduler))
        return messages if fatal is None else [*messages, fatal]

    def _cancel_due(self) -> list[Message]:
        messages: list[Message] = []
        for request in list(self._scheduler.active):
            if request.cancel_in is None:
                continue
            if request.cancel_in > 0:
                request.cancel_in -= 1
                continue
            self._scheduler.drop(request)
            messages += self._ended(request, "cancelled")
        return messages

    def _begin(self, request: RunningRequest) -> list[Message]:
        now = self._messages.now()
        request.timing.first_scheduled = request.timing.first_scheduled or now
        request.first_iteration = request.first_iteration or self._number
        if request.request.guide is None:
            return []
        if self._guides is None:
            if self._switches.drops_guides_without_backend:
                return []
            return [self._failed(request, "Guided decoding error: no backend is configured")]
        if request.iterations:
            return []
        try:
            self._attach_guide(request)
        except GuideError as error:
            return [self._failed(request, f"Guided decoding error: {error}")]
        return []

    def _attach_guide(self, request: RunningRequest) -> None:
        if self._switches.guide_error is not None:
            raise GuideError(self._switches.guide_error)
        if isinstance(self._guides, GuideError):
            raise self._guides
        if self._guides is not None:
            matcher = self._guides.begin(request.request.guide)
            for sequence in request.sequences:
                sequence.matcher = matcher.copy()

    def _step(self, request: RunningRequest) -> list[Message]:
        try:
            room = self._extend(request)
            if room is not None:
                return room
            guides = self._guides if isinstance(self._guides, Guides) else None
            for sequence in request.running:
                for _ in range(self._tokens_now(request)):
                    self._stepper.step(request, sequence, guides)
                    self._machine.generated_tokens += 1
                    if sequence.finish is not None:
                        break
        except GuideError as error:
            return [self._failed(request, f"Guided decoding error: {error}")]
        return self._told(request)

    def _extend(self, request: RunningRequest) -> list[Message] | None:
        """None when every sequence has its blocks; else what to say instead of a step."""
        most = max(self._switches.tokens_per_step[1], 1 + self._limits.draft_tokens)
        for sequence in request.running:
            more = min(most, request.max_tokens - len(sequence.token_ids))
            while not self._scheduler.extend(request, sequence, more):
                if len(self._scheduler.active) == 1:
                    return [self._failed(request, "the KV cache cannot hold this request")]
                if not self._scheduler.preempt_for(request):
                    return []
        if not request.iterations:
            self._scheduler.store_prompt(request)
        return None

    def _tokens_now(self, request: RunningRequest) -> int:
        if self._limits.draft_tokens:
            accepted = self._chance.randint(0, self._limits.draft_tokens)
            request.drafted += self._limits.draft_tokens
            request.accepted += accepted
            return 1 + accepted
        return self._chance.randint(*self._switches.tokens_per_step)

    def _told(self, request: RunningRequest) -> list[Message]:
        request.iterations += 1
        now = self._messages.now()
        request.timing.first_token = request.timing.first_token or now
        request.timing.last_token = now
        if request.iterations == 1 and request.request.prompt_logprobs:
            prompt = self._stepper.prompt_logprobs(request.request)
        else:
            prompt = ()
        for sequence in request.sequences:
            if sequence.finish is not None and sequence.blocks:
                self._scheduler.end_sequence(request, sequence)
        messages = self._messages.due(request, self._number, prompt)
        if not request.running:
            self._scheduler.drop(request)
        return messages

    def _ended(self, request: RunningRequest, finish: RawFinish) -> list[Message]:
        """All that still runs of a request ends for this reason."""
        for sequence in request.running:
            sequence.finish = finish
        request.timing.last_token = self._messages.now()
        return self._messages.due(request, self._number, ())

    def lose(self, request_id: int, message: str) -> Failure:
        """A fault takes a request."""
        for request in (*self._scheduler.active, *self._scheduler.waiting):
            if request.request.request_id == request_id:
                return self._failed(request, message)
        return Failure(request_id, message)

    def _failed(self, request: RunningRequest, message: str) -> Failure:
        self._scheduler.drop(request)
        return Failure(request.request.request_id, message)
