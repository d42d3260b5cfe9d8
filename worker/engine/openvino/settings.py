"""Settings of the openvino engine."""

from typing import Literal

from pydantic import Field

from headrace.runtime.settings import SettingsGroup


class OpenVinoSettings(SettingsGroup):
    """The embedded CPU engine; table [worker.openvino]."""

    numerics: Literal["fast", "reproducible"] = "fast"
    """fast: OpenVINO's defaults; reproducible: f32 everywhere, text independent of the batch."""

    kv_cache_bytes: int | None = Field(default=None, ge=1 << 20)
    """Bytes of KV cache; unset: a quarter of the memory this process may use, at most 1 GiB."""

    prefix_cache: bool = True
    """Keep the blocks of prompts and answers for requests that begin alike."""

    max_num_sequences: int = Field(default=256, ge=1, le=4096)
    """Outputs that compute at the same time; more wait in the queue."""

    max_queued_outputs: int = Field(default=1024, ge=0)
    """Outputs that may wait beyond those that compute; more are refused as overloaded."""

    max_batch_tokens: int = Field(default=512, ge=32)
    """Prompt tokens fed in one step while nothing decodes."""

    target_step_ms: int = Field(default=100, ge=1)
    """Milliseconds that a step may take while anything decodes; prompts are cut to keep it."""

    priority_step_seconds: float = Field(default=30.0, gt=0)
    """Seconds of waiting that weigh as much as one point of priority, so that nothing starves."""

    guide_max_bytes: int = Field(default=1_048_576, ge=1, le=1 << 24)
    """Bytes of a guide's text; longer ones are refused. Guides of calls spell all functions out."""

    guide_compile_seconds: float = Field(default=5.0, gt=0, le=600)
    """Seconds to compile a guide, beyond which it is refused, and as many to wait for a turn."""

    num_threads: int | None = Field(default=None, ge=1)
    """Threads that compute; unset: OpenVINO's choice, one a core."""
