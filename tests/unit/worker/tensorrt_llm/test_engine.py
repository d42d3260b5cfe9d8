"""Begin, end and what reaches the library: the whole engine on the double."""

import asyncio
import builtins
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from tests.support.event_sinks import CollectingSink
from tests.support.lora_adapters import write_adapter
from tests.support.models import fake_model
from tests.support.tensorrt_llm import importable
from tests.unit.worker.tensorrt_llm.engines import END_IDS, PROMPT, opened
from worker.engine.seam import EngineRequest, SamplingParams
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings
from worker.main import make_engine
from worker.settings import WorkerSettings

with importable():
    from tensorrt_llm.double.machine import Machine, using
    from tensorrt_llm.double.switches import Fault, ModelFacts, Switches

_FACTS = ModelFacts(vocabulary_size=50_000, end_token_ids=END_IDS, max_seq_len=4096)


def _engine(**settings: Any) -> TensorRtLlmEngine:
    values = TensorRtLlmSettings(**{"guided_decoding_backend": "none", **settings})
    return TensorRtLlmEngine(fake_model(), values, open_library(), exit_process=lambda _: None)


def test_a_missing_library_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, the image and the page."""
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    settings = WorkerSettings(engine="tensorrt_llm")
    with pytest.raises(StartError, match=r"tensorrt_llm.*extra `tensorrt-llm`.*On a GPU"):
        make_engine(settings, fake_model())


def test_the_library_is_imported_when_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other engines never ask for it."""
    asked: list[str] = []
    real = builtins.__import__

    def spied(name: str, *args: Any, **keywords: Any) -> Any:
        asked.append(name)
        return real(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", spied)
    make_engine(WorkerSettings(engine="paced"), fake_model())

    assert not {name for name in asked if name.startswith(("tensorrt_llm", "torch"))}


def test_the_chosen_engine_is_made() -> None:
    """With its settings and this build's version."""
    with importable(), using(Switches(version="1.2.0")):
        settings = WorkerSettings(engine="tensorrt_llm", tensorrt_llm={"max_seq_len": 100})
        info = make_engine(settings, fake_model()).info

    assert (info.engine, info.context_length) == ("tensorrt_llm", 100)
    assert info.system_fingerprint == "fp_tensorrt_llm_1.2.0_ffffffff"


async def test_the_loop_goes_on_while_the_model_is_loaded() -> None:
    """Construction takes minutes; ready it is after that, and after a token."""
    with importable(), using(Switches(model=_FACTS, construction_held=True)) as machine:
        engine = _engine()
        starting = asyncio.create_task(engine.start())
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(ServiceError, match="not been started"):
            engine.submit(None, CollectingSink())  # type: ignore[arg-type] # not looked at
        is_ready_early = starting.done()
        machine.hold()
        machine.release_construction()
        await asyncio.to_thread(machine.wait_until, lambda: bool(machine.requests))
        is_ready_without_token = starting.done()
        machine.release()
        await starting
        await engine.stop()

        assert (is_ready_early, is_ready_without_token) == (False, False)
        assert machine.requests[0].sampling_params.max_tokens == 1


async def test_a_model_that_cannot_be_loaded() -> None:
    """Whatever the library raises is one sentence."""
    switches = Switches(model=_FACTS, construction_error="CUDA out of memory")
    problem = r"1\.2\.1 cannot load /nonexistent.*CUDA out of memory"
    with importable(), using(switches), pytest.raises(ServiceError, match=problem):
        await _engine().start()


async def test_no_gpu() -> None:
    """The library finds out first."""
    switches = Switches(model=_FACTS, gpus=0)
    with importable(), using(switches), pytest.raises(ServiceError, match="No CUDA GPUs"):
        await _engine().start()


@pytest.mark.parametrize(
    ("switches", "problem"),
    [
        ({"held": True}, "no token within 0.2 s"),
        ({"faults": (Fault(kind="request", message="broken"),)}, "RequestError: broken"),
    ],
)
async def test_a_canary_that_fails(switches: dict[str, Any], problem: str) -> None:
    """The engine does not become ready, and its library is ended."""
    with importable(), using(Switches(model=_FACTS, **switches)) as machine:
        engine = _engine(canary_seconds=0.2)
        with pytest.raises(ServiceError, match=problem):
            await engine.start()

        assert machine.llms[0]._executor is None


async def test_a_hanging_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for without a bound; then the process is ended, if need be by force."""
    monkeypatch.setattr("worker.engine.tensorrt_llm.lifetime._LAST_RESORT_SECONDS", 0.0)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    codes: list[int] = []

    def exit_process(code: int) -> None:
        codes.append(code)
        loop.call_soon_threadsafe(ended.set)

    with importable(), using(Switches(model=_FACTS, shutdown_hangs=True)):
        settings = TensorRtLlmSettings(guided_decoding_backend="none", shutdown_seconds=0.1)
        engine = TensorRtLlmEngine(
            fake_model(), settings, open_library(), exit_process=exit_process
        )
        await engine.start()
        await engine.stop()
        await ended.wait()

    assert codes == [1]


async def test_an_end_that_comes() -> None:
    """Nobody ends the process then; a second stop does nothing."""
    async with opened({"shutdown_seconds": 0.05}) as engine:
        await engine.engine.stop()
        await engine.engine.stop()

        assert engine.exit_codes == []


async def test_parameters_are_fresh_for_each_request() -> None:
    """The library writes into them."""
    async with opened() as engine:
        await asyncio.gather(*(engine.ask(max_tokens=2) for _ in range(3)))
        told = [id(request.sampling_params) for request in engine.machine.requests]

    assert len(set(told)) == len(told) == 4


async def test_ids_are_given_as_ids() -> None:
    """And none come back as text; a prefix stands behind the prompt."""
    async with opened() as engine:
        await engine.ask(max_tokens=4, output_prefix_token_ids=(40, 41))
        request = engine.machine.requests[-1]

    assert request.prompt_token_ids == [*PROMPT, 40, 41]
    assert request.streaming
    assert not request.sampling_params.detokenize


async def test_greedy_outputs_are_one() -> None:
    """Three outputs of one computation; each is told in full, and only the first had to be read."""
    async with opened() as engine:
        one = await engine.ask(ignore_eos=True, max_tokens=9)
        sink = CollectingSink()
        engine.submit(sink, 5, n=3, ignore_eos=True, max_tokens=9)
        await sink.all_ended(5, 6, 7)

        assert [sink.token_ids[key] for key in (5, 6, 7)] == [one.token_ids] * 3
        assert [sink.started[key].cached_prompt_tokens for key in (6, 7)] == [4, 4]
        assert len(engine.machine.requests) == 3


async def test_a_bias_is_a_tensor() -> None:
    """Of 32-bit floats, one for each id."""
    sampling = SamplingParams(temperature=0, logit_bias=((500, 100.0), (7, -2.5)))
    async with opened() as engine:
        said = await engine.ask(sampling=sampling, max_tokens=2)
        bias = engine.machine.requests[-1].sampling_params.embedding_bias

    assert said.token_ids == [500, 500]
    assert repr(bias.dtype) == "torch.float32"
    assert (bias.numel(), bias[500].item(), bias[7].item(), bias[8].item()) == (
        50_000,
        100,
        -2.5,
        0,
    )


def _keywords(machine: Machine) -> dict[str, Any]:
    return machine.requests[-1].keywords


async def test_salt_and_retention_are_told() -> None:
    """The first where the request has one, the second with every request."""
    async with opened(kv_cache={"answer_priority": 5}) as engine:
        await engine.ask(max_tokens=1)
        plain = _keywords(engine.machine)
        await engine.ask(max_tokens=1, cache_salt="tenant")
        salted = _keywords(engine.machine)

    assert plain.keys() == {"kv_cache_retention_config"}
    assert salted["kv_cache_retention_config"].decode_retention_priority == 5
    assert salted["cache_salt"] == "tenant"


async def test_a_build_without_a_keyword() -> None:
    """It is not honoured then, and never passed."""
    async with opened({"missing_keywords": frozenset({"cache_salt"})}) as engine:
        said = await engine.ask(max_tokens=1, cache_salt="tenant")

        assert "cache_salt" not in engine.engine.info.honoured_fields
        assert said.ended.error is None
    async with opened() as engine:
        assert "cache_salt" in engine.engine.info.honoured_fields


async def test_what_the_whole_cache_cannot_hold_is_refused() -> None:
    """The library would let it wait for ever."""
    async with opened({"kv_blocks": 8}) as engine:
        assert (await engine.ask(max_tokens=200)).ended.error is None
        with pytest.raises(ServiceError, match=r"room for 304 tokens; .* holds 256") as refused:
            engine.submit(CollectingSink(), max_tokens=300)

    assert refused.value.reason == errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED


async def test_long_prompts() -> None:
    """Chunked they are read; otherwise a step must hold them."""
    prompt = tuple(range(100, 400))
    settings = {"max_num_tokens": 256, "max_batch_size": 16}
    async with opened(**settings) as engine:
        assert (await engine.ask(prompt, max_tokens=2)).ended.error is None
    async with opened(**settings, chunked_prefill=False) as engine:
        with pytest.raises(ServiceError, match=r"has 300 tokens; .* at most 256"):
            await engine.ask(prompt, max_tokens=2)


async def test_load_is_the_librarys() -> None:
    """Blocks while it computes; none in use when nobody waits; zero where it is not asked."""
    # A library that is silent for good after an early question tells this request's no more.
    facts = {"kv_blocks": 64, "iteration_seconds": 0.005, "rearms_iterators": "poll"}
    async with opened(facts) as engine:
        sink = CollectingSink()
        engine.submit(sink, prompt=tuple(range(100, 300)), ignore_eos=True, max_tokens=300)
        await sink.wait_until(lambda: engine.engine.load.referenced_blocks > 0)
        busy = engine.engine.load
        engine.engine.abort(sink, [0])
        idle = engine.engine.load

        assert busy.total_blocks == idle.total_blocks == 64
        assert 7 <= busy.referenced_blocks == 64 - busy.free_blocks <= 17
        assert (idle.referenced_blocks, idle.free_blocks) == (0, 64)
        assert busy.prefilled_tokens == 200
    async with opened(iteration_statistics=False) as engine:
        assert engine.engine.load.total_blocks == 0


async def test_ends_of_the_configuration_are_told_too() -> None:
    """The library's tokenizer knows one only."""
    model = replace(fake_model(), end_token_ids=frozenset({2, 7, 9}))
    with importable(), using(Switches(model=_FACTS)) as machine:
        engine = TensorRtLlmEngine(
            model, TensorRtLlmSettings(guided_decoding_backend="none"), open_library()
        )
        await engine.start()
        sink = CollectingSink()
        engine.submit(EngineRequest("r", 0, PROMPT, 4), sink)
        await sink.all_ended(0)
        await engine.stop()

        params = machine.requests[-1].sampling_params
        assert (params.end_id, params.stop_token_ids) == (2, [7, 9])


async def test_adapters_are_served_by_name(tmp_path: Path) -> None:
    """Requests go to the adapter that they name; each adapter has answered at the start."""
    table = {name: {"path": write_adapter(tmp_path / name)} for name in ("sql", "tone")}
    async with opened(lora_adapters=table, lora={"max_rank": 8}) as engine:
        proven = [request.keywords.get("lora_request") for request in engine.machine.requests]
        for name in ("tone", "", "sql"):
            await engine.ask(max_tokens=1, adapter=name)
        told = [one.keywords.get("lora_request") for one in engine.machine.requests[3:]]
        config = engine.machine.llms[0].args.lora_config
        info = engine.engine.info

    assert [one and one.name for one in proven] == [None, "sql", "tone"]
    assert [one and (one.name, one.path) for one in told] == [
        ("tone", str(tmp_path / "tone")),
        None,
        ("sql", str(tmp_path / "sql")),
    ]
    assert len({one.adapter_id for one in told if one}) == 2
    assert (config.lora_dir, config.max_lora_rank, config.max_loras) == ([], 8, 2)
    assert config.lora_target_modules == ["attn_k", "attn_q", "attn_v"]
    assert info.served_models == ("tiny", "sql", "tone")


async def test_an_adapter_that_cannot_be_loaded(tmp_path: Path) -> None:
    """The start fails and names it, not the first request that somebody makes."""
    sql = write_adapter(tmp_path / "sql")
    fault = Fault(kind="request", request=1, message="bad weights")
    with pytest.raises(
        ServiceError, match="canary by the adapter `sql`: RequestError: bad weights"
    ):
        async with opened({"faults": (fault,)}, lora_adapters={"sql": {"path": sql}}):
            pass
