"""Settings become arguments that the library accepts, under the names of this build."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.runtime.errors import StartError
from tests.support.models import fake_model
from tests.support.tensorrt_llm import importable
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.llm_arguments import llm_arguments, retention
from worker.engine.tensorrt_llm.settings import KvCacheSettings, TensorRtLlmSettings

with importable():
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import Switches


@pytest.fixture
def built(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Builds the library's own checked arguments of some settings."""
    switches = {"gpus": 16, **getattr(request, "param", {})}
    with importable(), using(Switches(**switches)):
        configs = open_library().configs

        def build(**values: Any) -> Any:
            arguments = llm_arguments(TensorRtLlmSettings(**values), fake_model(), configs)
            return configs.TorchLlmArgs(**arguments)

        yield build


def test_defaults(built: Any) -> None:
    """Those that matter are told, whatever the library's are."""
    args = built()

    assert (args.model, args.max_seq_len) == ("/nonexistent", 4096)
    assert (args.max_batch_size, args.max_num_tokens) == (256, 8192)
    assert args.enable_chunked_prefill
    assert args.guided_decoding_backend == "llguidance"
    assert args.kv_cache_config.enable_block_reuse
    assert args.cuda_graph_config.enable_padding
    assert args.enable_iter_perf_stats


def test_everything_else(built: Any) -> None:
    """Each setting arrives where the library reads it."""
    args = built(
        tensor_parallel=8,
        pipeline_parallel=2,
        expert_parallel=4,
        gpus_per_node=8,
        attention_data_parallel=True,
        dtype="bfloat16",
        max_seq_len=1000,
        chunked_prefill=False,
        overlap_scheduler=False,
        stream_interval=2,
        sampler="TRTLLMSampler",
        guided_decoding_backend="xgrammar",
        iteration_statistics=False,
        kv_cache={
            "reuse": True,
            "partial_reuse": False,
            "block_tokens": 64,
            "free_memory_fraction": 0.5,
            "max_tokens": 6400,
            "host_cache_bytes": 1 << 30,
            "dtype": "fp8",
        },
        scheduler={"capacity": "max_utilization", "chunking": "equal_progress"},
        cuda_graphs={"batch_sizes": (8, 1, 4), "padding": False},
    )

    assert (args.tensor_parallel_size, args.pipeline_parallel_size) == (8, 2)
    assert (args.moe_expert_parallel_size, args.moe_tensor_parallel_size) == (4, 2)
    assert (args.gpus_per_node, args.enable_attention_dp, args.dtype) == (8, True, "bfloat16")
    assert (args.max_seq_len, args.enable_chunked_prefill) == (1000, False)
    assert (args.disable_overlap_scheduler, args.stream_interval) == (True, 2)
    assert (args.sampler_type, args.guided_decoding_backend) == ("TRTLLMSampler", "xgrammar")
    assert not args.enable_iter_perf_stats
    cache = args.kv_cache_config
    assert (cache.enable_partial_reuse, cache.tokens_per_block) == (False, 64)
    assert (cache.free_gpu_memory_fraction, cache.max_tokens) == (0.5, 6400)
    assert (cache.host_cache_size, cache.dtype) == (1 << 30, "fp8")
    assert args.scheduler_config.capacity_scheduler_policy == "MAX_UTILIZATION"
    assert args.scheduler_config.context_chunking_policy == "EQUAL_PROGRESS"
    assert args.cuda_graph_config.batch_sizes == [1, 4, 8]
    assert not args.cuda_graph_config.enable_padding


def test_nothing_is_captured(built: Any) -> None:
    """Only an explicit None turns it off."""
    assert built(cuda_graphs={"enabled": False}).cuda_graph_config is None


def test_no_backend_for_guides(built: Any) -> None:
    """The library's word for none is None."""
    assert built(guided_decoding_backend="none").guided_decoding_backend is None


def test_a_longer_sequence_than_the_models_is_cut(built: Any) -> None:
    """The context is the model's at most."""
    assert built(max_seq_len=10_000).max_seq_len == 4096


@pytest.mark.parametrize(
    "built",
    [{"draft_field": "speculative_model"}, {"draft_field": "speculative_model_dir"}],
    indirect=True,
)
@pytest.mark.parametrize(
    ("method", "kind"), [("eagle3", "EagleDecodingConfig"), ("draft_target", "DraftTargetDecoding")]
)
def test_a_draft_model(built: Any, method: str, kind: str) -> None:
    """The field that names it has two names."""
    speculative = {"method": method, "max_draft_tokens": 4, "draft_model": Path("/d")}
    config = built(speculative=speculative).speculative_config
    draft = getattr(config, "speculative_model", None) or config.speculative_model_dir

    assert type(config).__name__.startswith(kind)
    assert (config.max_draft_len, draft) == (4, "/d")


@pytest.mark.parametrize("method", ["mtp", "ngram"])
def test_guesses_without_a_model(built: Any, method: str) -> None:
    """MTP's layers are told too."""
    config = built(speculative={"method": method, "max_draft_tokens": 2}).speculative_config

    assert config.max_draft_len == 2
    assert getattr(config, "num_nextn_predict_layers", 2) == 2


def test_a_build_without_the_class() -> None:
    """The sentence names it."""
    settings = TensorRtLlmSettings(speculative={"method": "ngram"})
    with importable(), using(Switches()):
        configs = open_library().configs
        known = ("KvCacheConfig", "SchedulerConfig", "CudaGraphConfig")
        bare = SimpleNamespace(**{name: getattr(configs, name) for name in known})
        with pytest.raises(StartError, match="has no NGramDecodingConfig"):
            llm_arguments(settings, replace(fake_model()), bare)


def test_retention() -> None:
    """Priorities of prompt and answer, and how long they hold; nothing where nothing is asked."""
    with importable(), using(Switches()):
        configs = open_library().configs
        both = retention(
            KvCacheSettings(prompt_priority=80, answer_priority=10, retention_seconds=90), configs
        )
        prompt = retention(KvCacheSettings(prompt_priority=80), configs)

        assert retention(KvCacheSettings(), configs) is None
    assert both is not None
    assert prompt is not None
    (whole,) = both.token_range_retention_configs
    assert (whole.token_start, whole.token_end, whole.priority) == (0, None, 80)
    assert whole.duration_ms == both.decode_duration_ms == timedelta(seconds=90)
    assert (both.decode_retention_priority, prompt.decode_retention_priority) == (10, 35)
