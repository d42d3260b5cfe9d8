"""Penalties and biases, held against their definition."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.openvino.fakes import make_request
from worker.engine.openvino.adjustments import TokenCounts, adjustments_of
from worker.engine.seam import SamplingParams

_TOKENS = st.lists(st.integers(0, 199), max_size=300)


def _row() -> np.ndarray:
    return (np.random.default_rng(3).standard_normal(200) * 5).astype(np.float32)


@settings(max_examples=100)
@given(
    _TOKENS,
    _TOKENS,
    _TOKENS,
    st.builds(
        SamplingParams,
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        repetition_penalty=st.floats(0.1, 2),
        logit_bias=st.lists(st.tuples(st.integers(0, 199), st.floats(-100, 100)), max_size=10).map(
            tuple
        ),
    ),
)
def test_the_definition(
    prompt: list[int], prefix: list[int], output: list[int], sampling: SamplingParams
) -> None:
    """Repetition sees prompt and output; frequency and presence see prefix and output."""
    request = make_request(
        0, prompt, max_tokens=999, output_prefix_token_ids=tuple(prefix), sampling=sampling
    )
    row, expected = _row(), _row().astype(np.float64)
    counts = Counter([*prefix, *output])
    for token_id in {*prompt, *prefix, *output}:
        above = expected[token_id] > 0
        penalty = sampling.repetition_penalty
        expected[token_id] *= 1 / penalty if above else penalty
    for token_id, count in counts.items():
        expected[token_id] -= sampling.frequency_penalty * count + sampling.presence_penalty
    for token_id, value in sampling.logit_bias:
        expected[token_id] += value
    adjustments = adjustments_of(request)
    if adjustments is not None:
        for token_id in output:
            adjustments.add(token_id)
        adjustments.apply(row)

    assert row == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_neutral_values_need_no_adjustments() -> None:
    """A request without penalties and biases costs nothing."""
    assert adjustments_of(make_request()) is None


def test_a_tiny_repetition_penalty_stays_finite() -> None:
    """The smallest penalty that passes validation does not make a logit infinite."""
    sampling = SamplingParams(repetition_penalty=1e-45)
    adjustments = adjustments_of(make_request(0, range(200), sampling=sampling))
    row = _row()
    assert adjustments is not None
    adjustments.apply(row)

    assert np.isfinite(row).all()
    assert np.isfinite(row - row.max()).all()


def test_a_bias_given_twice_counts_twice() -> None:
    """Entries for the same token add up."""
    sampling = SamplingParams(logit_bias=((5, 1.0), (5, 2.5)))
    adjustments = adjustments_of(make_request(sampling=sampling))
    row = np.zeros(10, np.float32)
    assert adjustments is not None
    adjustments.apply(row)

    assert row[5] == 3.5


def test_counts_grow() -> None:
    """More different tokens than there was room for at first."""
    counts = TokenCounts([*range(500), *range(100)])

    assert counts.ids.tolist() == list(range(500))
    assert counts.counts.tolist() == [2] * 100 + [1] * 400
