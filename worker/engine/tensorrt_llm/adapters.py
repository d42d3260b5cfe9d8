"""LoRA adapters: what their own files say, checked before the library loads anything.

The library's own look at an adapter comes with its first request, minutes after the start. Its
caches know an adapter by a number alone: two of one number would be one adapter.
Source of the files: Hugging Face PEFT's adapter_config.json; of modules' names: TensorRT-LLM 1.2.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.runtime.errors import StartError
from worker.engine.tensorrt_llm.settings import LoraSettings, TensorRtLlmSettings

_WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_HIGHEST_NUMBER = (1 << 31) - 1
_MODULES: Mapping[str, str] = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "qkv_proj": "attn_qkv",
    "o_proj": "attn_dense",
    "gate_proj": "mlp_h_to_4h",
    "up_proj": "mlp_gate",
    "down_proj": "mlp_4h_to_h",
    "gate_up_proj": "mlp_gate_up",
}
"""Hugging Face's names of modules, and the library's."""
_ATTENTION = frozenset(("attn_q", "attn_k", "attn_v"))


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter as its files say; `modules` by the library's names, `number` is its cache key."""

    name: str
    number: int
    path: Path
    modules: frozenset[str]


def read_adapters(settings: TensorRtLlmSettings, model: str) -> tuple[Adapter, ...]:
    """The configured adapters by name, checked against their bounds.

    Raises StartError, one sentence that names adapter, bound and value.
    """
    table = settings.lora_adapters
    if model in table:
        raise StartError(f"lora_adapters: `{model}` is the base model's own served name")
    numbers = adapter_numbers(table)
    return tuple(
        _read(name, numbers[name], table[name].path, settings.lora) for name in sorted(table)
    )


def adapter_numbers(names: Iterable[str]) -> dict[str, int]:
    """A number above 0 for each name: the name's own, whatever others there are.

    Where two names want the same one, the later of them in order takes the next that is free.
    """
    numbers: dict[str, int] = {}
    for name in sorted(names):
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "little") % _HIGHEST_NUMBER + 1
        while number in numbers.values():
            number = number % _HIGHEST_NUMBER + 1
        numbers[name] = number
    return numbers


def lora_values(adapters: Sequence[Adapter], settings: LoraSettings) -> dict[str, Any]:
    """Fields of LoraConfig. With several adapters the library wants modules, not folders.

    What attends is changed as a whole or not at all; it fills in zeros where an adapter has none.
    """
    modules = frozenset(settings.target_modules).union(*(one.modules for one in adapters))
    if modules & _ATTENTION:
        modules |= _ATTENTION
    return {
        "lora_target_modules": sorted(modules),
        "max_lora_rank": settings.max_rank,
        "max_loras": min(settings.max_gpu_adapters or len(adapters), len(adapters)),
        "max_cpu_loras": min(settings.max_host_adapters or len(adapters), len(adapters)),
    }


def _read(name: str, number: int, path: Path, bounds: LoraSettings) -> Adapter:
    where = f"lora_adapters: `{name}`"
    if not path.is_dir():
        raise StartError(f"{where}: {path} is no directory")
    if not (path / _WEIGHTS).is_file():
        raise StartError(f"{where}: {path} has no {_WEIGHTS}")
    if (path / _PICKLE).exists():
        # Which of the two the library reads is its own choice.
        raise StartError(f"{where}: {path} has {_PICKLE}, a pickle, which can hold code: remove it")
    config = _config(where, path / "adapter_config.json")
    _check_kind(where, config)
    rank = _rank(where, config)
    if rank > bounds.max_rank:
        raise StartError(f"{where} has rank {rank}; lora.max_rank is {bounds.max_rank}")
    return Adapter(name, number, path, _modules(where, config, bounds))


def _check_kind(where: str, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise StartError(f"{where} is no LoRA adapter: its peft_type is {kind}")
    for field in ("modules_to_save", "use_dora"):
        if config.get(field):
            raise StartError(f"{where} has {field}, without which it would write another text")


def _config(where: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StartError(f"{where}: {file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise StartError(f"{where}: {file} does not hold a JSON object")
    return content


def _rank(where: str, config: Mapping[str, Any]) -> int:
    pattern = config.get("rank_pattern") or {}
    given = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    ranks = [rank for rank in given if isinstance(rank, int) and rank > 0]
    if len(ranks) < len(given):
        raise StartError(f"{where}: its adapter_config.json gives no rank `r`")
    return max(ranks)


def _modules(where: str, config: Mapping[str, Any], bounds: LoraSettings) -> frozenset[str]:
    """None of them where the operator has named them for all."""
    if bounds.target_modules:
        return frozenset()
    named = config.get("target_modules")
    if not (isinstance(named, list) and named):
        raise StartError(
            f"{where}: its adapter_config.json lists no target_modules; name them in "
            "lora.target_modules"
        )
    unknown = sorted(str(module) for module in named if module not in _MODULES)
    if unknown:
        raise StartError(
            f"{where} changes {', '.join(unknown)}, whose name in TensorRT-LLM is not known here; "
            "name all modules in lora.target_modules"
        )
    return frozenset(_MODULES[module] for module in named)
