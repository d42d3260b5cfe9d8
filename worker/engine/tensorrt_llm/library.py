"""The imported library: what of it is used, and what this build of it has.

The only module that imports `tensorrt_llm` and `torch`. Builds differ, so keywords are probed,
never assumed; everything else is looked up by the names of 1.2.
"""

import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.runtime.errors import StartError

_INSTALL = (
    "it comes with NVIDIA's image tensorrt-llm/release:1.2.1, beside which headrace is installed "
    "with its extra `tensorrt-llm`; see the README's page `On a GPU`"
)
_PROBED = ("cache_salt", "kv_cache_retention_config", "trace_headers")


class CompletionOutput(Protocol):
    """One output of a result; lists are cumulative and change in place."""

    index: int
    token_ids: list[int]
    logprobs: Sequence[Any] | None
    finish_reason: str | None
    stop_reason: str | int | None


class RequestOutput(Protocol):
    """A result: each step gives the same object again."""

    outputs: Sequence[CompletionOutput]
    finished: bool
    cached_tokens: int

    def abort(self) -> None:
        """Ask the worker to stop it; returns at once."""

    async def __anext__(self) -> "RequestOutput":
        """The next response; raises StopAsyncIteration, RequestError, or what broke it all."""


class Llm(Protocol):
    """What is used of an LLM."""

    def generate_async(self, inputs: Mapping[str, Any], **keywords: Any) -> RequestOutput:
        """Submit, on the loop's thread."""

    def get_stats_async(self, timeout: float) -> AsyncIterator[Mapping[str, Any]]:
        """Iteration statistics; ends when none comes within `timeout` seconds."""

    def shutdown(self) -> None:
        """End it; blocks, and may hang."""


@dataclass(frozen=True)
class Library:
    """The modules, as far as they are used, and what was probed."""

    version: str
    keywords: frozenset[str]
    request_error: type[Exception]
    llm: Any
    sampling_params: Any
    guided_decoding_params: Any
    lora_request: Any
    configs: Any
    torch: Any | None

    def sampling(self, arguments: Mapping[str, Any]) -> Any:
        """Fresh parameters: the library writes into them. Raises TypeError, ValueError."""
        values = dict(arguments)
        if "guided_decoding" in values:
            values["guided_decoding"] = self.guided_decoding_params(**values["guided_decoding"])
        if "embedding_bias" in values:
            values["embedding_bias"] = self._vector(*values["embedding_bias"])
        return self.sampling_params(**values)

    def _vector(self, size: int, entries: Sequence[tuple[int, float]]) -> Any:
        if self.torch is None:
            raise ValueError("logit_bias needs torch")
        vector = self.torch.zeros(size, dtype=self.torch.float32)
        for token_id, bias in entries:
            vector[token_id] = bias
        return vector


def missing_library(problem: str) -> StartError:
    """What is said where it cannot be imported: the problem, and its remedy."""
    return StartError(f"the tensorrt_llm engine cannot start: {problem}; {_INSTALL}")


def open_library() -> Library:
    """Import it, and probe it. Raises StartError, one sentence, where it is missing or another."""
    # Here, not above: it takes long to import, starts MPI, and most machines have none.
    try:
        import tensorrt_llm as root  # noqa: PLC0415
    except ImportError as error:
        raise missing_library(str(error)) from error
    try:
        from tensorrt_llm import llmapi as configs  # noqa: PLC0415
        from tensorrt_llm.executor import request as requests  # noqa: PLC0415
        from tensorrt_llm.executor import utils as errors  # noqa: PLC0415

        return Library(
            version=str(root.__version__),
            keywords=_probed_keywords(root.LLM),
            request_error=errors.RequestError,
            llm=root.LLM,
            sampling_params=root.SamplingParams,
            guided_decoding_params=configs.GuidedDecodingParams,
            lora_request=requests.LoRARequest,
            configs=configs,
            torch=_torch(),
        )
    except (ImportError, AttributeError) as error:
        version = getattr(root, "__version__", "of unknown version")
        raise StartError(
            f"TensorRT-LLM {version} is not the 1.2 that this engine knows: {error}"
        ) from error


def is_healthy(llm: Any) -> bool:
    """Whether its executor lives; 1.2 has no public way to ask."""
    check = getattr(llm, "_check_health", None)
    if check is not None:
        return bool(check())
    executor = getattr(llm, "_executor", None)
    return executor is not None and not executor.is_shutdown()


def tokenizer_end_id(llm: Any) -> int | None:
    """The one end token that the library's own tokenizer knows, at which its guides end."""
    token_id = getattr(getattr(llm, "tokenizer", None), "eos_token_id", None)
    return token_id if isinstance(token_id, int) else None


def _probed_keywords(llm: Any) -> frozenset[str]:
    parameters = inspect.signature(llm.generate_async).parameters
    return frozenset(name for name in _PROBED if name in parameters)


def _torch() -> Any | None:
    """Only what the library itself brings."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return None
    return torch
