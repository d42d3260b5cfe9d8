"""Folders that look like OpenVINO models; their graph is never read here."""

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {"max_position_embeddings": 8, "vocab_size": 4, "eos_token_id": 1}
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "openvino_model.xml": b"<net/>",
    "openvino_model.bin": b"0123456789" * 100,
}


def write_folder(folder: Path, **config: object) -> Path:
    """A folder with every file; `config` changes entries of config.json."""
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    return folder
