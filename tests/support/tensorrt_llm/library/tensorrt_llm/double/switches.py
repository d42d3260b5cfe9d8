"""The switches of the double: one field a behaviour or a variant, with the real 1.2's as default.

The table in README.md names each of them; a test holds the two together.
"""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

FinishReason: TypeAlias = Literal["stop", "length", "timeout", "cancelled", "not_finished"]
Keyword: TypeAlias = Literal["trace_headers", "cache_salt", "scheduling_params"]
SamplerField: TypeAlias = Literal[
    "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "min_p"
]
FatalError: TypeAlias = Literal["CppExecutorError", "RuntimeError", "AssertionError", "EOFError"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(_Frozen):
    """Something that goes wrong; see `kind`."""

    kind: Literal["submit", "request", "all_active", "fatal"]
    """Where: raised by generate_async; one request; all active requests; the whole executor."""
    message: str = "the double was told to fail"
    step: int = Field(default=1, ge=1)
    """At which of the request's responses, from 1; that response is lost."""
    request: int | None = Field(default=None, ge=0)
    """Which request, in the order of submission from 0; None: every one."""
    error: FatalError = "CppExecutorError"
    """Class of a fatal error."""


class ModelFacts(_Frozen):
    """What a model directory would say, for a model that has none."""

    vocabulary_size: int = Field(default=50_000, ge=64)
    end_token_ids: tuple[int, ...] = (2,)
    """The first is the tokenizer's eos token, the others stand in generation_config.json only."""
    max_seq_len: int = Field(default=4096, ge=2)


class Switches(_Frozen):
    """All switches; the number before a comment is the behaviour of the contract's section 9."""

    # The machine and its model
    seed: int = 0
    model: ModelFacts | None = None
    gpus: int = Field(default=1, ge=0)
    compute_capability: tuple[int, int] = (9, 0)
    kv_blocks: int = Field(default=1024, ge=4)
    block_bytes: int = Field(default=1 << 20, ge=1)
    iteration_seconds: float = Field(default=0.0005, ge=0)
    held: bool = False

    # 1 configuration and construction
    rejects_unknown_fields: bool = True
    construction_seconds: float = Field(default=0.01, ge=0)
    construction_held: bool = False
    construction_error: str | None = None
    writes_to_stdout: bool = True

    # 2 sampling parameters
    validates_sampling: bool = True

    # 3 submission
    requires_running_loop: bool = True
    mutates_sampling_params: bool = True
    refuses_long_prompts: bool = True

    # 4 results
    shares_result: bool = True

    # 5 several tokens a step, or none
    tokens_per_step: tuple[int, int] = (1, 1)
    ends_with_empty_step: bool = False

    # 6 several outputs
    interleaving: Literal["random", "ordered"] = "random"
    stale_diffs: bool = True
    finish_reason_per: Literal["sequence", "request"] = "sequence"

    # 7 ends
    trims_stop_words: bool = True
    trims_logprobs: bool = False
    keeps_end_id: bool = True
    text_stop_aborts: bool = False
    ignore_eos_drops_stop_words: bool = False
    min_tokens_holds_stop_words: bool = True

    # 8 log probabilities
    zero_logprobs_is_none: bool = True
    logprobs_shape: Literal["dict", "float"] = "dict"
    minus_inf_every: int = Field(default=0, ge=0)
    sampled_id_missing_every: int = Field(default=0, ge=0)
    logprobs_not_asked: Literal["empty", "none"] = "empty"
    logprobs_after_bias: bool = False
    prompt_logprobs_name_prompt: bool = False

    # 9 finish reasons
    forced_finish_reason: FinishReason | Literal["unset"] | None = None

    # 10 abort
    abort_delay_iterations: int = Field(default=1, ge=0)
    queued_abort_is_silent: bool = True
    abort_ignored_iterations: int = Field(default=0, ge=0)
    aborts_until_wedged: int = Field(default=0, ge=0)

    # 11 dropped iterators
    drop_keeps_generating: bool = True

    # 12 errors
    faults: tuple[Fault, ...] = ()
    finished_after_error: bool = False
    fatal_surfaces: Literal["one", "none"] = "one"
    rejects_unprocessed_stops: bool = True

    # 13 reuse
    salts_separate: bool = True
    counts_partial_reuse: bool = False

    # 14 events and statistics
    before_first_request: Literal["assert", "empty"] = "assert"
    rearms_iterators: Literal["request", "poll"] = "request"
    high_hashes: bool = True
    partial_block_events: bool = True
    event_windows: tuple[int, ...] = ()
    event_rank: int | None = None
    event_gap_every: int = Field(default=0, ge=0)
    none_diffs: bool = False

    # 15 guides
    drops_guides_without_backend: bool = True
    guide_error: str | None = None

    # 16 what the sampler honours
    torch_sampler_honours: frozenset[SamplerField] = frozenset()
    honours_bad_words: bool = False

    # 17 LoRA and health
    checks_lora_path: bool = True
    has_check_health: bool = False

    # 18 shutdown
    shutdown_seconds: float = Field(default=0.0, ge=0)
    shutdown_hangs: bool = False

    # 19 performance metrics
    gives_perf_metrics: bool = True

    # 20 variants of the surface
    missing_keywords: frozenset[Keyword] = frozenset()
    draft_field: Literal["speculative_model", "speculative_model_dir"] = "speculative_model"
    version: str = "1.2.1"
