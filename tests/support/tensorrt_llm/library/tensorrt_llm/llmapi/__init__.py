"""The LLM API. Classes that differ between versions are made when they are asked for."""

from typing import TYPE_CHECKING, Any

from tensorrt_llm.double.machine import current
from tensorrt_llm.executor.request import LoRARequest
from tensorrt_llm.executor.result import CompletionOutput, RequestOutput
from tensorrt_llm.executor.utils import RequestError
from tensorrt_llm.llmapi import llm_args
from tensorrt_llm.llmapi.cache_configs import (
    KvCacheConfig,
    KvCacheRetentionConfig,
    KvCacheTransferMode,
)
from tensorrt_llm.llmapi.engine_configs import (
    CapacitySchedulerPolicy,
    ContextChunkingPolicy,
    CudaGraphConfig,
    DynamicBatchConfig,
    LoraConfig,
    PeftCacheConfig,
    SchedulerConfig,
)
from tensorrt_llm.llmapi.llm import BaseLLM, llm_class
from tensorrt_llm.llmapi.llm_args import TorchLlmArgs
from tensorrt_llm.sampling_params import GuidedDecodingParams, SamplingParams
from tensorrt_llm.scheduling_params import SchedulingParams

if TYPE_CHECKING:
    LLM = BaseLLM

__all__ = [
    "LLM",
    "BaseLLM",
    "CapacitySchedulerPolicy",
    "CompletionOutput",
    "ContextChunkingPolicy",
    "CudaGraphConfig",
    "DynamicBatchConfig",
    "GuidedDecodingParams",
    "KvCacheConfig",
    "KvCacheRetentionConfig",
    "KvCacheTransferMode",
    "LoRARequest",
    "LoraConfig",
    "PeftCacheConfig",
    "RequestError",
    "RequestOutput",
    "SamplingParams",
    "SchedulerConfig",
    "SchedulingParams",
    "TorchLlmArgs",
]


def __getattr__(name: str) -> Any:
    """`LLM` and the decoding configs, as the machine's switches want them."""
    switches = current().switches
    if name == "LLM":
        return llm_class(frozenset(switches.missing_keywords), switches.has_check_health)
    return getattr(llm_args, name)
