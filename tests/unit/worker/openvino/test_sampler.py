"""The sampler: what it may draw, how often, and that a draw depends on nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.openvino.sampler import Draw, Sampler, uniform
from worker.engine.seam import SamplingParams

VOCABULARY = 1000


def _logits(rows: int = 1, seed: int = 0, size: int = VOCABULARY) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((rows, size)) * 3).astype(np.float32)


def _draw(sampling: SamplingParams, *, seed: int = 0, position: int = 0, **fields: object) -> Draw:
    return Draw(sampling=sampling, seed=seed, output_index=0, position=position, **fields)


def _one(logits: np.ndarray, sampling: SamplingParams, position: int = 0) -> int | None:
    return Sampler(logits.shape[1]).sample(logits.copy(), [_draw(sampling, position=position)])[0]


def _reference(row: np.ndarray, sampling: SamplingParams) -> np.ndarray:
    """Probabilities by sorting everything: temperature, top_k, top_p, min_p."""
    weights = np.exp((row.astype(np.float64) - row.max()) / sampling.temperature)
    order = np.argsort(-weights, kind="stable")
    kept = order[: sampling.top_k] if sampling.top_k else order
    shares = weights[kept] / weights[kept].sum()
    if sampling.top_p < 1:
        kept = kept[: int(np.searchsorted(shares.cumsum(), sampling.top_p)) + 1]
    kept = kept[weights[kept] >= sampling.min_p]
    result = np.zeros_like(weights)
    result[kept] = weights[kept] / weights[kept].sum()
    return result


SHAPES = [
    SamplingParams(),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(temperature=2.0, top_p=0.99),
    SamplingParams(top_k=5),
    SamplingParams(temperature=1.5, top_k=40, top_p=0.5),
    SamplingParams(min_p=0.1),
    SamplingParams(temperature=1.3, top_k=100, top_p=0.95, min_p=0.02),
]


@pytest.mark.parametrize("sampling", SHAPES)
def test_draws_follow_the_distribution(sampling: SamplingParams) -> None:
    """Over 20,000 positions each token is drawn as often as its probability says."""
    logits = _logits(size=300)
    expected = _reference(logits[0], sampling)
    sampler = Sampler(300)
    count = 20_000
    drawn = [
        sampler.sample(logits, [_draw(sampling, position=position)])[0] for position in range(count)
    ]
    seen = np.bincount(drawn, minlength=300)

    assert not seen[expected == 0].any()
    # Six standard deviations of each token's count: fails by chance once in a billion.
    bound = 6 * np.sqrt(count * expected * (1 - expected)) + 1
    assert (np.abs(seen - count * expected) <= bound).all()


@settings(max_examples=200)
@given(
    st.integers(0, 1000),
    st.floats(0.05, 2),
    st.floats(0.01, 1),
    st.integers(0, 1200),
    st.floats(0, 1),
)
def test_only_kept_tokens_are_drawn(
    seed: int, temperature: float, top_p: float, top_k: int, min_p: float
) -> None:
    """What is drawn is among what sorting the whole vocabulary keeps."""
    sampling = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    logits = _logits(seed=seed)
    # At the very edge of top_p and min_p single and double precision may differ by a token.
    wider = SamplingParams(temperature, min(top_p + 1e-4, 1), top_k, max(min_p - 1e-4, 0))
    allowed = np.flatnonzero(_reference(logits[0], wider))

    assert _one(logits, sampling, position=seed) in allowed


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0),
        SamplingParams(temperature=1e-30),
        SamplingParams(top_p=0),
        SamplingParams(top_p=1e-9),
        SamplingParams(top_k=1),
        SamplingParams(min_p=1),
    ],
)
def test_what_leaves_one_token_is_greedy(sampling: SamplingParams) -> None:
    """Each of these leaves the most probable token alone, at every position."""
    logits = _logits()

    assert {_one(logits, sampling, position) for position in range(20)} == {logits.argmax()}


@pytest.mark.parametrize("size", [VOCABULARY, VOCABULARY + 1, 10**6])
def test_top_k_of_the_vocabulary_or_more_keeps_all(size: int) -> None:
    """A top_k that leaves nothing out draws what no top_k draws."""
    logits = _logits()

    assert _one(logits, SamplingParams(top_k=size)) == _one(logits, SamplingParams())


def test_top_k_keeps_the_lowest_ids_of_equals() -> None:
    """Of tokens that are equally probable no more than k are kept."""
    logits = np.zeros((1, VOCABULARY), np.float32)

    drawn = {_one(logits, SamplingParams(top_k=3), position) for position in range(100)}

    assert drawn == {0, 1, 2}


def test_a_flat_distribution_draws_from_everywhere() -> None:
    """Where all tokens are equally likely the nucleus is large, and all of it is reached."""
    logits = np.zeros((1, 64), np.float32)
    sampling = SamplingParams(top_p=0.5)

    drawn = {_one(logits, sampling, position) for position in range(1000)}

    assert drawn == set(range(32))


@pytest.mark.parametrize("sampling", [*SHAPES, SamplingParams(temperature=0)])
def test_a_draw_does_not_depend_on_the_batch(sampling: SamplingParams) -> None:
    """The same row, seed and position give the same token alone and among others."""
    logits = _logits(rows=16)
    draws = [_draw(sampling, seed=row, position=7) for row in range(16)]
    sampler = Sampler(VOCABULARY)

    together = sampler.sample(logits.copy(), draws)
    alone = [sampler.sample(logits[i : i + 1].copy(), [draws[i]])[0] for i in range(16)]
    reversed_order = sampler.sample(logits[::-1].copy(), draws[::-1])[::-1]

    assert together == alone == reversed_order


def test_seed_position_and_output_index_each_change_the_draw() -> None:
    """The number behind a draw is the same for the same three, and differs when one does."""
    base = uniform(5, 0, 9)

    assert base == uniform(5, 0, 9)
    assert (
        len({base, uniform(6, 0, 9), uniform(5, 1, 9), uniform(5, 0, 10), uniform(-5, 0, 9)}) == 5
    )


def test_the_numbers_behind_draws_are_even() -> None:
    """Over 10,000 positions they lie in [0, 1) with the mean and variance of even ones."""
    numbers = np.array([uniform(1, 0, position) for position in range(10_000)])

    assert 0 <= numbers.min() < numbers.max() < 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.015)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), SamplingParams()])
def test_banned_tokens_are_not_drawn(sampling: SamplingParams) -> None:
    """With the 990 most probable tokens banned only the others are drawn."""
    logits = _logits()
    banned = frozenset(np.argsort(-logits[0])[:990].tolist())
    sampler = Sampler(VOCABULARY)
    for position in range(50):
        draw = _draw(sampling, position=position, banned_token_ids=banned)
        drawn = sampler.sample(logits.copy(), [draw])[0]

        assert drawn is not None
        assert drawn not in banned


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), SamplingParams(top_p=0.9)])
def test_a_row_that_is_not_finite_fails_alone(bad: float, sampling: SamplingParams) -> None:
    """The row with NaN or infinity gives none; its neighbours draw as without it."""
    logits = _logits(rows=3)
    draws = [_draw(sampling, seed=row) for row in range(3)]
    sampler = Sampler(VOCABULARY)
    expected = sampler.sample(logits.copy(), draws)
    logits[1, 500] = bad

    assert sampler.sample(logits, draws) == [expected[0], None, expected[2]]


def test_a_row_without_any_possible_token_fails() -> None:
    """All of it minus infinity, or all of it banned: none."""
    sampler = Sampler(4)
    nothing = np.full((1, 4), -np.inf, np.float32)
    banned = _draw(SamplingParams(), banned_token_ids=frozenset(range(4)))

    assert sampler.sample(nothing, [_draw(SamplingParams())]) == [None]
    assert sampler.sample(np.zeros((1, 4), np.float32), [banned]) == [None]


def test_an_empty_batch_draws_nothing() -> None:
    """A step that only read a part of a prompt has no row."""
    assert Sampler(VOCABULARY).sample(np.empty((0, VOCABULARY), np.float32), []) == []


def test_small_errors_of_the_logits_change_no_draw() -> None:
    """Those of a batch of another size: over the whole vocabulary only ties are drawn apart."""
    errors = np.random.default_rng(5)
    sampler = Sampler(20_000)
    logits = errors.normal(0, 2, (1, 20_000)).astype(np.float32)
    changed = 0
    for position in range(300):
        draw = [Draw(SamplingParams(temperature=0.8), 7, 0, position)]
        near = logits + errors.normal(0, 2e-5, logits.shape).astype(np.float32)
        changed += sampler.sample(logits, draw) != sampler.sample(near, draw)

    assert changed <= 1
