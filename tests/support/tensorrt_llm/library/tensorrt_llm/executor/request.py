"""Requests as the executor takes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorrt_llm.double.machine import current
from tensorrt_llm.sampling_params import SamplingParams

_SOURCES = ("hf", "nemo")


@dataclass(slots=True)
class LoRARequest:
    """An adapter by path. Raises ValueError where the path does not exist.

    `lora_int_id` names the adapter in caches.
    """

    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    lora_ckpt_source: str = "hf"

    def __post_init__(self) -> None:
        if self.lora_ckpt_source not in _SOURCES:
            raise ValueError(f"lora_ckpt_source {self.lora_ckpt_source!r} is not in {_SOURCES}")
        if current().switches.checks_lora_path and not (
            self.lora_path and Path(self.lora_path).exists()
        ):
            raise ValueError(f"lora_path ({self.lora_path}) does not exist.")

    @property
    def adapter_id(self) -> int:
        """The id."""
        return self.lora_int_id

    @property
    def name(self) -> str:
        """The name."""
        return self.lora_name

    @property
    def path(self) -> str:
        """The path."""
        return self.lora_path


@dataclass(slots=True)
class GenerationRequest:
    """What `submit` takes."""

    id: int
    prompt_token_ids: list[int]
    sampling_params: SamplingParams
    streaming: bool
    lora_request: LoRARequest | None = None
    kv_cache_retention_config: Any = None
    cache_salt: str | None = None
    trace_headers: Mapping[str, str] | None = None
