"""Which requests run in an iteration: admission by capacity policy, prefill, decoding, preemption.

Invariants: an active request holds blocks for all that it has computed; a waiting one holds none.
Used by the worker's thread only.
"""

import time
from collections import deque
from dataclasses import dataclass

from tensorrt_llm.double.blocks import Block, BlockPool
from tensorrt_llm.double.sequences import RunningRequest, RunningSequence


@dataclass(frozen=True, slots=True)
class Policy:
    """Of SchedulerConfig and TorchLlmArgs. `token_budget` is per iteration."""

    capacity: str
    chunks_equally: bool
    max_sequences: int
    token_budget: int
    counts_partial_reuse: bool


class Scheduler:
    """The queue, the active requests and their blocks."""

    def __init__(self, policy: Policy, pool: BlockPool) -> None:
        self.policy = policy
        self.pool = pool
        self.waiting: deque[RunningRequest] = deque()
        self.active: list[RunningRequest] = []
        self.num_paused = 0

    def admit(self) -> list[RunningRequest]:
        """Take up waiting requests in order, as long as the policy allows."""
        taken: list[RunningRequest] = []
        static = self.policy.capacity == "STATIC_BATCH"
        if static and self.active:
            return taken
        while self.waiting and self._fits(self.waiting[0]):
            request = self.waiting.popleft()
            self._reuse(request)
            request.is_active = True
            self.active.append(request)
            taken.append(request)
        return taken

    def _fits(self, request: RunningRequest) -> bool:
        running = sum(len(r.running) for r in self.active)
        # More outputs than places run alone: they would wait for ever otherwise.
        if running and running + len(request.running) > self.policy.max_sequences:
            return False
        if self.policy.capacity == "MAX_UTILIZATION":
            return not self.active or self.pool.free >= self._blocks(self._reached(request))
        worst = sum(self._worst(r) for r in (*self.active, request))
        return not self.active or worst <= self.pool.limits.total

    def _reached(self, request: RunningRequest) -> int:
        longest = max(len(s.token_ids) for s in request.sequences)
        return len(request.request.prompt) + longest + 1

    def _worst(self, request: RunningRequest) -> int:
        prompt = len(request.request.prompt)
        return self._blocks(prompt + request.max_tokens) * len(request.sequences)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.pool.limits.tokens_per_block)

    def _reuse(self, request: RunningRequest) -> None:
        """Blocks that are there; each output of a request is read by itself but for these."""
        matched = self.pool.match(request.request.namespace, request.request.prompt)
        for sequence in request.running:
            self.pool.acquire(matched.blocks)
            sequence.blocks = list(matched.blocks)
        request.reused += len(matched.blocks)
        reused = len(matched.blocks) * self.pool.limits.tokens_per_block
        if self.policy.counts_partial_reuse:
            reused += matched.partial_tokens
        if request.cached_tokens is None:
            request.cached_tokens = reused
        request.computed_prompt = reused

    def prefill(self) -> None:
        """Read prompts within the iteration's budget of tokens."""
        budget = self.policy.token_budget
        reading = [r for r in self.active if not r.has_prefilled]
        share = budget
        if self.policy.chunks_equally and reading:
            size = self.pool.limits.tokens_per_block
            share = max(budget // len(reading) // size * size, size)
        for request in reading:
            part = min(budget, share, len(request.request.prompt) - request.computed_prompt)
            request.computed_prompt += part
            budget -= part

    def extend(self, request: RunningRequest, sequence: RunningSequence, more: int) -> bool:
        """Blocks for so many ids more than there are; false where none can be had."""
        needed = self._blocks(len(request.request.prompt) + len(sequence.token_ids) + more)
        while len(sequence.blocks) < needed:
            block = self.pool.allocate()
            if block is None:
                return False
            self._prioritise(request, len(sequence.blocks), block)
            sequence.blocks.append(block)
            request.allocated += 1
        return True

    def _prioritise(self, request: RunningRequest, index: int, block: Block) -> None:
        asked = request.request
        begin = index * self.pool.limits.tokens_per_block
        chosen: tuple[int, float | None] | None = None
        if begin >= len(asked.prompt):
            chosen = asked.decode_priority
        for start, end, priority, seconds in asked.priorities:
            if start <= begin < (len(asked.prompt) if end is None else end):
                chosen = (priority, seconds)
        if chosen is not None:
            block.priority = chosen[0]
            block.expires_at = None if chosen[1] is None else time.monotonic() + chosen[1]

    def store_prompt(self, request: RunningRequest) -> None:
        """Full blocks of a prompt that has been read can be reused from now on."""
        size = self.pool.limits.tokens_per_block
        full = len(request.request.prompt) // size
        for sequence in request.running:
            blocks = sequence.blocks[:full]
            self.pool.store(request.request.namespace, blocks, request.request.prompt)

    def end_sequence(self, request: RunningRequest, sequence: RunningSequence) -> None:
        """Store what a sequence has computed, and let go of its blocks."""
        if request.has_prefilled:
            # The last id was drawn but never read: its keys and values are not there.
            computed = request.tokens_of(sequence)[:-1]
            self.pool.store(request.request.namespace, sequence.blocks, computed)
        self.pool.release(sequence.blocks)
        sequence.blocks = []

    def drop(self, request: RunningRequest) -> None:
        """A request leaves, wherever it was."""
        if request in self.active:
            for sequence in request.sequences:
                self.end_sequence(request, sequence)
            self.active.remove(request)
        elif request in self.waiting:
            self.waiting.remove(request)
        request.is_active = False

    def preempt_for(self, request: RunningRequest) -> bool:
        """Pause the active request that came last, to make room; false when it is this one."""
        victim = self.active[-1]
        for sequence in victim.running:
            self.end_sequence(victim, sequence)
        self.active.remove(victim)
        victim.is_active = False
        victim.computed_prompt = 0
        self.waiting.appendleft(victim)
        self.num_paused += 1
        return victim is not request
