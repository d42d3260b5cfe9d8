"""Log probabilities, held against double precision."""

import numpy as np
import pytest

from worker.engine.openvino.logprobs import token_logprob


def _row(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(5000) * 4).astype(np.float32)


def _expected(row: np.ndarray) -> np.ndarray:
    exact = row.astype(np.float64)
    return exact - np.log(np.exp(exact).sum())


@pytest.mark.parametrize("token_id", [0, 17, 4999])
def test_a_log_softmax(token_id: int) -> None:
    """The drawn token's entry is the logarithm of its probability."""
    entry = token_logprob(_row(), token_id, 0)

    assert entry.logprob == pytest.approx(_expected(_row())[token_id], abs=1e-5)
    assert entry.top == ()


def test_alternatives_are_the_most_probable() -> None:
    """Twenty of them, most probable first, whether the drawn token is among them or not."""
    expected = _expected(_row())
    order = np.argsort(-expected, kind="stable")[:20]
    entry = token_logprob(_row(), int(np.argmin(expected)), 20)

    assert [token_id for token_id, _ in entry.top] == order.tolist()
    assert [value for _, value in entry.top] == pytest.approx(expected[order].tolist(), abs=1e-5)


def test_equals_come_in_order_of_their_ids() -> None:
    """Of equally probable tokens the lowest ids are the alternatives."""
    entry = token_logprob(np.zeros(1000, np.float32), 500, 3)

    assert [token_id for token_id, _ in entry.top] == [0, 1, 2]
    assert entry.logprob == pytest.approx(-np.log(1000), abs=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    """What matters are differences."""
    entry = token_logprob(np.array([1e30, 1e30, -1e30], np.float32), 1, 1)

    assert entry.logprob == pytest.approx(-np.log(2), abs=1e-6)
