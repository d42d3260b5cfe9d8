"""LLM: builds the executor, and turns inputs and parameters into requests.

`llm_class` makes the class that the switches ask for: keywords of `generate_async` that a version
lacks are missing from its signature too.
"""

import copy
import functools
import inspect
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from pydantic import ValidationError

from tensorrt_llm.double.adapters import AdapterStore
from tensorrt_llm.double.asking import EnqueueError, worker_request
from tensorrt_llm.double.assembly import assemble
from tensorrt_llm.double.machine import Machine, current
from tensorrt_llm.double.sequences import WorkerRequest
from tensorrt_llm.double.switches import Switches
from tensorrt_llm.executor.iteration_result import IterationResult
from tensorrt_llm.executor.proxy import GenerationExecutorProxy
from tensorrt_llm.executor.request import GenerationRequest, LoRARequest
from tensorrt_llm.executor.result import RequestOutput
from tensorrt_llm.executor.utils import RequestError
from tensorrt_llm.llmapi.cache_configs import KvCacheRetentionConfig
from tensorrt_llm.llmapi.inputs import parsed_inputs
from tensorrt_llm.llmapi.llm_args import TENSORRT_ONLY, TorchLlmArgs
from tensorrt_llm.llmapi.model_directory import load_tokenizer, read_facts
from tensorrt_llm.sampling_params import SamplingParams
from tensorrt_llm.scheduling_params import SchedulingParams

_BOUND_NAMES = ("disaggregated_params", "_postproc_params", "prompt_adapter_request")


class BaseLLM:
    """The LLM of the PyTorch backend. Construction blocks; it may raise anything."""

    def __init__(  # noqa: PLR0917 (the library's own signature)
        self,
        model: Any,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,  # noqa: FBT002 (the library's own signature)
        trust_remote_code: bool = False,  # noqa: FBT002
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._executor: GenerationExecutorProxy | None = None
        self._machine: Machine = current()
        self.llm_id = f"{socket.gethostname()}-{os.getpid()}-{int(time.time() * 1000)}"
        values = {
            "model": str(model),
            "tokenizer": tokenizer,
            "tokenizer_mode": tokenizer_mode,
            "skip_tokenizer_init": skip_tokenizer_init,
            "trust_remote_code": trust_remote_code,
            "tensor_parallel_size": tensor_parallel_size,
            "dtype": dtype,
            "revision": revision,
            "tokenizer_revision": tokenizer_revision,
        }
        self.args = _checked_args(values, kwargs, self._machine.switches)
        self._build()
        self._machine.llms.append(self)

    def _build(self) -> None:
        args = self.args
        if args.num_postprocess_workers:
            raise NotImplementedError("the double has no postprocess workers")
        switches = self._machine.switches
        facts = read_facts(args.model, switches)
        self.tokenizer = None
        if not args.skip_tokenizer_init:
            self.tokenizer = load_tokenizer(args.model, args.tokenizer, switches)
        self._vocabulary_size = facts.vocabulary_size
        if switches.writes_to_stdout:
            sys.stdout.write(f"[TensorRT-LLM] TensorRT LLM version: {switches.version}\n")
        self._machine.await_construction()
        self._adapters = AdapterStore(args.lora_config)
        made = assemble(args, facts, self.tokenizer, self._machine)
        traces = args.otlp_traces_endpoint is not None
        self._executor = GenerationExecutorProxy(
            self._machine, made.worker, made.readers, traces=traces
        )

    def generate_async(  # noqa: PLR0917 (the library's own signature)
        self,
        inputs: Any,
        sampling_params: SamplingParams | None = None,
        lora_request: LoRARequest | None = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,  # noqa: FBT002 (the library's own signature)
        kv_cache_retention_config: KvCacheRetentionConfig | None = None,
        disaggregated_params: Any = None,
        trace_headers: Mapping[str, str] | None = None,
        _postproc_params: Any = None,
        scheduling_params: SchedulingParams | None = None,
        cache_salt: str | None = None,
    ) -> RequestOutput:
        """Submit, and return at once; see the contract's section 3.1 for what it raises."""
        executor = self._running_executor()
        for name, value in zip(
            _BOUND_NAMES,
            (disaggregated_params, _postproc_params, prompt_adapter_request),
            strict=True,
        ):
            if value is not None:
                raise NotImplementedError(f"the double has no {name}")
        params = self._prepared(sampling_params)
        prompt_ids, prompt = parsed_inputs(inputs, params, self.tokenizer)
        request_id = self._machine.next_id()
        self._check_submission(request_id, prompt_ids)
        request = GenerationRequest(
            request_id,
            prompt_ids,
            params,
            streaming,
            lora_request,
            kv_cache_retention_config,
            cache_salt,
            trace_headers,
        )
        asked, refusal = self._asked(request)
        result = executor.submit(request, asked, self.tokenizer, refusal)
        result.prompt = prompt
        if scheduling_params is not None:
            self._machine.requests[-1].keywords["scheduling_params"] = scheduling_params
        return result

    def generate(
        self, inputs: Any, sampling_params: SamplingParams | None = None, **kwargs: Any
    ) -> RequestOutput | list[RequestOutput]:
        """Submit one input or several, and block to their ends."""
        is_one = isinstance(inputs, str | dict) or (
            isinstance(inputs, Sequence) and bool(inputs) and isinstance(inputs[0], int)
        )
        results = [
            self.generate_async(item, copy.copy(sampling_params), **kwargs)
            for item in ([inputs] if is_one else inputs)
        ]
        for result in results:
            result.result()
        return results[0] if is_one else results

    def _running_executor(self) -> GenerationExecutorProxy:
        if self._executor is None or self._executor.is_shutdown():
            raise RuntimeError("LLM is shutting down")
        return self._executor

    def _prepared(self, given: SamplingParams | None) -> SamplingParams:
        """The caller's own object, filled in. Raises TypeError, ValueError."""
        if given is None:
            given = SamplingParams()
        if not isinstance(given, SamplingParams):
            raise TypeError(
                f"The sampling_params must be type SamplingParams or None, but got {type(given)}"
            )
        switches = self._machine.switches
        params = given if switches.mutates_sampling_params else copy.copy(given)
        if params.end_id is None:
            if self.tokenizer is None:
                raise ValueError("tokenizer is required to reset end_id if it is None")
            params._setup(self.tokenizer)
        elif not switches.rejects_unprocessed_stops:
            params._stop_word_ids, params._bad_word_ids = [], []
        if params.use_beam_search:
            if params.best_of != self.args.max_beam_width:
                raise ValueError(
                    f"sampling_params.best_of {params.best_of} must be equal to max_beam_width "
                    f"{self.args.max_beam_width} with beam search"
                )
            raise NotImplementedError("the double has no beam search")
        if params.logits_processor is not None:
            raise NotImplementedError("the double has no logits processors")
        params.return_perf_metrics = params.return_perf_metrics or self.args.return_perf_metrics
        params._stream_interval = self.args.stream_interval
        return params

    def _check_submission(self, request_id: int, prompt_ids: list[int]) -> None:
        """Raises RequestError."""
        switches = self._machine.switches
        most = self.args.max_num_tokens
        is_long = len(prompt_ids) > most and not self.args.enable_chunked_prefill
        if is_long and switches.refuses_long_prompts:
            raise RequestError(
                f"The sum of prompt length ({len(prompt_ids)}) should not exceed "
                f"max_num_tokens ({most})"
            )
        for fault in switches.faults:
            if fault.kind == "submit" and fault.request in (None, request_id - 2):
                raise RequestError(fault.message)

    def _asked(self, request: GenerationRequest) -> tuple[WorkerRequest, str | None]:
        """What the worker is given, and why it will refuse it."""
        try:
            return self._worker_request(request), None
        except EnqueueError as error:
            bare = copy.copy(request)
            bare.sampling_params = SamplingParams(end_id=request.sampling_params.end_id)
            bare.lora_request = None
            return self._worker_request(bare), str(error)

    def _worker_request(self, request: GenerationRequest) -> WorkerRequest:
        """Raises EnqueueError."""
        switches = self._machine.switches
        return worker_request(request, self.args, self._vocabulary_size, switches, self._adapters)

    def get_stats(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        """Iteration statistics that were not read yet."""
        return self._read("stats", timeout).get_results()

    def get_stats_async(self, timeout: float | None = 2) -> IterationResult:
        """The same, one by one; ends when none comes within `timeout` seconds."""
        return self._read("stats", timeout)

    def get_kv_cache_events(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        """Events that were not read yet."""
        return self._read("kv_events", timeout).get_results()

    def get_kv_cache_events_async(self, timeout: float | None = 2) -> IterationResult:
        """The same, one by one; ends when none comes within `timeout` seconds."""
        return self._read("kv_events", timeout)

    def _read(self, name: str, timeout: float | None) -> IterationResult:
        return self._running_executor().read(name, 2.0 if timeout is None else timeout)

    def shutdown(self) -> None:
        """End the executor; blocks, and does nothing a second time."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    def __getstate__(self) -> NoReturn:
        raise RuntimeError("LLM object can not be pickled.")


def _checked_args(
    given: dict[str, Any], kwargs: dict[str, Any], switches: Switches
) -> TorchLlmArgs:
    """Raises ValueError, RuntimeError."""
    tensorrt_only = sorted(TENSORRT_ONLY & kwargs.keys())
    if tensorrt_only:
        raise ValueError(f"The PyTorch backend does not support: {', '.join(tensorrt_only)}")
    unknown = sorted(kwargs.keys() - TorchLlmArgs.model_fields.keys())
    if unknown and switches.rejects_unknown_fields:
        raise ValueError(f"LLM got invalid argument: {', '.join(unknown)}")
    try:
        return TorchLlmArgs(**{**given, **kwargs})
    except ValidationError as error:
        raise ValueError(f"LLM got invalid argument: {error}") from error


@functools.cache
def llm_class(missing: frozenset[str], has_check_health: bool) -> type[BaseLLM]:
    """The class of a version that lacks these keywords, with or without `_check_health`."""
    members: dict[str, Any] = {"__module__": "tensorrt_llm.llmapi.llm", "__doc__": BaseLLM.__doc__}
    if missing:
        members["generate_async"] = _without(missing)
    if has_check_health:
        members["_check_health"] = _check_health
    return type("LLM", (BaseLLM,), members)


def _without(missing: frozenset[str]) -> Any:
    signature = inspect.signature(BaseLLM.generate_async)
    kept = [p for p in signature.parameters.values() if p.name not in missing]
    narrowed = signature.replace(parameters=kept)

    @functools.wraps(BaseLLM.generate_async)
    def generate_async(self: BaseLLM, *args: Any, **kwargs: Any) -> RequestOutput:
        bound = narrowed.bind(self, *args, **kwargs)
        return BaseLLM.generate_async(**bound.arguments)

    generate_async.__signature__ = narrowed  # type: ignore[attr-defined]
    return generate_async


def _check_health(llm: BaseLLM) -> bool:
    """Whether the executor is there and has not been shut down."""
    return llm._executor is not None and not llm._executor.is_shutdown()
