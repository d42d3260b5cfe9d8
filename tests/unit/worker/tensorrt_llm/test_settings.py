"""What contradicts itself stops the start on any machine, by name."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tensor_parallel": 8, "expert_parallel": 3}, "expert_parallel 3 does not divide"),
        ({"tensor_parallel": 12, "gpus_per_node": 8}, "12 GPUs are no whole number of nodes of 8"),
        ({"max_num_tokens": 100, "max_batch_size": 200}, "less than max_batch_size 200"),
        ({"cuda_graphs": {"batch_sizes": (1, 512)}}, "go up to 512, max_batch_size is 256"),
        ({"cuda_graphs": {"batch_sizes": (0,)}}, "must be positive"),
        ({"cuda_graphs": {"batch_sizes": (1, 4), "max_batch_size": 8}}, "contradicts batch_sizes"),
        ({"kv_cache": {"block_tokens": 48}}, "power of two, not 48"),
        ({"kv_cache": {"reuse": False, "host_cache_bytes": 1}}, "need reuse"),
        ({"kv_cache": {"reuse": False, "prompt_priority": 50}}, "need reuse"),
        ({"kv_cache": {"retention_seconds": 60}}, "needs prompt_priority or answer_priority"),
        ({"kv_cache": {"free_memory_fraction": 1.0}}, "less than 1"),
        ({"speculative": {"method": "eagle3"}}, "method eagle3 needs draft_model"),
        ({"speculative": {"method": "ngram", "draft_model": Path("x")}}, "takes no draft_model"),
        ({"guided_decoding_backend": "outlines"}, "'llguidance', 'xgrammar' or 'none'"),
        (
            {"lora": {"max_gpu_adapters": 3, "max_host_adapters": 2}},
            "max_gpu_adapters 3 is more than max_host_adapters 2",
        ),
        ({"lora_adapters": {"sql": {}}}, r"lora_adapters\.sql\.path"),
        ({"lora_adapters": {"": {"path": "x"}}}, "at least 1 character"),
        ({"tensor_paralel": 2}, "tensor_paralel"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], message: str) -> None:
    """The sentence names setting and value."""
    with pytest.raises(ValidationError, match=message):
        TensorRtLlmSettings(**values)


def test_two_nodes() -> None:
    """Sixteen GPUs on two machines of eight."""
    settings = TensorRtLlmSettings(tensor_parallel=8, pipeline_parallel=2, gpus_per_node=8)

    assert settings.tensor_parallel * settings.pipeline_parallel == 16
