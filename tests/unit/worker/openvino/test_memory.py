"""The default size of the KV cache."""

from pathlib import Path

import pytest

from worker.engine.openvino.memory import default_kv_cache_bytes, usable_memory_bytes


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
