"""Step speed: how many prompt tokens fit beside those that decode."""

import pytest

from worker.engine.openvino.step_speed import StepSpeed


def test_a_step_without_decoding_is_full() -> None:
    """While nothing decodes nobody waits, so the step takes the maximum."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 512, 5.0)

    assert speed.prefill_tokens(0) == 512


def test_the_chunk_fits_the_time_that_decoding_leaves() -> None:
    """100 ms less 20 ms of decoding, at 0.5 ms a token, are 160, the 8 that decode included."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 400, 0.2)
    speed.observe(8, 0, 0.02)

    assert speed.prefill_tokens(8) == 160 - 8


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

    assert (before, speed.prefill_tokens(1)) == (352 - 1, 64 - 1)


def test_an_unknown_number_counts_as_the_nearest() -> None:
    """Before 32 have been measured, they are taken for the 16 that were."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 400, 0.2)
    speed.observe(1, 0, 0.01)
    speed.observe(16, 0, 0.05)

    assert (speed.prefill_tokens(32), speed.prefill_tokens(16)) == (128 - 32, 96 - 16)


@pytest.mark.parametrize("num_decoding", [1, 7, 8, 31, 32, 33])
def test_steps_come_in_few_sizes(num_decoding: int) -> None:
    """However speeds vary, decoding and prompt tokens add up to a multiple of 32."""
    speed = StepSpeed(0.1, 512)
    speed.observe(0, 400, 0.2)
    sizes = set()
    for milliseconds in range(10, 40):
        speed.observe(num_decoding, 0, milliseconds / 1000)
        sizes.add(num_decoding + speed.prefill_tokens(num_decoding))

    assert all(size % 32 == 0 for size in sizes)
    assert len(sizes) > 1
