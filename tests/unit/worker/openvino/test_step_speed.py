"""Step speed: how many prompt tokens fit beside those that decode."""

import pytest

from worker.engine.openvino.step_speed import StepSpeed


def test_a_step_without_decoding_is_full() -> None:
    """While nothing decodes nobody waits, so the step takes the maximum."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 512, 5.0)

    assert speed.prefill_tokens(0) == 512


def test_the_chunk_fits_the_time_that_decoding_leaves() -> None:
    """100 ms less 20 ms of decoding, at 0.5 ms a token, are 160 tokens."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 400, 0.2)
    speed.observe(8, 0, 0.02)

    assert speed.prefill_tokens(8) == pytest.approx(160, abs=1)


def test_prompts_always_get_on() -> None:
    """Even where decoding alone takes longer than the target, some prompt tokens are read."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 400, 0.2)
    speed.observe(200, 0, 0.5)

    assert speed.prefill_tokens(200) == 32


def test_the_price_follows_what_is_measured() -> None:
    """When tokens become dearer, as with a long context, chunks become smaller."""
    speed = StepSpeed(0.1, 512)
    speed.observe(1, 0, 0.01)
    speed.observe(0, 400, 0.1)
    before = speed.prefill_tokens(1)
    for _ in range(20):
        speed.observe(1, 200, 0.21)

    assert (before, speed.prefill_tokens(1)) == (360, pytest.approx(90, abs=2))


def test_an_unknown_number_counts_as_the_nearest() -> None:
    """Before 32 have been measured, they are taken for the 16 that were."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 400, 0.2)
    speed.observe(1, 0, 0.01)
    speed.observe(16, 0, 0.05)

    assert speed.prefill_tokens(32) == speed.prefill_tokens(16) == pytest.approx(100, abs=1)
