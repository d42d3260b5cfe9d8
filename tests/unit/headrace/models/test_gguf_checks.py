from typing import Any

import pytest

from headrace.models.gguf_checks import (
    ROTARY_FACTORS,
    GgufTensor,
    check_graph,
    check_vocabulary,
    head_size,
)
from headrace.models.refusal import UnservableError
from tests.support.tiny_gguf import TinyGguf

FAMILIES = ("llama", "qwen2", "qwen3")


def parts(family: str = "llama") -> tuple[dict[str, Any], dict[str, GgufTensor]]:
    tiny = TinyGguf(family)
    tensors = {
        name: GgufTensor(values.shape, "F16" if values.ndim > 1 else "F32")
        for name, values in tiny.tensors().items()
    }
    return {"general.architecture": family, **tiny.metadata()}, tensors


@pytest.mark.parametrize("family", FAMILIES)
def test_the_three_families_are_taken(family: str) -> None:
    """With their own tensors, a separate output matrix and Llama 3.1's rotary factors."""
    metadata, tensors = parts(family)
    check_graph(metadata, tensors)
    tensors["output.weight"] = tensors["token_embd.weight"]
    tensors[ROTARY_FACTORS] = GgufTensor((8,), "F32")
    check_graph(metadata, tensors)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "gemma3", "the architecture is 'gemma3'; llama, qwen2, qwen3"),
        ("general.architecture", None, "the architecture is None"),
        ("general.file_type", None, "the metadata lack general.file_type"),
        ("llama.context_length", None, "the metadata lack llama.context_length"),
        ("llama.attention.head_count", None, "the metadata lack llama.attention.head_count"),
        ("split.count", 3, "one of 3 parts: join them first"),
        ("llama.expert_count", 8, "a mixture of 8 experts"),
        ("llama.attention.sliding_window", 64, r"sliding-window attention \(64 tokens\)"),
        ("llama.rope.scaling.type", "yarn", "rotary scaling 'yarn' cannot be served"),
        ("llama.rope.dimension_count", 8, "only 8 of 16 values of a head are rotated"),
        ("llama.attention.value_length", 8, "keys and values of different lengths"),
    ],
)
def test_what_changes_the_arithmetic_is_refused(key: str, value: object, message: str) -> None:
    """What the reader passes over in silence is refused by name."""
    metadata, tensors = parts()
    metadata[key] = value
    if value is None:
        del metadata[key]

    with pytest.raises(UnservableError, match=message):
        check_graph(metadata, tensors)


def test_a_window_as_long_as_the_context_is_none() -> None:
    """Then every token sees every other."""
    metadata, tensors = parts()
    check_graph(metadata | {"llama.attention.sliding_window": 128}, tensors)


@pytest.mark.parametrize(
    "name", ["output.bias", "blk.0.attn_q.bias", "blk.1.ffn_gate_inp.weight", "blk.0.attn_sinks"]
)
def test_a_tensor_that_nobody_would_read_is_refused(name: str) -> None:
    """A graph without it computes something else."""
    metadata, tensors = parts()
    tensors[name] = GgufTensor((4,), "F32")

    with pytest.raises(UnservableError, match=f"the tensor {name} has no place in a llama model"):
        check_graph(metadata, tensors)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_needed(family: str) -> None:
    """Whichever is left out is named."""
    metadata, tensors = parts(family)
    for name in tensors:
        fewer = {key: value for key, value in tensors.items() if key != name}
        with pytest.raises(UnservableError, match=f"lacks the tensor {name}"):
            check_graph(metadata, fewer)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("blk.0.attn_q.weight", "Q5_K"),
        ("blk.1.ffn_up.weight", "F32"),
        ("token_embd.weight", "BF16"),
        ("token_embd.weight", "IQ4_XS"),
        ("output_norm.weight", "BF16"),
    ],
)
def test_numbers_that_cannot_be_read_are_refused(name: str, kind: str) -> None:
    """The sentence names the tensor and its kind."""
    metadata, tensors = parts()
    tensors[name] = GgufTensor(tensors[name].shape, kind)

    with pytest.raises(UnservableError, match=f"the tensor {name} is {kind}; OpenVINO GenAI reads"):
        check_graph(metadata, tensors)


@pytest.mark.parametrize("name", ["token_embd.weight", "output.weight"])
def test_a_tokenizer_of_another_model_is_refused(name: str) -> None:
    """Rows of the first and the last matrix are as many as tokens."""
    _, tensors = parts()
    tensors[name] = GgufTensor((7, 64), "F16")

    with pytest.raises(UnservableError, match=f"{name} has 7 rows: they are not of the same"):
        check_vocabulary(8 if name == "token_embd.weight" else len(TOKENS), tensors)


TOKENS = TinyGguf().metadata()["tokenizer.ggml.tokens"]


def test_the_heads_size_is_given_or_follows() -> None:
    """Without key_length heads share the embedding's length."""
    metadata, _ = parts()
    assert head_size(metadata) == 16
    del metadata["llama.attention.key_length"]
    assert head_size(metadata | {"llama.embedding_length": 96}) == 24
