"""A double of TensorRT-LLM 1.2's Python LLM API, without a GPU; see the README two folders up.

Invariants: its surface is the library's, its behaviour what the contract says of it; nothing here
knows who calls. `tensorrt_llm.double` is the one part that the library does not have.
"""

from typing import TYPE_CHECKING, Any

from tensorrt_llm import llmapi
from tensorrt_llm.double.machine import current
from tensorrt_llm.sampling_params import SamplingParams

if TYPE_CHECKING:
    from tensorrt_llm.llmapi import LLM

    __version__: str

__all__ = ["LLM", "SamplingParams", "__version__", "llmapi"]


def __getattr__(name: str) -> Any:
    """What depends on the machine's switches."""
    if name == "__version__":
        return current().switches.version
    if name == "LLM":
        return llmapi.LLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
