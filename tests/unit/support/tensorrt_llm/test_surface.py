"""Behaviours 1, 2, 16 and 20: configuration, sampling parameters, variants of the surface."""

import asyncio
import importlib
import inspect
import pickle
from typing import Any

import pydantic
import pytest

from tests.support.tensorrt_llm import importable
from tests.unit.support.tensorrt_llm.conftest import PROMPT, Opener

with importable():
    import tensorrt_llm
    from tensorrt_llm import SamplingParams, llmapi
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import ModelFacts, Switches
    from tensorrt_llm.llmapi import CudaGraphConfig, GuidedDecodingParams, KvCacheConfig


@pytest.mark.parametrize("rejects", [True, False])
def test_behaviour_1_unknown_fields(opened: Opener, rejects: bool) -> None:
    """Configs and the LLM reject what they do not know; switched off, they drop it."""
    switches = {"rejects_unknown_fields": rejects}
    if rejects:
        with pytest.raises(pydantic.ValidationError, match="warm"):
            KvCacheConfig(warm=True)
        with pytest.raises(ValueError, match=r"LLM got invalid argument: .*warm"):
            opened(switches, warm=True)
        with pytest.raises(ValueError, match="warm"):
            opened(switches, kv_cache_config={"warm": True})
        return
    opened(switches, warm=True, kv_cache_config={"warm": True})

    assert KvCacheConfig(warm=True) == KvCacheConfig()


def test_behaviour_1_arguments_are_checked(opened: Opener) -> None:
    """TensorRT's own arguments are named; `backend` is taken; None is normalised; values agree."""
    with pytest.raises(ValueError, match="build_config"):
        opened(build_config={})
    with pytest.raises(ValueError, match="contradicts"):
        CudaGraphConfig(batch_sizes=[1, 2], max_batch_size=8)
    with pytest.raises(ValueError, match="Lookahead"):
        opened(speculative_config={"decoding_type": "Lookahead"})
    args = opened(backend="pytorch", max_batch_size=None, max_num_tokens=None).llm.args

    assert (args.max_batch_size, args.max_num_tokens, args.max_seq_len) == (2048, 8192, None)
    assert args.kv_cache_config.tokens_per_block == 32


@pytest.mark.parametrize(
    ("switches", "keywords", "message"),
    [
        ({"gpus": 0}, {}, "No CUDA GPUs"),
        ({"gpus": 2}, {"tensor_parallel_size": 4, "gpus_per_node": 8}, "Only 2 GPUs"),
        ({"compute_capability": (7, 5)}, {"dtype": "bfloat16"}, "Pre SM 80"),
        ({"construction_error": "out of memory"}, {}, "out of memory"),
    ],
)
def test_behaviour_1_construction_raises(
    opened: Opener, switches: dict[str, Any], keywords: dict[str, Any], message: str
) -> None:
    """Without the hardware, or when told to, the constructor raises; else it does not."""
    opened(None, **{**keywords, "tensor_parallel_size": 1})
    with pytest.raises(RuntimeError, match=message):
        opened(switches, **keywords)


async def test_behaviour_1_construction_blocks() -> None:
    """A held constructor returns when it is released, and not before."""
    with using(Switches(model=ModelFacts(), construction_held=True)) as machine:
        begun = asyncio.create_task(asyncio.to_thread(tensorrt_llm.llmapi.LLM, "a-model"))
        done, _ = await asyncio.wait([begun], timeout=0.05)
        machine.release_construction()
        llm = await begun

        assert done == set()
        assert llm.llm_id.rsplit("-", 2)[1].isdigit()


@pytest.mark.parametrize("writes", [True, False])
def test_behaviour_1_construction_writes_to_stdout(
    opened: Opener, capsys: pytest.CaptureFixture[str], writes: bool
) -> None:
    """Where a caller may not want it."""
    opened({"writes_to_stdout": writes})

    assert ("[TensorRT-LLM]" in capsys.readouterr().out) == writes


def test_behaviour_1_a_model_without_files_is_an_error(opened: Opener) -> None:
    """Sizes come from the model's folder; where there is none, OSError."""
    with pytest.raises(OSError, match="nowhere"):
        opened({"model": None}, path="nowhere")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": -1}, "top_k >= 0"),
        ({"top_p": 1.5}, "0 <= top_p <= 1"),
        ({"temperature": -0.1}, "temperature >= 0"),
        ({"n": 2}, "Greedy decoding"),
        ({"n": 2, "temperature": 0.0}, "Greedy decoding"),
        ({"n": 3, "best_of": 2, "temperature": 1.0}, "best_of >= n"),
    ],
)
def test_behaviour_2_values_are_validated_once(fields: dict[str, Any], message: str) -> None:
    """Construction raises ValueError, setting later does not; switched off, neither does."""
    with pytest.raises(ValueError, match=message):
        SamplingParams(**fields)
    params = SamplingParams()
    for name, value in fields.items():
        setattr(params, name, value)
    with using(Switches(validates_sampling=False)):
        assert SamplingParams(**fields).best_of


def test_behaviour_2_slots_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword-only with slots; max_tokens is 32; best_of follows n once; the variable allows n."""
    for made in (lambda: SamplingParams(32), lambda: SamplingParams(stop_words=[])):
        with pytest.raises(TypeError):
            made()
    params = SamplingParams(temperature=1.0, n=3)
    with pytest.raises(AttributeError):
        params.random_seed = 5
    later = SamplingParams(temperature=1.0)
    later.n = 2
    monkeypatch.setenv("TLLM_ALLOW_N_GREEDY_DECODING", "1")

    assert (params.best_of, later.best_of, SamplingParams().max_tokens) == (3, 1, 32)
    assert SamplingParams(n=2, temperature=0.0).best_of == 2


def test_behaviour_2_only_one_guide() -> None:
    """Two guides are refused; a schema as a mapping becomes text."""
    with pytest.raises(ValueError, match="Only one guide"):
        GuidedDecodingParams(regex="a", json_object=True)

    assert GuidedDecodingParams(json={"type": "null"}).json == '{"type": "null"}'


@pytest.mark.parametrize("field", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
@pytest.mark.parametrize("sampler", ["auto", "TRTLLMSampler"])
async def test_behaviour_16_penalties(opened: Opener, sampler: str, field: str) -> None:
    """Taken and kept in the record by both samplers; only TRTLLMSampler lets them change ids."""
    here = opened(sampler_type=sampler)
    bias = {"temperature": 0.0, "max_tokens": 40}
    plain = await here.ask([7] * 10, **bias)
    shaped = await here.ask([7] * 10, **bias, **{field: 50.0})
    used = getattr(here.machine.requests[1].sampling_params, field)
    repeated = len(shaped.outputs[0].token_ids) - len(set(shaped.outputs[0].token_ids))

    assert used == 50.0
    if sampler == "auto":
        assert shaped.outputs[0].token_ids == plain.outputs[0].token_ids
    else:
        assert shaped.outputs[0].token_ids != plain.outputs[0].token_ids
        assert repeated == 0


@pytest.mark.parametrize("honours", [False, True])
async def test_behaviour_16_bad_words(opened: Opener, honours: bool) -> None:
    """Ignored, or by a switch honoured, single ids and words of several."""
    here = opened({"honours_bad_words": honours})
    free = (await here.ask()).outputs[0].token_ids
    single = (await here.ask(bad_token_ids=[free[2]])).outputs[0].token_ids
    pair = (await here.ask(bad=f"w{free[2]} w{free[3]}")).outputs[0].token_ids

    assert [single[:2], pair[:3]] == [free[:2], free[:3]]
    assert [single[2] != free[2], pair[3] != free[3]] == [honours, honours]


@pytest.mark.parametrize("honours", [False, True])
async def test_behaviour_16_seeds_and_min_p(opened: Opener, honours: bool) -> None:
    """The default sampler ignores both, unless the switches add them to what it honours."""
    fields = frozenset({"seed", "min_p"}) if honours else frozenset()
    here = opened({"torch_sampler_honours": fields})
    seeded = [await here.ask(temperature=1.5, seed=4) for _ in range(2)]
    cut = [await here.ask(temperature=1.5, min_p=1.0) for _ in range(2)]
    same = [pair[0].outputs[0].token_ids == pair[1].outputs[0].token_ids for pair in (seeded, cut)]

    assert same == [honours, honours]


_ADDED = ("trace_headers", "cache_salt", "scheduling_params")


@pytest.mark.parametrize("missing", [(), _ADDED, ("trace_headers",)])
async def test_behaviour_20_keywords_can_be_missing(
    opened: Opener, missing: tuple[str, ...]
) -> None:
    """What a version lacks is missing from the signature, and a TypeError when passed."""
    here = opened({"missing_keywords": frozenset(missing)})
    names = inspect.signature(llmapi.LLM.generate_async).parameters
    bound = inspect.signature(here.llm.generate_async).parameters

    assert [name for name in _ADDED if name not in names] == sorted(missing, key=_ADDED.index)
    assert set(names) - set(bound) == {"self"}
    for name in _ADDED:
        given = {name: None}
        if name in missing:
            with pytest.raises(TypeError, match=name):
                here.llm.generate_async(PROMPT, SamplingParams(), **given)
        else:
            await here.llm.generate_async(PROMPT, SamplingParams(), **given)


@pytest.mark.parametrize("field", ["speculative_model", "speculative_model_dir"])
def test_behaviour_20_the_draft_field_has_two_names(opened: Opener, field: str) -> None:
    """Either name, and only the one that the version has."""
    here = opened({"draft_field": field})
    other = ({"speculative_model", "speculative_model_dir"} - {field}).pop()
    made = llmapi.Eagle3DecodingConfig(max_draft_len=3, **{field: "draft"})

    assert field in llmapi.Eagle3DecodingConfig.model_fields
    assert made.decoding_type == "Eagle3"
    with pytest.raises(ValueError, match=other):
        llmapi.Eagle3DecodingConfig(**{other: "draft"})
    assert here.llm.args.speculative_config is None


_SURFACE = {
    "tensorrt_llm": "LLM SamplingParams __version__",
    "tensorrt_llm.llmapi": "KvCacheConfig SchedulerConfig CapacitySchedulerPolicy CudaGraphConfig "
    "GuidedDecodingParams KvCacheRetentionConfig LoraConfig PeftCacheConfig EagleDecodingConfig "
    "Eagle3DecodingConfig MTPDecodingConfig NGramDecodingConfig DraftTargetDecodingConfig "
    "UserProvidedDecodingConfig SaveHiddenStatesDecodingConfig AutoDecodingConfig",
    "tensorrt_llm.llmapi.llm_args": "TorchLlmArgs Eagle3DecodingConfig KvCacheConfig",
    "tensorrt_llm.sampling_params": "SamplingParams GuidedDecodingParams",
    "tensorrt_llm.scheduling_params": "SchedulingParams",
    "tensorrt_llm.executor": "CppExecutorError GenerationResult",
    "tensorrt_llm.executor.utils": "RequestError",
    "tensorrt_llm.executor.request": "LoRARequest",
    "tensorrt_llm.executor.result": "Logprob CompletionOutput",
}


@pytest.mark.parametrize("module", _SURFACE)
def test_the_surface(module: str) -> None:
    """Each name of the contract's section 9 is where it says, and no other."""
    with importable():
        loaded = importlib.import_module(module)

    assert [name for name in _SURFACE[module].split() if not hasattr(loaded, name)] == []
    assert not hasattr(loaded, "RandomDecodingConfig")


def test_an_llm_is_not_pickled(opened: Opener) -> None:
    """As in the library."""
    with pytest.raises(RuntimeError, match="can not be pickled"):
        pickle.dumps(opened().llm)


def test_the_version_is_the_switches() -> None:
    """What an adapter logs first."""
    with using(Switches(version="1.2.0rc6")):
        assert tensorrt_llm.__version__ == "1.2.0rc6"
