"""The largest entries of a row, held against sorting all of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.openvino.candidates import largest_ids


def _expected(values: np.ndarray, count: int) -> list[int]:
    return sorted(np.argsort(-values, kind="stable")[:count].tolist())


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.integers(1, 3000), st.integers(1, 600), st.integers(1, 40))
def test_the_same_as_sorting(seed: int, size: int, count: int, levels: int) -> None:
    """For any size, count and number of equal values: those that a stable sort puts first."""
    values = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)

    assert largest_ids(values, count).tolist() == _expected(values, count)


@pytest.mark.parametrize("count", [1, 20, 256, 257, 49_151, 49_152, 60_000])
def test_a_whole_vocabulary(count: int) -> None:
    """Also for counts on either side of the short cut, and of the vocabulary's size."""
    values = np.random.default_rng(1).standard_normal(49_152).astype(np.float32)
    values[:40_000] = -np.inf

    assert largest_ids(values, count).tolist() == _expected(values, count)
