"""Settings of the tensorrt_llm engine, table [worker.tensorrt_llm].

The library checks its own arguments only where there is a GPU; what can be known before is checked
here, so that a bad file stops the start on any machine.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headrace.runtime.settings import SettingsGroup


class KvCacheSettings(SettingsGroup):
    """The KV cache."""

    reuse: bool = True
    """Keep the blocks of prompts and answers for requests that begin alike."""
    partial_reuse: bool = True
    """Also reuse the beginning of a block."""
    block_tokens: int = Field(default=32, ge=8, le=256)
    """Tokens of one block, a power of two."""
    free_memory_fraction: float = Field(default=0.9, gt=0, lt=1)
    """Part of the GPU memory that is free after loading which the cache takes, 0 to 1."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens that the cache holds at most; unset: what free_memory_fraction gives."""
    host_cache_bytes: int = Field(default=0, ge=0)
    """Bytes of pinned host memory for blocks that leave the GPU, on each rank; 0: none."""
    dtype: Literal["auto", "fp8", "nvfp4"] = "auto"
    """Type of the cached values; auto: as the checkpoint says."""
    prompt_priority: int | None = Field(default=None, ge=0, le=100)
    """Retention priority of prompts' blocks: the lowest are evicted first; unset: 35."""
    answer_priority: int | None = Field(default=None, ge=0, le=100)
    """Retention priority of answers' blocks; unset: 35."""
    retention_seconds: float | None = Field(default=None, gt=0)
    """How long these priorities hold after the last use, in seconds; unset: for ever."""

    @property
    def has_retention(self) -> bool:
        """Requests carry retention priorities."""
        return self.prompt_priority is not None or self.answer_priority is not None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.block_tokens & (self.block_tokens - 1):
            raise ValueError(f"block_tokens must be a power of two, not {self.block_tokens}")
        if not self.reuse and (self.host_cache_bytes or self.has_retention):
            raise ValueError("host_cache_bytes and retention priorities need reuse")
        if self.retention_seconds is not None and not self.has_retention:
            raise ValueError("retention_seconds needs prompt_priority or answer_priority")
        return self


class SchedulerSettings(SettingsGroup):
    """Which requests run when memory is short."""

    capacity: Literal["guaranteed_no_evict", "max_utilization", "static_batch"] = (
        "guaranteed_no_evict"
    )
    """guaranteed_no_evict never pauses a request; max_utilization runs more and may pause some."""
    chunking: Literal["default", "first_come_first_served", "equal_progress"] = "default"
    """How several prompts that are read in chunks share a step; default: the library's."""


class CudaGraphSettings(SettingsGroup):
    """Captured steps, which start faster; one a batch size."""

    enabled: bool = True
    """Capture at all."""
    batch_sizes: tuple[int, ...] = ()
    """Batch sizes to capture; empty: the library's choice up to max_batch_size."""
    max_batch_size: int | None = Field(default=None, ge=1, le=65536)
    """Largest batch size to capture; unset: the library's 128, or the largest of batch_sizes."""
    padding: bool = True
    """Batches of other sizes are padded to the next captured one."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if any(size < 1 for size in self.batch_sizes):
            raise ValueError(f"batch_sizes must be positive, not {list(self.batch_sizes)}")
        largest = max(self.batch_sizes, default=None)
        if largest is not None and self.max_batch_size not in (None, largest):
            raise ValueError(
                f"max_batch_size {self.max_batch_size} contradicts batch_sizes, whose largest is "
                f"{largest}"
            )
        return self


class SpeculativeSettings(SettingsGroup):
    """Several tokens a step, guessed and then checked."""

    method: Literal["none", "draft_target", "eagle3", "mtp", "ngram"] = "none"
    """Who guesses: a small model, EAGLE-3 heads, the model's own MTP layers, or repetition."""
    max_draft_tokens: int = Field(default=3, ge=1, le=64)
    """Tokens guessed a step."""
    draft_model: Path | None = None
    """Directory of the draft model or of the heads."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        needs_model = self.method in {"draft_target", "eagle3"}
        if needs_model and self.draft_model is None:
            raise ValueError(f"method {self.method} needs draft_model")
        if not needs_model and self.draft_model is not None:
            raise ValueError(f"method {self.method} takes no draft_model")
        return self


AdapterName = Annotated[str, Field(min_length=1, max_length=128)]


class LoraAdapterSettings(SettingsGroup):
    """A LoRA adapter of the model; its name in the table is its served name."""

    path: Path
    """Directory of the adapter in Hugging Face's layout, the same on every machine."""


class LoraSettings(SettingsGroup):
    """Bounds that all LoRA adapters share."""

    max_rank: int = Field(default=64, ge=1, le=1024)
    """Highest rank of an adapter's matrices; memory is set aside for it."""
    max_gpu_adapters: int | None = Field(default=None, ge=1, le=1024)
    """Adapters on the GPU at the same time, the rest on the host; unset: all."""
    max_host_adapters: int | None = Field(default=None, ge=1, le=1024)
    """Adapters in the host's memory, the rest on disk; unset: all."""
    target_modules: tuple[str, ...] = ()
    """Modules that adapters change, by TensorRT-LLM's names; empty: as their own files say."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        gpu, host = self.max_gpu_adapters, self.max_host_adapters
        if gpu is not None and host is not None and gpu > host:
            raise ValueError(f"max_gpu_adapters {gpu} is more than max_host_adapters {host}")
        return self


class TensorRtLlmSettings(SettingsGroup):
    """The GPU engine; table [worker.tensorrt_llm]."""

    tensor_parallel: int = Field(default=1, ge=1, le=1024)
    """GPUs over which each layer is split."""
    pipeline_parallel: int = Field(default=1, ge=1, le=1024)
    """Stages over which the layers are split; GPUs in all: tensor_parallel times this."""
    expert_parallel: int | None = Field(default=None, ge=1, le=1024)
    """Groups over which experts are split, a divisor of tensor_parallel; unset: experts are split
    like other layers."""
    gpus_per_node: int | None = Field(default=None, ge=1, le=64)
    """GPUs of one machine; unset: those that are found. Set it where there are several machines."""
    attention_data_parallel: bool = False
    """Each rank computes the attention of its own requests."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of weights and activations that are not quantised; auto: as the checkpoint says."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""

    max_batch_size: int = Field(default=256, ge=1, le=65536)
    """Outputs that compute at the same time; more wait in the queue."""
    max_num_tokens: int = Field(default=8192, ge=1)
    """Tokens of one step; without chunked_prefill also the longest prompt."""
    max_seq_len: int | None = Field(default=None, ge=2)
    """Prompt and output together, in tokens; unset: the model's context."""
    chunked_prefill: bool = True
    """Read long prompts in chunks, between which others go on."""
    overlap_scheduler: bool = True
    """Prepare the next step while one computes."""
    stream_interval: int = Field(default=1, ge=1, le=1000)
    """Steps whose tokens are sent together."""
    sampler: Literal["auto", "TorchSampler", "TRTLLMSampler"] = "auto"
    """1.2's default sampler ignores penalties, seed and min_p; TRTLLMSampler honours them."""
    guided_decoding_backend: Literal["llguidance", "xgrammar", "none"] = "llguidance"
    """Who enforces guides; Lark grammars need llguidance, structural tags xgrammar."""
    iteration_statistics: bool = True
    """Ask the library for its load after each step."""
    traces_endpoint: str = ""
    """OTLP endpoint to which the library sends spans of its own, children of the worker's, where
    its packages for OpenTelemetry are installed; empty: none."""
    kv_cache: KvCacheSettings = KvCacheSettings()
    """The KV cache."""
    scheduler: SchedulerSettings = SchedulerSettings()
    """The scheduler."""
    cuda_graphs: CudaGraphSettings = CudaGraphSettings()
    """CUDA graphs."""
    speculative: SpeculativeSettings = SpeculativeSettings()
    """Speculative decoding."""
    lora: LoraSettings = LoraSettings()
    """Bounds of LoRA adapters."""
    lora_adapters: dict[AdapterName, LoraAdapterSettings] = Field(default_factory=dict)
    """LoRA adapters that are served beside the model, by served name."""

    max_queued_outputs: int = Field(default=1024, ge=0)
    """Outputs that may wait beyond those that compute; more are refused as overloaded."""
    max_handed_ahead_outputs: int = Field(default=8, ge=0)
    """Outputs handed to the library beyond max_batch_size, so that no place stays empty; they no
    longer take part in the order by priority."""
    priority_step_seconds: float = Field(default=30.0, gt=0)
    """Seconds of waiting that weigh as much as one point of priority, so that nothing starves."""
    guide_max_bytes: int = Field(default=524_288, ge=1, le=1 << 24)
    """Bytes of a guide's text; longer ones are refused."""

    aborts: bool = True
    """Tell the library to stop what nobody wants; off: it computes to the end, unheard."""
    max_aborts_per_second: int = Field(default=50, ge=1, le=1000)
    """Aborts told in any one second; more wait, oldest first, since a mass of them can wedge it."""
    silence_after_abort_seconds: float = Field(default=2.0, gt=0, le=60)
    """How long an abort's confirmation is waited for, in seconds: it may never come."""
    canary_seconds: float = Field(default=60.0, gt=0, le=3600)
    """Time for the one token that proves that it works, in seconds."""
    watchdog_seconds: float = Field(default=120.0, gt=0, le=3600)
    """Requests run but no token comes for so long: the engine has failed, in seconds."""
    shutdown_seconds: float = Field(default=30.0, gt=0, le=600)
    """How long its end is waited for, in seconds; then the process ends regardless."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.expert_parallel is not None and self.tensor_parallel % self.expert_parallel:
            raise ValueError(
                f"expert_parallel {self.expert_parallel} does not divide tensor_parallel "
                f"{self.tensor_parallel}"
            )
        world = self.tensor_parallel * self.pipeline_parallel
        if self.gpus_per_node is not None and world > self.gpus_per_node:
            self._check_nodes(world, self.gpus_per_node)
        if self.max_num_tokens < self.max_batch_size:
            raise ValueError(
                f"max_num_tokens {self.max_num_tokens} is less than max_batch_size "
                f"{self.max_batch_size}: a step holds a token of each output"
            )
        if max(self.cuda_graphs.batch_sizes, default=0) > self.max_batch_size:
            raise ValueError(
                f"cuda_graphs.batch_sizes go up to {max(self.cuda_graphs.batch_sizes)}, "
                f"max_batch_size is {self.max_batch_size}"
            )
        return self

    @staticmethod
    def _check_nodes(world: int, gpus_per_node: int) -> None:
        if world % gpus_per_node:
            raise ValueError(f"{world} GPUs are no whole number of nodes of {gpus_per_node}")
