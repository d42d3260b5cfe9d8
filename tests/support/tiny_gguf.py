"""Tiny GGUF files with random weights: llama, qwen2 and qwen3 as OpenVINO GenAI reads them.

GenAI's reader takes matrices of 16-bit floats or of the quantised kinds, vectors of 32-bit floats,
and insists on `general.file_type`; rows of quantised matrices are multiples of 32.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.tokenizer_models import SPECIAL_TOKENS, TEMPLATE, train_tokenizer

_F16, _Q8_0 = 1, 7
_CONTROL = 3
_KINDS = {_F16: gguf.GGMLQuantizationType.F16, _Q8_0: gguf.GGMLQuantizationType.Q8_0}


@dataclass(frozen=True, slots=True)
class TinyGguf:
    """What to write; the defaults make a model that can be served.

    `changes` replaces metadata by key (None: leave it out); tensors named in `drop` are left out,
    those in `extra` are written as well, as vectors.
    """

    architecture: str = "llama"
    pre: str = "smollm"
    file_type: int = _F16
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 16
    hidden: int = 64
    feed_forward: int = 96
    context: int = 128
    embedding_rows: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    extra: Mapping[str, npt.ArrayLike] = field(default_factory=dict)
    matrix_kind: gguf.GGMLQuantizationType | None = None
    embedding_kind: gguf.GGMLQuantizationType | None = None

    def write(self, path: Path) -> Path:
        """Write the file; the same fields give the same bytes."""
        writer = gguf.GGUFWriter(path, self.architecture)
        metadata = {**self.metadata(), **self.changes}
        for key, value in metadata.items():
            if value is not None:
                _add(writer, key, value)
        kind = self.matrix_kind or _KINDS[self.file_type]
        for name, values in self.tensors().items():
            if name in self.drop:
                continue
            if values.ndim == 1:
                writer.add_tensor(name, values)
            else:
                own = (self.embedding_kind or kind) if name == "token_embd.weight" else kind
                writer.add_tensor(name, _encoded(values, own), raw_dtype=own)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def metadata(self) -> dict[str, Any]:
        """What the file says of itself but for its architecture and `changes`."""
        document = train_tokenizer()
        vocab: dict[str, int] = document["model"]["vocab"]
        tokens = sorted(vocab, key=vocab.__getitem__)
        merges = [" ".join(pair) for pair in document["model"]["merges"]]
        of = self.architecture
        return {
            "general.file_type": self.file_type,
            f"{of}.block_count": self.layers,
            f"{of}.context_length": self.context,
            f"{of}.embedding_length": self.hidden,
            f"{of}.feed_forward_length": self.feed_forward,
            f"{of}.attention.head_count": self.heads,
            f"{of}.attention.head_count_kv": self.kv_heads,
            f"{of}.attention.key_length": self.head_size,
            f"{of}.attention.value_length": self.head_size,
            f"{of}.attention.layer_norm_rms_epsilon": 1e-5,
            f"{of}.rope.freq_base": 10000.0,
            f"{of}.rope.dimension_count": self.head_size,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [
                _CONTROL if token in SPECIAL_TOKENS else 1 for token in tokens
            ],
            "tokenizer.ggml.merges": merges,
            "tokenizer.ggml.bos_token_id": vocab["<|im_start|>"],
            "tokenizer.ggml.eos_token_id": vocab["<|im_end|>"],
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.chat_template": TEMPLATE,
        }

    def tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """All weights by name, rows first, before they are made narrower."""
        num_tokens = len(self.metadata()["tokenizer.ggml.tokens"])
        random = np.random.default_rng(7)

        def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
            return random.normal(0, 0.2, (rows, columns)).astype(np.float32)

        def vector(size: int) -> npt.NDArray[np.float32]:
            return random.normal(1, 0.2, size).astype(np.float32)

        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        tensors = {
            "token_embd.weight": matrix(self.embedding_rows or num_tokens, self.hidden),
            "output_norm.weight": vector(self.hidden),
        }
        for layer in range(self.layers):
            named = {
                "attn_norm.weight": vector(self.hidden),
                "attn_q.weight": matrix(queries, self.hidden),
                "attn_k.weight": matrix(keys, self.hidden),
                "attn_v.weight": matrix(keys, self.hidden),
                "attn_output.weight": matrix(self.hidden, queries),
                "ffn_norm.weight": vector(self.hidden),
                "ffn_gate.weight": matrix(self.feed_forward, self.hidden),
                "ffn_up.weight": matrix(self.feed_forward, self.hidden),
                "ffn_down.weight": matrix(self.hidden, self.feed_forward),
            }
            if self.architecture == "qwen2":
                sizes = {"attn_q.bias": queries, "attn_k.bias": keys, "attn_v.bias": keys}
                named |= {name: matrix(1, size)[0] for name, size in sizes.items()}
            if self.architecture == "qwen3":
                named |= {name: vector(self.head_size) for name in _NORMS}
            tensors |= {f"blk.{layer}.{name}": value for name, value in named.items()}
        return tensors | {k: np.asarray(v, np.float32) for k, v in self.extra.items()}


_NORMS = ("attn_q_norm.weight", "attn_k_norm.weight")


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _encoded(
    values: npt.NDArray[np.float32], kind: gguf.GGMLQuantizationType
) -> npt.NDArray[np.uint8]:
    """The values as bytes; of K-quants, for which there is no encoder, random ones of that size."""
    makers = {
        gguf.GGMLQuantizationType.Q4_K: _random_q4_k,
        gguf.GGMLQuantizationType.Q6_K: _random_q6_k,
    }
    if kind not in makers:
        encoded: npt.NDArray[np.uint8] = gguf.quants.quantize(values, kind)
        return encoded
    rows, columns = values.shape
    return makers[kind](rows * columns // 256).reshape(rows, -1)


def _random_q4_k(num_blocks: int) -> npt.NDArray[np.uint8]:
    """Scale, offset, eight 6-bit pairs of both, 256 values of 4 bits; offsets of 1 to 8 steps."""
    random = np.random.default_rng(num_blocks)
    blocks = random.integers(0, 256, (num_blocks, 144), np.uint8)
    blocks[:, :4] = np.array([5e-4, 1e-3], np.float16).view(np.uint8)
    # The upper bits belong to the last four pairs: 16 and more each.
    blocks[:, 4:12] = random.integers(16, 64, (num_blocks, 8)) | 0x40
    return blocks


def _random_q6_k(num_blocks: int) -> npt.NDArray[np.uint8]:
    """256 values of 6 bits, a byte of scale for each 16, one scale for all."""
    random = np.random.default_rng(num_blocks)
    blocks = random.integers(0, 256, (num_blocks, 210), np.uint8)
    blocks[:, 192:208] = random.integers(8, 64, (num_blocks, 16))
    blocks[:, 208:] = np.array([3e-4], np.float16).view(np.uint8)
    return blocks
