"""What of a GGUF file can be served: the families and layouts that OpenVINO GenAI reads rightly.

GenAI's reader builds one graph for all families and passes over, without a word, what that graph
has no place for: such a model would answer, and wrongly. So every tensor and every entry of the
metadata that changes the arithmetic is accounted for here, or the file is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.models.refusal import UnservableError

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Families by GGUF's name, with Hugging Face's."""

ROTARY_FACTORS = "rope_freqs.weight"
"""Divisors of the rotary frequencies, as Llama 3.1 has them; the conversion applies them."""

_MATRIX_KINDS = frozenset({"F16", "Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K"})
_VECTOR_KINDS = frozenset({"F32", "F16"})
_REQUIRED = ("block_count", "context_length", "embedding_length", "feed_forward_length")
_REQUIRED_ATTENTION = ("head_count", "layer_norm_rms_epsilon")
_OUTER = {"token_embd.weight": True, "output_norm.weight": True, "output.weight": False}
_LAYER = (
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_output.weight",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
)
_OF_FAMILY = {
    "llama": (),
    "qwen2": ("attn_q.bias", "attn_k.bias", "attn_v.bias"),
    "qwen3": ("attn_q_norm.weight", "attn_k_norm.weight"),
}
_IN_LAYER = re.compile(r"blk\.\d+\.")


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's shape, rows first, and the name of its kind of numbers."""

    shape: tuple[int, ...]
    kind: str


def check_graph(metadata: Mapping[str, Any], tensors: Mapping[str, GgufTensor]) -> None:
    """Raise UnservableError, one sentence, for weights that cannot be served.

    `metadata` may lack what is an array: those entries take long to read.
    """
    family = metadata.get("general.architecture")
    if family not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UnservableError(f"the architecture is {family!r}; {known} can be read")
    if metadata.get("split.count", 1) > 1:
        raise UnservableError(
            f"the file is one of {metadata['split.count']} parts: join them first, "
            "with llama.cpp's gguf-split --merge"
        )
    _check_present(metadata, family)
    _check_attention(metadata, family)
    _check_tensors(metadata, tensors, family)


def _check_present(metadata: Mapping[str, Any], family: str) -> None:
    names = [f"{family}.{name}" for name in _REQUIRED]
    names += [f"{family}.attention.{name}" for name in _REQUIRED_ATTENTION]
    for name in (*names, "general.file_type"):
        if name not in metadata:
            raise UnservableError(f"the metadata lack {name}")


def _check_attention(metadata: Mapping[str, Any], family: str) -> None:
    experts = metadata.get(f"{family}.expert_count", 0)
    if experts:
        raise UnservableError(f"a mixture of {experts} experts cannot be served, dense models only")
    window = metadata.get(f"{family}.attention.sliding_window", 0)
    if window and window < metadata[f"{family}.context_length"]:
        raise UnservableError(
            f"sliding-window attention ({window} tokens) cannot be served, full attention only"
        )
    scaling = metadata.get(f"{family}.rope.scaling.type", "none")
    if scaling != "none":
        raise UnservableError(f"rotary scaling {scaling!r} cannot be served")
    size = head_size(metadata)
    turned = metadata.get(f"{family}.rope.dimension_count", size)
    if turned != size:
        raise UnservableError(f"only {turned} of {size} values of a head are rotated: not served")
    if metadata.get(f"{family}.attention.value_length", size) != size:
        raise UnservableError("keys and values of different lengths cannot be served")


def head_size(metadata: Mapping[str, Any]) -> int:
    """Values in one attention head."""
    family = metadata["general.architecture"]
    heads: int = metadata[f"{family}.attention.head_count"]
    size: int = metadata.get(
        f"{family}.attention.key_length", metadata[f"{family}.embedding_length"] // heads
    )
    return size


def _check_tensors(
    metadata: Mapping[str, Any], tensors: Mapping[str, GgufTensor], family: str
) -> None:
    layers = range(metadata[f"{family}.block_count"])
    inner = (*_LAYER, *_OF_FAMILY[family])
    expected = {f"blk.{layer}.{name}" for layer in layers for name in inner}
    expected |= {name for name, is_needed in _OUTER.items() if is_needed}
    missing = sorted(expected - tensors.keys())
    if missing:
        raise UnservableError(f"the file lacks the tensor {missing[0]}{_others(missing)}")
    unread = sorted(tensors.keys() - expected - _OUTER.keys() - {ROTARY_FACTORS})
    if unread:
        raise UnservableError(
            f"the tensor {unread[0]}{_others(unread)} has no place in a {family} model as "
            "OpenVINO GenAI reads it: the answers would be wrong"
        )
    for name, tensor in tensors.items():
        _check_kind(name, tensor)


def _check_kind(name: str, tensor: GgufTensor) -> None:
    is_matrix = len(tensor.shape) > 1
    known = _MATRIX_KINDS if is_matrix else _VECTOR_KINDS
    if tensor.kind not in known:
        raise UnservableError(
            f"the tensor {name} is {tensor.kind}; OpenVINO GenAI reads "
            f"{', '.join(sorted(known))} {'there' if is_matrix else 'in vectors'}"
        )


def check_vocabulary(num_tokens: int, tensors: Mapping[str, GgufTensor]) -> None:
    """Raise UnservableError where tokenizer and weights are of different models."""
    for name in ("token_embd.weight", "output.weight"):
        rows = tensors[name].shape[0] if name in tensors else num_tokens
        if rows != num_tokens:
            raise UnservableError(
                f"the tokenizer has {num_tokens} tokens, {name} has {rows} rows: "
                "they are not of the same model"
            )


def _others(names: list[str]) -> str:
    kinds = {_IN_LAYER.sub("", name) for name in names}
    return f" (and {len(names) - 1} more of {len(kinds)} kinds)" if len(names) > 1 else ""
