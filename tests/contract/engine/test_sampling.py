"""What is drawn, and what is said of it."""

import pytest

from tests.contract.engine.subject import Subject
from worker.engine.seam import SamplingParams

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOT = SamplingParams(temperature=1.5, seed=1)


def _needs_distribution(subject: Subject) -> None:
    if not subject.has_distribution:
        pytest.skip("its model leaves one token all the probability")


async def test_greedy_repeats(subject: Subject) -> None:
    """The same prompt has the same greedy answer."""
    answers = [await subject.generate(max_tokens=12) for _ in range(2)]

    assert answers[0].token_ids == answers[1].token_ids


async def test_a_seed_repeats(subject: Subject) -> None:
    """The same seed has the same answer, output by output."""
    requests = [subject.request(sampling=HOT, n=3, max_tokens=12) for _ in range(2)]
    first, second = [await subject.outputs(request) for request in requests]

    assert [answer.token_ids for answer in first] == [answer.token_ids for answer in second]


async def test_other_seeds_and_other_outputs_differ(subject: Subject) -> None:
    """Another seed, none, and each output of a request draw by themselves."""
    _needs_distribution(subject)
    shapes = [SamplingParams(temperature=1.5, seed=seed) for seed in (1, 2, None, None)]
    drawn = [
        tuple(answer.token_ids)
        for shape in shapes
        for answer in await subject.outputs(subject.request(sampling=shape, n=2, ignore_eos=True))
    ]

    assert len(set(drawn)) == 8


async def test_a_seeded_continuation_draws_alike(subject: Subject) -> None:
    """Draws depend on seed and position: behind a prefix they go on as without."""
    whole = await subject.generate(sampling=HOT, max_tokens=12, ignore_eos=True)
    rest = await subject.generate(
        sampling=HOT,
        max_tokens=12,
        ignore_eos=True,
        output_prefix_token_ids=tuple(whole.token_ids[:5]),
    )

    assert rest.token_ids == whole.token_ids[5:]


async def test_a_bias_decides(subject: Subject) -> None:
    """A token at +100 is all there is; the usual one at -100 does not come."""
    _needs_distribution(subject)
    usual = (await subject.generate(max_tokens=1)).token_ids[0]
    wanted = SamplingParams(temperature=0, logit_bias=((500, 100.0),))
    banned = SamplingParams(temperature=0, logit_bias=((usual, -100.0),))

    assert (await subject.generate(sampling=wanted, max_tokens=5)).token_ids == [500] * 5
    assert (await subject.generate(sampling=banned, max_tokens=1)).token_ids != [usual]


@pytest.mark.parametrize(
    ("penalty", "occurrences"),
    [("presence_penalty", 1), ("frequency_penalty", 3), ("repetition_penalty", 1)],
)
async def test_a_penalty_lowers_what_was_there(
    subject: Subject, penalty: str, occurrences: int
) -> None:
    """A token of the output that leads by a little loses its lead, and only to the penalty."""
    _needs_distribution(subject)
    prefix = tuple([600, 601][number % 2] for number in range(2 * occurrences))
    seen = await _lead_of(subject, prefix, 600, {})
    lowered = await _lead_of(subject, prefix, 600, {penalty: 2.0})
    unseen = await _lead_of(subject, prefix, 700, {penalty: 2.0})

    assert (seen, lowered, unseen) == (True, False, True)


async def _lead_of(
    subject: Subject, prefix: tuple[int, ...], token_id: int, penalties: dict[str, float]
) -> bool:
    """Whether a token that a bias puts just ahead of all others is drawn behind `prefix`.

    Its own log probability is read with a bias that makes it certain to be drawn.
    """
    fields = {"output_prefix_token_ids": prefix, "max_tokens": len(prefix) + 1, "logprobs": 1}
    certain = SamplingParams(temperature=0, logit_bias=((token_id, 100.0),))
    told = (await subject.generate(sampling=certain, **fields)).logprobs[0]
    gap = told.top[0][1] - told.logprob
    shape = SamplingParams(temperature=0, logit_bias=((token_id, gap + 1.0),), **penalties)
    answer = await subject.generate(sampling=shape, **fields)
    return answer.token_ids == [token_id]


@pytest.mark.parametrize("count", [0, 1, 5, 20])
async def test_logprobs_are_one_entry_a_token(subject: Subject, count: int) -> None:
    """As many alternatives as asked for, most probable first, and none of a positive value."""
    asked = subject.request(logprobs=count, n=2, max_tokens=6, ignore_eos=True)
    silent = subject.request(max_tokens=6, ignore_eos=True)
    *answers, other = await subject.generate_all([asked, silent])

    assert other.logprobs == []
    for answer in answers:
        assert len(answer.logprobs) == 6
        for token_id, entry in zip(answer.token_ids, answer.logprobs, strict=True):
            values = [value for _, value in entry.top]
            assert len(entry.top) == (count if subject.has_distribution else min(count, 1))
            assert values == sorted(values, reverse=True)
            assert max([entry.logprob, *values]) <= 0
            if count:
                assert entry.top[0] == (token_id, entry.logprob)
