"""A dense decoder in plain numpy, straight from a GGUF's weights: slow, short, and our own.

It stands for what llama, qwen2 and qwen3 compute, independently of every converter. GGUF keeps
llama's queries and keys so that neighbouring values rotate together; in the other two families a
value rotates with the one half a head further.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tests.support.tiny_gguf import TinyGguf

Array = npt.NDArray[np.float64]
_EPSILON = 1e-5
_BASE = 10000.0


def logprobs(
    model: TinyGguf, weights: Mapping[str, Array], token_ids: Sequence[int], factors: Array
) -> Array:
    """Logarithms of the next token's probabilities at every position; one factor per rotation."""
    states = weights["token_embd.weight"][list(token_ids)]
    for layer in range(model.layers):
        own = {
            name.removeprefix(f"blk.{layer}."): value
            for name, value in weights.items()
            if name.startswith(f"blk.{layer}.")
        }
        states = states + _attention(model, own, _norm(states, own["attn_norm.weight"]), factors)
        inner = _norm(states, own["ffn_norm.weight"])
        gate = inner @ own["ffn_gate.weight"].T
        states = states + (gate / (1 + np.exp(-gate)) * (inner @ own["ffn_up.weight"].T)) @ (
            own["ffn_down.weight"].T
        )
    last = weights.get("output.weight", weights["token_embd.weight"])
    logits = _norm(states, weights["output_norm.weight"]) @ last.T
    logits = logits - logits.max(-1, keepdims=True)
    result: Array = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return result


def _attention(model: TinyGguf, own: Mapping[str, Array], states: Array, factors: Array) -> Array:
    length, size = len(states), model.head_size
    queries, keys, values = (
        (states @ own[f"attn_{name}.weight"].T + own.get(f"attn_{name}.bias", 0.0)).reshape(
            length, -1, size
        )
        for name in "qkv"
    )
    if "attn_q_norm.weight" in own:
        queries = _norm(queries, own["attn_q_norm.weight"])
        keys = _norm(keys, own["attn_k_norm.weight"])
    is_paired = model.architecture == "llama"
    queries = _rotated(queries, factors, is_paired=is_paired)
    keys = _rotated(keys, factors, is_paired=is_paired)
    shared = model.heads // model.kv_heads
    keys, values = np.repeat(keys, shared, 1), np.repeat(values, shared, 1)
    scores = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(size)
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    chances /= chances.sum(-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", chances, values).reshape(length, -1)
    result: Array = mixed @ own["attn_output.weight"].T
    return result


def _norm(states: Array, weight: Array) -> Array:
    result: Array = states / np.sqrt((states**2).mean(-1, keepdims=True) + _EPSILON) * weight
    return result


def _rotated(heads: Array, factors: Array, *, is_paired: bool) -> Array:
    length, _, size = heads.shape
    frequencies = _BASE ** (-2 * np.arange(size // 2) / size) / factors
    angles = np.arange(length)[:, None, None] * frequencies
    if is_paired:
        left, right = heads[..., 0::2], heads[..., 1::2]
    else:
        left, right = heads[..., : size // 2], heads[..., size // 2 :]
    turned = np.empty_like(heads)
    first = left * np.cos(angles) - right * np.sin(angles)
    second = right * np.cos(angles) + left * np.sin(angles)
    if is_paired:
        turned[..., 0::2], turned[..., 1::2] = first, second
    else:
        turned[..., : size // 2], turned[..., size // 2 :] = first, second
    return turned
