"""What config.json tells of a model that the CPU engine cannot run; the graph tells the rest.

Dense decoders with full attention are served. A model with another attention may well compile, and
then answers as if all of its layers saw everything.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.models.directory import open_model_directory, read_chat_template, read_json_object
from headrace.models.refusal import UnservableError

NEEDED_FILES = ("config.json", "tokenizer.json", "openvino_model.xml", "openvino_model.bin")
OPTIONAL_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
)
LAYOUT_FILES = (*NEEDED_FILES, *OPTIONAL_FILES)
"""What a model directory holds; nothing else of a folder or a repository is taken."""

_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def check_layout(folder: Path) -> None:
    """Raise UnservableError for a folder that is no OpenVINO model with tokenizer and template."""
    for name in NEEDED_FILES:
        if not (folder / name).is_file():
            raise UnservableError(f"{name} is missing: it is no model directory for OpenVINO")
    open_model_directory(folder)
    check_configuration(read_json_object(folder / "config.json"))
    if not read_chat_template(folder):
        raise UnservableError(
            "it has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json)"
        )


def check_configuration(document: Mapping[str, Any]) -> None:
    """Raise UnservableError for an architecture that is no dense decoder with full attention."""
    config = document.get("text_config", document)
    if config.get("is_encoder_decoder"):
        raise UnservableError("an encoder-decoder model cannot be served, decoders only")
    for key in _EXPERT_COUNTS:
        count = config.get(key)
        if isinstance(count, int) and count > 1:
            raise UnservableError(
                f"a mixture of experts ({key} is {count}) cannot be served, dense models only"
            )
    kinds = set(config.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        raise UnservableError(
            f"layers of the type {', '.join(sorted(kinds))} cannot be served, full attention only"
        )
    window = config.get("sliding_window")
    is_used = config.get("use_sliding_window", True) and not config.get("layer_types")
    if isinstance(window, int) and is_used and window < config["max_position_embeddings"]:
        raise UnservableError(
            f"sliding-window attention (sliding_window is {window}) cannot be served, "
            "full attention only"
        )
