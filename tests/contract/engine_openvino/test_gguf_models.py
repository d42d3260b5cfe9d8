"""Tiny models of every family that is read from GGUF, served and held to plain arithmetic."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from headrace.models.directory import open_model_directory
from headrace.models.gguf_conversion import convert
from tests.contract.engine_openvino.probe import opened
from tests.support.reference_decoder import Array, logprobs
from tests.support.tiny_gguf import TinyGguf

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="session")]

_FACTORS = np.array([1, 1, 1, 2, 4, 8, 8, 8], np.float32)
_KINDS = gguf.GGMLQuantizationType
MODELS = {
    "llama": TinyGguf(),
    "llama, Q8_0": TinyGguf(file_type=7),
    "llama, Q4_0": TinyGguf(file_type=2, matrix_kind=_KINDS.Q4_0),
    "llama, Q4_1": TinyGguf(file_type=3, matrix_kind=_KINDS.Q4_1),
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
    factors = weights.get("rope_freqs.weight", np.ones(model.head_size // 2))
    expected = logprobs(model, weights, prompt + answer.token_ids, factors)[99:103]
    assert answer.token_ids == expected.argmax(-1).tolist()
    for entry, row in zip(answer.logprobs, expected, strict=True):
        found = dict(entry.top)
        assert len(found) == 20
        difference = max(abs(found[token_id] - row[token_id]) for token_id in found)
        assert difference < 0.01


def _values(tensor: gguf.ReaderTensor) -> Array:
    """The tensor's numbers; Q4_1's with the offset of each block as OpenVINO GenAI rounds it."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
    if tensor.tensor_type != _KINDS.Q4_1:
        return values
    blocks = tensor.data.reshape(-1, 20)
    scales, offsets = blocks[:, :4].copy().view(np.float16).astype(np.float64).T
    rounded = np.round(-offsets / scales) * -scales
    result: Array = (values.reshape(-1, 32) + (rounded - offsets)[:, None]).reshape(values.shape)
    return result
