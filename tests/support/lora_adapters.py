"""Directories of LoRA adapters in Hugging Face's layout, without weights that anybody reads."""

import json
from collections.abc import Sequence
from pathlib import Path


def write_adapter(
    folder: Path, *, rank: int = 8, modules: Sequence[str] = ("q_proj", "v_proj"), **more: object
) -> Path:
    """Write an adapter; `more` goes into its adapter_config.json."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "target_modules": list(modules), **more}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder
