"""What the next step computes: who decodes, which prompts are read on, who gets in, who must go.

Order is by rank, which age lowers against priority: nothing starves. Whoever is admitted holds
blocks for all its tokens; a decoding sequence takes one block more at a time, and when none is left
the sequence of highest rank is put back to the queue, its blocks released (they stay cached until
they are taken) and its tokens kept. The first in rank is therefore never stopped by another.

Several outputs of a request read their prompt once: all but the first wait with it, and fork from
it when it has been read. They share its full blocks and copy the one that is partly filled.
"""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from worker.engine.openvino.block_pool import BlockPool
from worker.engine.openvino.sequence import Sequence
from worker.engine.openvino.step_speed import StepSpeed

_RANK = attrgetter("rank")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `num_tokens` tokens of a sequence; `is_last` when none is left behind them."""

    sequence: Sequence
    num_tokens: int
    is_last: bool


@dataclass(frozen=True, slots=True)
class Fork:
    """An output that goes on from another's prompt; `copied` are blocks (from, to), if any."""

    sequence: Sequence
    copied: tuple[int, int] | None


class Scheduler:
    """Waiting and running sequences over one block pool. Not thread-safe: one thread owns it."""

    def __init__(
        self, pool: BlockPool, speed: StepSpeed, *, model: str, block_size: int, max_running: int
    ) -> None:
        self._pool = pool
        self._speed = speed
        self._model = model
        self._block_size = block_size
        self._max_running = max_running
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self.preemptions = 0
        self.taken_up = 0

    @property
    def has_work(self) -> bool:
        """Any sequence waits or runs."""
        return bool(self._waiting or self._running)

    @property
    def num_running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. The pool as a whole must be able to hold it to its end."""
        insort(self._waiting, sequence, key=_RANK)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, in whatever state; its blocks are free or cached at once.

        The first of its followers takes its place in the queue.
        """
        if sequence.is_admitted:
            self._running.remove(sequence)
            self._vacate(sequence)
        elif sequence.leader is not None:
            sequence.leader.followers.remove(sequence)
        else:
            self._waiting.remove(sequence)
        self.taken_up += sequence.first_fed_seconds is None
        if sequence.followers:
            heir, *others = sequence.followers
            heir.lead(others)
            self.add(heir)

    def schedule(self, now_seconds: float) -> list[Chunk]:
        """The next step; empty only when there is no work."""
        preemptions_before = self.preemptions
        chunks = self._decoding_chunks()
        budget = self._speed.prefill_tokens(len(chunks))
        for sequence in self._running:
            if budget and not sequence.is_decoding:
                chunks.append(_chunk(sequence, budget))
                budget -= chunks[-1].num_tokens
        # Whoever has just been put back does not return in the same step: it would go round.
        while budget and self.preemptions == preemptions_before:
            newcomer = self._admit(now_seconds)
            if newcomer is None:
                break
            chunks.append(_chunk(newcomer, budget))
            budget -= chunks[-1].num_tokens
        return chunks

    def commit(self, chunks: Iterable[Chunk]) -> None:
        """The step is done: its tokens are computed, and the blocks it filled may be shared."""
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.num_computed_tokens += chunk.num_tokens
            sequence.is_decoding = chunk.is_last
            for block_id, digest in sequence.unpublished(self._model, self._block_size):
                self._pool.publish(block_id, digest)

    def fork(self, sequence: Sequence) -> list[Fork]:
        """Let its followers go on from its prompt, which the last step has read to the end.

        The caller copies the blocks named before the next step, and draws these outputs' first
        tokens from the same logits. Those without a place or a block queue by themselves: what is
        cached of the prompt they need not read again.
        """
        followers, sequence.followers = sequence.followers, []
        forks = []
        for follower in followers:
            follower.leader = None
            fork = self._fork(sequence, follower)
            if fork is None:
                self.add(follower)
            else:
                forks.append(fork)
        return forks

    def _fork(self, sequence: Sequence, follower: Sequence) -> Fork | None:
        num_full, num_copied = divmod(sequence.num_computed_tokens, self._block_size)
        own = 1 if num_copied else 0
        if len(self._running) >= self._max_running or own > self._pool.available_blocks:
            return None
        shared = sequence.block_ids[:num_full]
        self._pool.share(shared)
        follower.block_ids = shared + self._pool.allocate(own)
        follower.digests = sequence.digests[:num_full]
        follower.num_computed_tokens = sequence.num_computed_tokens
        follower.num_published_blocks = num_full
        follower.is_admitted = follower.is_decoding = True
        follower.cached_prompt_tokens = len(follower.request.prompt_token_ids) - 1
        insort(self._running, follower, key=_RANK)
        copied = (sequence.block_ids[num_full], follower.block_ids[num_full]) if own else None
        return Fork(follower, copied)

    def _decoding_chunks(self) -> list[Chunk]:
        # Making room ends the decoding of those behind: each is asked when its turn comes.
        return [
            _chunk(sequence, 1)
            for sequence in list(self._running)
            if sequence.is_decoding and self._make_room(sequence)
        ]

    def _make_room(self, sequence: Sequence) -> bool:
        """A place for the next token, if need be from those behind; false: it had to go itself.

        Sequences are visited in order of rank, so those behind have no chunk in this step yet.
        """
        missing = sequence.num_missing_blocks(sequence.num_tokens, self._block_size)
        while missing > self._pool.available_blocks:
            last = self._running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        sequence.block_ids += self._pool.allocate(missing)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._vacate(sequence)
        self.preemptions += 1
        insort(self._waiting, sequence, key=_RANK)

    def _vacate(self, sequence: Sequence) -> None:
        self._pool.release(sequence.block_ids)
        sequence.block_ids = []
        sequence.num_computed_tokens = 0
        sequence.num_published_blocks = 0
        sequence.is_admitted = False
        sequence.is_decoding = False

    def _admit(self, now_seconds: float) -> Sequence | None:
        """Let the first in the queue in, with what is cached of it; None when it cannot yet.

        Nobody overtakes it: it gets its blocks when enough of those before it have ended.
        """
        if not self._waiting or len(self._running) >= self._max_running:
            return None
        sequence = self._waiting[0]
        # At least one token is always computed: its logits are what the next token is drawn from.
        num_shareable = (sequence.num_tokens - 1) // self._block_size
        shared = self._pool.find(
            sequence.known_digests(self._model, self._block_size, num_shareable)
        )
        missing = sequence.num_missing_blocks(sequence.num_tokens, self._block_size) - len(shared)
        # One block for each that runs stays back, else the newcomer would be put back at once.
        reserve = len(self._running)
        if missing + self._pool.count_unused(shared) + reserve > self._pool.available_blocks:
            return None
        del self._waiting[0]
        self._pool.share(shared)
        sequence.block_ids = shared + self._pool.allocate(missing)
        self._take_up(sequence, len(shared), now_seconds)
        return sequence

    def _take_up(self, sequence: Sequence, num_shared: int, now_seconds: float) -> None:
        sequence.is_admitted = True
        sequence.num_published_blocks = num_shared
        sequence.num_computed_tokens = num_shared * self._block_size
        if sequence.cached_prompt_tokens is None:
            # Where the cache also holds output generated elsewhere, the contract's bound counts.
            most = len(sequence.request.prompt_token_ids) - 1
            sequence.cached_prompt_tokens = min(sequence.num_computed_tokens, most)
        for output in (sequence, *sequence.followers):
            if output.first_fed_seconds is None:
                output.first_fed_seconds = now_seconds
                output.request.progress.fed(now_seconds)
                self.taken_up += 1
        insort(self._running, sequence, key=_RANK)


def _chunk(sequence: Sequence, budget: int) -> Chunk:
    pending = sequence.num_pending_tokens
    num_tokens = min(pending, budget)
    return Chunk(sequence, num_tokens, is_last=num_tokens == pending)
