"""Bounds the kernels that OpenVINO keeps for every number of tokens that a step has had.

Matrix products are prepared anew for each number of rows, in 10 to 80 ms, and kept, about 1 MB a
number. Two caches hold them, so both must be small: the plugin's, of 5,000 kernels by default, and
below it oneDNN's, of 1,024. Either alone lets a worker grow by hundreds of MB.
"""

import os
from collections.abc import Mapping

KEPT_KERNELS = 128
"""About four make a number of tokens (seen with SmolLM2-135M)."""

KERNEL_CACHE_BYTES = KEPT_KERNELS << 20
"""What they may take, 1 MiB for each: after thousands of sizes of steps they took 80 to 110 MB."""

KERNEL_CACHE_PROPERTIES: Mapping[str, int] = {"CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS}
"""For `compile_model`. An internal property of the CPU plugin; unknown ones stop the start."""

# oneDNN reads it once a process, when it makes its first kernel, and has no other way to be told:
# it is linked into the plugin, which exports none of its functions.
_ONEDNN_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def close_inner_cache() -> None:
    """Let the plugin's cache be the only one; to be called before the first model is compiled.

    It overrides what the environment says: the memory budget counts on it.
    """
    os.environ[_ONEDNN_CAPACITY] = "0"
