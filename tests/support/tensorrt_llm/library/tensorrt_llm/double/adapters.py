"""LoRA adapters in the worker: loaded at first use and known by their id from then on.

Without a LoraConfig there is no manager, and a request's adapter is dropped in silence. A second
path under an id that is known is never looked at: that id's weights are there already.
"""

import json
from pathlib import Path
from typing import Any

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


class AdapterError(Exception):
    """An adapter that cannot be loaded."""


class AdapterStore:
    """The adapters of one LLM. Raises AssertionError where no module is known to change."""

    def __init__(self, config: Any) -> None:
        self._is_on = config is not None
        self._loaded: dict[int, str] = {}
        if config is None:
            return
        modules = list(config.lora_target_modules)
        if len(config.lora_dir) == 1 and not modules:
            # One folder stands for all; of several none is looked into.
            modules = _read(config.lora_dir[0]).get("target_modules", [])
        assert modules, "Expecting at least one lora target module"

    def loaded(self, request: Any) -> tuple[int, str]:
        """Id and path of what computes a request; 0 and nothing without an adapter.

        Raises AdapterError.
        """
        if not self._is_on or request is None:
            return 0, ""
        number = request.lora_int_id
        if number not in self._loaded:
            if not any((Path(request.lora_path) / name).is_file() for name in _WEIGHTS):
                raise AdapterError(f"Failed to load LoRA from {request.lora_path}")
            _read(request.lora_path)
            self._loaded[number] = request.lora_path
        return number, self._loaded[number]


def _read(path: str) -> dict[str, Any]:
    try:
        content = json.loads((Path(path) / "adapter_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise AdapterError(f"Failed to load LoRA from {path}: {error}") from error
    return dict(content)
