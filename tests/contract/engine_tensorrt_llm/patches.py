"""For each behaviour of the library the patches that remove its handling, and what must notice."""

from collections.abc import Sequence

from tests.contract.engine_tensorrt_llm.error_patches import ERROR_PATCHES
from tests.contract.engine_tensorrt_llm.patch import Patch
from tests.contract.engine_tensorrt_llm.result_patches import RESULT_PATCHES
from tests.contract.engine_tensorrt_llm.surface_patches import SURFACE_PATCHES

PATCHES: Sequence[Patch] = (*SURFACE_PATCHES, *RESULT_PATCHES, *ERROR_PATCHES)
