"""The GPUs that the double's machine has."""

from dataclasses import dataclass

from tensorrt_llm.double.machine import current

_MEMORY_BYTES = 80 << 30


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """One GPU's."""

    name: str
    total_memory: int
    major: int
    minor: int


def is_available() -> bool:
    """There is at least one."""
    return current().switches.gpus > 0


def device_count() -> int:
    """How many there are."""
    return current().switches.gpus


def get_device_properties(device: int) -> DeviceProperties:
    """Raises AssertionError for a GPU that is not there."""
    assert 0 <= device < device_count(), "Invalid device id"
    major, minor = current().switches.compute_capability
    return DeviceProperties("Double GPU", _MEMORY_BYTES, major, minor)


def mem_get_info(device: int = 0) -> tuple[int, int]:
    """Free and total bytes."""
    total = get_device_properties(device).total_memory
    return total, total
