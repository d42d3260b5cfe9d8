"""Log probabilities in every shape that the library gives them."""

from typing import Any

import pytest

from tests.unit.worker.tensorrt_llm.engines import opened
from worker.engine.tensorrt_llm.cursor import LEAST_LOGPROB


@pytest.mark.parametrize("asked", [0, 1, 5])
async def test_one_entry_a_token(asked: int) -> None:
    """Also for none but the drawn token, which 1.2 understands as nothing at all."""
    async with opened() as engine:
        said = await engine.ask(logprobs=asked, max_tokens=6, ignore_eos=True)

    assert len(said.logprobs) == 6
    for entry in said.logprobs:
        assert len(entry.top) == asked
        assert LEAST_LOGPROB < entry.logprob <= 0


async def test_none_where_none_is_asked() -> None:
    """Neither from an empty list nor from no list."""
    for given in ("empty", "none"):
        async with opened({"logprobs_not_asked": given}) as engine:
            assert (await engine.ask(max_tokens=3)).logprobs == []


async def test_minus_infinity_is_clamped() -> None:
    """JSON has no infinity: the least value stands for it."""
    async with opened({"minus_inf_every": 3}) as engine:
        said = await engine.ask(logprobs=3, max_tokens=9, ignore_eos=True)
    values = [value for entry in said.logprobs for _, value in entry.top]

    assert min(values) == LEAST_LOGPROB
    assert max(values) > LEAST_LOGPROB


async def test_a_missing_drawn_token() -> None:
    """It has the least value, the alternatives have theirs."""
    async with opened({"sampled_id_missing_every": 2}) as engine:
        said = await engine.ask(logprobs=3, max_tokens=8, ignore_eos=True)
    lacking = [entry for entry in said.logprobs if entry.logprob == LEAST_LOGPROB]

    assert len(said.logprobs) == 8
    assert len(lacking) == 4
    assert all(entry.top and entry.top[0][1] > LEAST_LOGPROB for entry in lacking)


@pytest.mark.parametrize("asked", [0, 4])
async def test_bare_numbers(asked: int) -> None:
    """Only the drawn token is known then."""
    async with opened({"logprobs_shape": "float"}) as engine:
        said = await engine.ask(logprobs=asked, max_tokens=5, ignore_eos=True)

    for token_id, entry in zip(said.token_ids, said.logprobs, strict=True):
        assert entry.top == (((token_id, entry.logprob),) if asked else ())
        assert LEAST_LOGPROB < entry.logprob <= 0


@pytest.mark.parametrize("switches", [{}, {"trims_logprobs": True}, {"keeps_end_id": False}])
async def test_an_end_token_that_was_put_back_has_an_entry(switches: dict[str, Any]) -> None:
    """Whether the library trimmed it from the list or not."""
    async with opened(switches) as engine:
        answers = [
            await engine.ask((first, 12, 13, 14, 15), logprobs=1) for first in range(100, 112)
        ]

    assert any(said.ended.stop_token_id == 7 for said in answers)
    for said in answers:
        assert len(said.logprobs) == len(said.token_ids)
