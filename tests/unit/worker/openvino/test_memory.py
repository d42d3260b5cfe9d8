"""What may be used, what steps take of it, and how many blocks the rest holds."""

import os
from pathlib import Path

import pytest

from worker.engine.openvino.memory import (
    StepMemory,
    blocks_in,
    default_kv_cache_bytes,
    resident_bytes,
    step_memory,
    usable_memory_bytes,
)


def test_a_container_limit_counts_where_it_is_lower(tmp_path: Path) -> None:
    """The lower of host and container limit is what may be used."""
    limit = tmp_path / "memory.max"
    limit.write_text("1000000\n")

    assert usable_memory_bytes((limit,)) == 1_000_000


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n"])
def test_no_limit_means_the_host(tmp_path: Path, text: str) -> None:
    """Either way of writing that there is no limit leaves the host's memory."""
    limit = tmp_path / "memory.max"
    limit.write_text(text)

    assert usable_memory_bytes((limit,)) == usable_memory_bytes(())


def test_the_default_is_a_quarter_up_to_a_gibibyte() -> None:
    """A small container gives a quarter, a large host no more than 1 GiB."""
    assert default_kv_cache_bytes(1 << 30) == 1 << 28
    assert default_kv_cache_bytes(1 << 40) == 1 << 30


def test_every_part_of_a_step_counts() -> None:
    """Kernels, activations of prompt tokens and of outputs, and the outputs' logits."""
    sizes = {
        "kernel_bytes": 1000,
        "model_width": 10,
        "vocabulary_size": 100,
        "max_tokens": 8,
        "max_rows": 4,
    }
    least = step_memory(**sizes).bytes_beside(100)

    for name, size in sizes.items():
        assert step_memory(**{**sizes, name: size * 2}).bytes_beside(100) > least, name


@pytest.mark.parametrize("room", [0, 99, 100, 129, 130, 250, 251, 1000, 1019, 1020])
def test_blocks_and_the_largest_step_fit_together(room: int) -> None:
    """As many blocks as the room holds beside the step over them, and not one more."""
    step = StepMemory(fixed_bytes=100, row_bytes=10, max_rows=5)
    blocks = blocks_in(room, 20, step)

    assert blocks == 0 or blocks * 20 + step.bytes_beside(blocks) <= room
    assert (blocks + 1) * 20 + step.bytes_beside(blocks + 1) > room


def test_what_is_resident_is_counted_in_bytes(tmp_path: Path) -> None:
    """The second number counts pages; a system without the file counts as nothing."""
    pages = tmp_path / "statm"
    assert resident_bytes(pages) == 0
    pages.write_text("900 3 2 1 0 5 0\n")

    assert resident_bytes(pages) == 3 * os.sysconf("SC_PAGE_SIZE")
