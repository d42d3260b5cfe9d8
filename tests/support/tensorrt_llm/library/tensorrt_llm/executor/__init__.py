"""The parent process's half: requests, results and the proxy of the worker."""

from tensorrt_llm.executor.request import GenerationRequest, LoRARequest
from tensorrt_llm.executor.result import CompletionOutput, GenerationResult, Logprob
from tensorrt_llm.executor.utils import CppExecutorError, RequestError

__all__ = [
    "CompletionOutput",
    "CppExecutorError",
    "GenerationRequest",
    "GenerationResult",
    "LoRARequest",
    "Logprob",
    "RequestError",
]
