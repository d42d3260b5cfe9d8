"""How an output ends, and what holds an end back."""

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from tests.contract.engine.subject import Subject

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_end_token_is_the_last_id_and_is_named(subject: Subject) -> None:
    """The model's own end ends the answer; it is emitted, counted and named."""
    answer = await subject.generate()

    assert answer.ended.finish_reason == FINISH_REASON_STOP
    assert answer.ended.stop_token_id == answer.token_ids[-1]
    assert answer.token_ids[-1] in subject.engine.info.end_token_ids
    assert not subject.engine.info.end_token_ids & set(answer.token_ids[:-1])
    assert answer.ended.num_output_tokens == len(answer.token_ids)


async def test_ignored_end_tokens_do_not_end(subject: Subject) -> None:
    """With ignore_eos the answer passes its end token and runs to max_tokens."""
    answer = await subject.generate(ignore_eos=True, max_tokens=30)

    assert subject.engine.info.end_token_ids & set(answer.token_ids[:-1])
    assert answer.ended.finish_reason == FINISH_REASON_LENGTH
    assert len(answer.token_ids) == 30


@pytest.mark.parametrize("ignore_eos", [False, True])
async def test_a_stop_token_id_ends(subject: Subject, *, ignore_eos: bool) -> None:
    """The answer ends with the first of the request's own stop ids, which is named."""
    free = await subject.generate()
    stop = free.token_ids[3]
    first = free.token_ids.index(stop) + 1
    answer = await subject.generate(stop_token_ids=frozenset({stop}), ignore_eos=ignore_eos)

    assert answer.token_ids == free.token_ids[:first]
    assert answer.ended.stop_token_id == stop
    assert answer.ended.finish_reason == FINISH_REASON_STOP


async def test_min_tokens_holds_every_end_back(subject: Subject) -> None:
    """No end token and no stop id comes before min_tokens; afterwards they end as ever."""
    free = await subject.generate()
    stops = frozenset(free.token_ids[:2])
    answer = await subject.generate(min_tokens=20, max_tokens=60, stop_token_ids=stops)

    held_back = subject.engine.info.end_token_ids | stops
    assert len(free.token_ids) < 20
    assert not held_back & set(answer.token_ids[:20])
    assert len(answer.token_ids) >= 20
    if answer.ended.finish_reason == FINISH_REASON_STOP:
        assert answer.ended.stop_token_id in held_back


async def test_a_single_token(subject: Subject) -> None:
    """The shortest answer is one token, with all its events."""
    answer = await subject.generate(max_tokens=1)

    assert len(answer.token_ids) == 1
    assert answer.ended.finish_reason == FINISH_REASON_LENGTH
    assert answer.ended.decode_ms == 0


async def test_an_end_at_the_last_token_is_a_stop(subject: Subject) -> None:
    """Where the end token is also the last one that fits, the answer ended by itself."""
    free = await subject.generate()
    answer = await subject.generate(max_tokens=len(free.token_ids))

    assert answer.token_ids == free.token_ids
    assert answer.ended.finish_reason == FINISH_REASON_STOP


@pytest.mark.parametrize("cut", [1, 5, 11])
async def test_a_continuation_gives_the_rest(subject: Subject, cut: int) -> None:
    """Behind a prefix come the ids of an uninterrupted answer; the prefix counts as output."""
    whole = await subject.generate(max_tokens=12, ignore_eos=True)
    rest = await subject.generate(
        max_tokens=12, ignore_eos=True, output_prefix_token_ids=tuple(whole.token_ids[:cut])
    )

    assert rest.token_ids == whole.token_ids[cut:]
    assert rest.started.prompt_tokens == len(subject.short_prompt)
    assert rest.ended.num_output_tokens == 12 - cut


async def test_a_prefix_counts_towards_min_tokens(subject: Subject) -> None:
    """With as many tokens in the prefix as min_tokens asks for, nothing is held back."""
    free = await subject.generate()
    cut = len(free.token_ids) - 1
    rest = await subject.generate(
        min_tokens=cut, output_prefix_token_ids=tuple(free.token_ids[:cut])
    )

    assert rest.token_ids == free.token_ids[cut:]
    assert rest.ended.finish_reason == FINISH_REASON_STOP
