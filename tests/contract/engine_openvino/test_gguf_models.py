"""Tiny models of every family that is read from GGUF, served and held to plain arithmetic."""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from headrace.models.directory import open_model_directory
from headrace.models.gguf_conversion import convert
from tests.contract.engine_openvino.probe import opened
from tests.support.reference_decoder import Array, logprobs
from tests.support.tiny_gguf import TinyGguf

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="session")]

_FACTORS = np.array([1, 1, 1, 2, 4, 8, 8, 8], np.float32)
_KINDS = gguf.GGMLQuantizationType
_QUANTA = {_KINDS.Q4_1: (4, 16), _KINDS.Q4_K: (16, 128), _KINDS.Q6_K: (0, 192)}
"""Where in a block the values stand, and in how many bytes."""

MODELS = {
    "llama": TinyGguf(),
    "llama, Q8_0": TinyGguf(file_type=7),
    "llama, Q4_0": TinyGguf(file_type=2, matrix_kind=_KINDS.Q4_0),
    "llama, Q4_1": TinyGguf(file_type=3, matrix_kind=_KINDS.Q4_1),
    "llama, Q4_K and Q6_K": TinyGguf(
        file_type=15,
        hidden=256,
        heads=16,
        feed_forward=256,
        matrix_kind=_KINDS.Q4_K,
        embedding_kind=_KINDS.Q6_K,
    ),
    "llama 3.1": TinyGguf(pre="llama-bpe", extra={"rope_freqs.weight": _FACTORS}),
    "qwen2": TinyGguf("qwen2", "qwen2"),
    "qwen2, Q8_0": TinyGguf("qwen2", "qwen2", file_type=7),
    "qwen3": TinyGguf("qwen3", "qwen2"),
    "qwen3, wide heads": TinyGguf("qwen3", "qwen2", head_size=32),
}


@pytest.mark.parametrize("name", MODELS)
async def test_a_converted_model_computes_what_its_weights_say(name: str, tmp_path: Path) -> None:
    """After 100 tokens of prompt four greedy tokens have the probabilities of plain arithmetic."""
    model = MODELS[name]
    source = model.write(tmp_path / "tiny.gguf")
    (tmp_path / "tiny").mkdir()
    convert(source, tmp_path / "tiny")
    prompt = np.random.default_rng(3).integers(3, 390, 100).tolist()
    async with opened(open_model_directory(tmp_path / "tiny"), kv_cache_bytes=4 << 20) as probe:
        answer = await probe.generate(prompt, max_tokens=4, ignore_eos=True, logprobs=20)

    weights = {tensor.name: _values(tensor) for tensor in gguf.GGUFReader(source).tensors}
    if model.file_type == 1:
        # Where the matrices are in 16 bits, OpenVINO saves the vectors so, too.
        weights = {name: value.astype(np.float16).astype(float) for name, value in weights.items()}
    factors = weights.get("rope_freqs.weight", np.ones(model.head_size // 2))
    expected = logprobs(model, weights, prompt + answer.token_ids, factors)[99:103]
    assert answer.token_ids == expected.argmax(-1).tolist()
    for entry, row in zip(answer.logprobs, expected, strict=True):
        found = dict(entry.top)
        assert len(found) == 20
        difference = max(abs(found[token_id] - row[token_id]) for token_id in found)
        assert difference < 2e-4


def _values(tensor: gguf.ReaderTensor) -> Array:
    """The tensor's numbers as OpenVINO GenAI takes them.

    Of blocks the scales are in 16 bits and the offsets rounded to whole steps.
    """
    values = _decoded(tensor, tensor.data)
    if tensor.tensor_type not in _QUANTA:
        return values
    where, size = _QUANTA[tensor.tensor_type]
    _, block_bytes = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
    blocks = tensor.data.reshape(-1, block_bytes).copy()
    blocks[:, where : where + size] = 0
    offsets = _decoded(tensor, blocks.reshape(tensor.data.shape))
    blocks[:, where : where + size] = 0x11
    if tensor.tensor_type == _KINDS.Q6_K:
        scales = offsets / -32
    else:
        scales = _decoded(tensor, blocks.reshape(tensor.data.shape)) - offsets
    steps = np.round((values - offsets) / scales)
    narrow = scales.astype(np.float16).astype(np.float64)
    # Half a step is rounded up, not to the even neighbour.
    result: Array = (steps - np.floor(0.5 - offsets.astype(np.float16) / narrow)) * narrow
    return result


def _decoded(tensor: gguf.ReaderTensor, data: npt.NDArray[np.uint8]) -> Array:
    result: Array = gguf.quants.dequantize(data, tensor.tensor_type).astype(np.float64)
    return result
