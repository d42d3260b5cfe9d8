"""The scheduler: order, sharing, preemption, and that every sequence gets to its end."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.openvino.fakes import BLOCK_SIZE, make_request, make_sequence
from worker.engine.openvino.block_pool import BlockPool
from worker.engine.openvino.scheduler import Chunk, Scheduler
from worker.engine.openvino.sequence import Sequence as OutputSequence
from worker.engine.openvino.step_speed import StepSpeed


class _Bench:
    """A scheduler whose steps a test plays through; drawn tokens are 1."""

    def __init__(self, num_blocks: int = 64, max_tokens: int = 16, max_running: int = 8) -> None:
        self.pool = BlockPool(num_blocks)
        self.copied: list[tuple[int, int]] = []
        self.scheduler = Scheduler(
            self.pool,
            StepSpeed(0.1, max_tokens),
            model="tiny",
            block_size=BLOCK_SIZE,
            max_running=max_running,
        )

    def add(self, arrival: int, prompt: Sequence[int], **fields: object) -> OutputSequence:
        sequence = make_sequence(make_request(arrival, prompt, **fields), arrival)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[tuple[OutputSequence, int]]:
        """One whole step, with the sequences that got to their end removed."""
        chunks = self.scheduler.schedule(0.0)
        self.scheduler.commit(chunks)
        for chunk in chunks:
            if chunk.is_last:
                self._draw(chunk)
        pool = self.pool
        assert pool.free_blocks + pool.cached_blocks + pool.referenced_blocks == pool.total_blocks
        return [(chunk.sequence, chunk.num_tokens) for chunk in chunks]

    def _draw(self, chunk: Chunk) -> None:
        forks = self.scheduler.fork(chunk.sequence)
        self.copied += [fork.copied for fork in forks if fork.copied is not None]
        for sequence in (chunk.sequence, *(fork.sequence for fork in forks)):
            self._end_or_go_on(sequence)

    def _end_or_go_on(self, sequence: OutputSequence) -> None:
        sequence.append(1)
        if sequence.num_output_tokens >= sequence.request.max_tokens:
            self.scheduler.remove(sequence)


def test_a_long_prompt_is_read_in_chunks() -> None:
    """40 tokens at 16 a step take three steps; only the last one draws."""
    bench = _Bench()
    sequence = bench.add(0, range(40))

    chunks = [bench.step() for _ in range(3)]

    assert chunks == [[(sequence, 16)], [(sequence, 16)], [(sequence, 8)]]
    assert sequence.num_output_tokens == 1


def test_decoding_goes_on_beside_a_prompt() -> None:
    """Who decodes gets a token in every step in which another's prompt is read."""
    bench = _Bench()
    decoding = bench.add(0, range(8), max_tokens=10)
    bench.step()
    reading = bench.add(1, range(100, 140))

    steps = [bench.step() for _ in range(3)]

    assert all((decoding, 1) in step for step in steps)
    assert [count for step in steps for who, count in step if who is reading] == [16, 16, 8]


def test_a_block_is_shared_only_after_the_step_that_wrote_it() -> None:
    """Two equal prompts in one step are both computed; a third one after it shares."""
    bench = _Bench()
    first, second = (bench.add(arrival, range(8)) for arrival in range(2))
    together = bench.step()
    third = bench.add(2, range(8))
    later = bench.step()

    assert together == [(first, 8), (second, 8)]
    assert (third, 4) in later
    assert [s.cached_prompt_tokens for s in (first, second, third)] == [0, 0, 4]


def test_at_least_one_prompt_token_is_computed() -> None:
    """A prompt of whole blocks that are all cached still has its last block computed."""
    bench = _Bench()
    bench.add(0, range(8), max_tokens=1)
    bench.step()
    again = bench.add(1, range(8), max_tokens=1)

    assert bench.step() == [(again, 4)]


def test_answers_are_shared_too() -> None:
    """A prompt that continues an earlier answer reuses the blocks that decoding wrote."""
    bench = _Bench()
    first = bench.add(0, range(100, 106), max_tokens=7)
    while bench.scheduler.has_work:
        bench.step()
    following = bench.add(1, [*first.token_ids, 9])
    bench.step()

    assert following.cached_prompt_tokens == 12


def test_a_salt_separates() -> None:
    """Equal prompts with different salts share nothing."""
    bench = _Bench()
    bench.add(0, range(8), max_tokens=1, cache_salt="a")
    bench.step()
    other = bench.add(1, range(8), max_tokens=1, cache_salt="b")
    bench.step()

    assert other.cached_prompt_tokens == 0


def test_the_youngest_is_put_back_when_blocks_run_out() -> None:
    """The older one decodes on to its end; the younger one returns and gets to its own."""
    bench = _Bench(num_blocks=5)
    older = bench.add(0, range(8), max_tokens=10)
    younger = bench.add(1, range(20, 26), max_tokens=6)
    order = []
    while bench.scheduler.has_work:
        bench.step()
        order += [s for s in (older, younger) if s not in order and _is_done(s)]

    assert order == [older, younger]
    assert bench.scheduler.preemptions > 0
    assert bench.pool.referenced_blocks == 0


def test_what_fits_the_pool_alone_succeeds() -> None:
    """A request as large as the pool gets it all, whatever ran before and is cached."""
    bench = _Bench(num_blocks=8)
    bench.add(0, range(8), max_tokens=5)
    bench.step()
    whole = bench.add(1, range(100, 129), max_tokens=4)
    while bench.scheduler.has_work:
        bench.step()

    assert _is_done(whole)


def test_priority_goes_first() -> None:
    """Of two that wait, the one of higher priority gets the only place."""
    bench = _Bench(max_running=1)
    bench.add(0, range(4))
    urgent = bench.add(1, range(4), priority=1)

    assert [who for who, _ in bench.step()] == [urgent]


def test_waiting_outweighs_priority_in_time() -> None:
    """A point of priority is worth 30 seconds: what came 40 seconds before goes first."""
    bench = _Bench(max_running=1)
    old = bench.add(0, range(4))
    bench.add(40, range(4), priority=1)

    assert [who for who, _ in bench.step()] == [old]


def test_a_stream_of_urgent_requests_starves_nobody() -> None:
    """One more urgent by a point arrives every second for the only place: it has its turn."""
    bench = _Bench(max_running=1)
    patient = bench.add(0, range(4), max_tokens=1)
    arrivals = 0
    while not _is_done(patient):
        arrivals += 1
        bench.add(arrivals, range(4), max_tokens=1, priority=1)
        bench.step()

    assert arrivals == 30


def test_nobody_overtakes_who_waits_for_blocks() -> None:
    """A small request behind a large one that does not fit yet waits as well."""
    bench = _Bench(num_blocks=8)
    bench.add(0, range(16), max_tokens=5)
    bench.step()
    large = bench.add(1, range(100, 120), max_tokens=1)
    small = bench.add(2, range(200, 202), max_tokens=1)
    done = []
    while bench.scheduler.has_work:
        bench.step()
        done += [s for s in (large, small) if s not in done and _is_done(s)]

    assert done == [large, small]


def test_removal_frees_in_every_state() -> None:
    """Waiting, half read or decoding: after removal no block is referenced."""
    for steps in range(4):
        bench = _Bench()
        sequence = bench.add(0, range(40), max_tokens=9)
        for _ in range(steps):
            bench.step()
        bench.scheduler.remove(sequence)

        assert bench.pool.referenced_blocks == 0
        assert not bench.scheduler.has_work
        assert bench.scheduler.taken_up == 1


def test_outputs_fork_after_the_prompt() -> None:
    """They share the full blocks and copy the partial one, each into its own."""
    bench = _Bench()
    leader = bench.add(0, range(10), max_tokens=3, n=3)
    followers = list(leader.followers)
    steps = [bench.step()]
    full = leader.block_ids[:2]
    partial = [sequence.block_ids[2] for sequence in (leader, *followers)]
    copied = list(bench.copied)
    steps += [bench.step() for _ in range(2)]

    assert steps == [[(leader, 10)], *[[(s, 1) for s in (leader, *followers)]] * 2]
    assert copied == [(partial[0], partial[1]), (partial[0], partial[2])]
    assert len(set(partial)) == 3
    assert len(full) == 2
    assert not bench.scheduler.has_work
    assert bench.pool.referenced_blocks == 0


def test_a_prompt_of_whole_blocks_copies_nothing() -> None:
    """Where no block is partly filled, everything is shared."""
    bench = _Bench()
    leader = bench.add(0, range(8), max_tokens=2, n=4)
    bench.step()

    assert bench.copied == []
    assert bench.pool.referenced_blocks == len(leader.block_ids) == 2


def test_followers_count_as_taken_up_with_their_leader() -> None:
    """The queue's length counts outputs that no step has fed, each once."""
    bench = _Bench(max_running=2)
    leader = bench.add(0, range(40), max_tokens=2, n=4)
    bench.scheduler.remove(leader.followers[1])
    before = bench.scheduler.taken_up
    bench.step()
    fed = bench.scheduler.taken_up
    while bench.scheduler.has_work:
        bench.step()

    assert (before, fed, bench.scheduler.taken_up) == (1, 4, 4)


# Steps until the next one arrives, prompt length and first id, max_tokens, priority, aborted after,
# and the number of outputs.
_ARRIVAL = st.tuples(
    st.integers(0, 5),
    st.integers(1, 30),
    st.integers(0, 1),
    st.integers(1, 12),
    st.integers(-1, 1),
    st.one_of(st.none(), st.integers(0, 9)),
    st.integers(1, 3),
)


@settings(max_examples=100)
@given(st.lists(_ARRIVAL, min_size=1, max_size=12), st.integers(11, 16), st.integers(2, 6))
def test_everybody_gets_to_the_end(
    arrivals: list[tuple[int, int, int, int, int, int | None, int]], blocks: int, places: int
) -> None:
    """Whatever arrives and is aborted when, all others end, and every block is free or cached."""
    bench = _Bench(num_blocks=blocks, max_running=places)
    aborts: list[tuple[int, OutputSequence]] = []
    outputs = 0
    for number, (gap, length, first, tokens, priority, aborted_after, n) in enumerate(arrivals):
        prompt = range(first, first + length)
        sequence = bench.add(number, prompt, max_tokens=tokens, priority=priority, n=n)
        outputs += n
        if aborted_after is not None:
            aborts.append((aborted_after, sequence))
        for _ in range(gap):
            bench.step()
            aborts = _abort_due(bench, aborts)
    # Each output computes at most 42 tokens, and the first in rank gets on in every step.
    for _ in range(outputs * 42):
        bench.step()
        aborts = _abort_due(bench, aborts)

    assert not bench.scheduler.has_work
    assert bench.pool.referenced_blocks == 0
    assert bench.scheduler.taken_up == outputs


def _abort_due(
    bench: _Bench, aborts: list[tuple[int, OutputSequence]]
) -> list[tuple[int, OutputSequence]]:
    for steps, sequence in aborts:
        if steps == 0 and not _is_done(sequence):
            bench.scheduler.remove(sequence)
    return [(steps - 1, sequence) for steps, sequence in aborts if steps]


def _is_done(sequence: OutputSequence) -> bool:
    return sequence.num_output_tokens >= sequence.request.max_tokens
