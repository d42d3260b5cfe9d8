"""Begin, submission and end: how the library's own calls behave, and what is made of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from headrace.telemetry.trace_context import TraceContext
from tests.support.event_sinks import CollectingSink
from tests.support.lora_adapters import write_adapter
from tests.support.models import fake_model
from tests.support.tensorrt_llm import importable
from tests.unit.worker.tensorrt_llm.engines import PROMPT, opened
from worker.engine.seam import SamplingParams
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings

with importable():
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import ModelFacts, Switches

PATIENCE_SECONDS = 3.0
_FACTS = ModelFacts(vocabulary_size=50_000, end_token_ids=(2, 7), max_seq_len=4096)
_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST


async def test_the_constructor_blocks_a_thread_only() -> None:
    """1: it takes half a second, in which a timer of the loop goes off in time."""
    loop = asyncio.get_running_loop()
    rang = loop.create_future()
    with importable(), using(Switches(model=_FACTS, construction_seconds=0.5)):
        settings = TensorRtLlmSettings(guided_decoding_backend="none")
        engine = TensorRtLlmEngine(fake_model(), settings, open_library())
        begin = loop.time()
        loop.call_later(0.01, lambda: rang.set_result(loop.time() - begin))
        await engine.start()
        await engine.stop()

    assert await rang < 0.4


async def test_what_the_librarys_own_checks_refuse_is_the_callers() -> None:
    """2: parameters that cannot be built fail their request; the engine goes on."""
    async with opened() as engine:
        bad = await engine.ask(max_tokens=2, sampling=SamplingParams(temperature=-1.0))
        good = await engine.ask(max_tokens=2)

    assert bad.ended.error is not None
    assert bad.ended.error.reason == _INVALID
    assert good.ended.error is None


async def test_a_build_that_checks_nothing_answers_alike() -> None:
    """2: several greedy outputs are not asked of it either."""
    answers = []
    for validates in (True, False):
        async with opened({"validates_sampling": validates}) as engine:
            outputs = await engine.outputs(n=2, max_tokens=40, ignore_eos=True)
            told = engine.machine.requests[-1].sampling_params
            answers.append([said.token_ids for said in outputs])
            assert (told.n, told.best_of, told.max_tokens) == (1, 1, 40)

    assert answers[0] == answers[1]
    assert [len(ids) for ids in answers[0]] == [40, 40]


@pytest.mark.parametrize("requires", [True, False])
async def test_requests_are_submitted_on_the_loop(requires: bool) -> None:
    """3: a result that was made elsewhere could not be waited for."""
    async with opened({"requires_running_loop": requires}) as engine:
        said = await engine.ask(max_tokens=3, ignore_eos=True)

    assert said.ended.error is None
    assert len(said.token_ids) == 3


async def test_an_empty_prompt_does_not_reach_the_library() -> None:
    """3: it would look at its first id."""
    async with opened() as engine:
        with pytest.raises(ServiceError, match="must not be empty") as refused:
            engine.submit(CollectingSink(), prompt=())

        assert refused.value.param == "prompt_token_ids"
        assert len(engine.machine.requests) == 1


async def test_a_submission_to_a_library_that_was_shut_down() -> None:
    """3: the request is told so, and the engine has failed."""
    async with opened(watchdog_seconds=60) as engine, asyncio.timeout(PATIENCE_SECONDS):
        engine.machine.llms[0].shutdown()
        said = await engine.ask(max_tokens=2)
        failure = await engine.engine.failed()

    assert said.ended.error == failure
    assert failure.reason == errors_pb2.ERROR_REASON_DRAINING


async def test_an_adapters_path_is_looked_at_before_the_library_does(tmp_path: Path) -> None:
    """17: its own check comes after minutes of loading; a path that is there passes both."""
    there = {"sql": {"path": write_adapter(tmp_path / "sql")}}
    async with opened(lora_adapters=there) as engine:
        assert (await engine.ask(max_tokens=2, adapter="sql")).ended.error is None
    missing = {"sql": {"path": tmp_path / "missing"}}
    for checks in (True, False):
        with pytest.raises(StartError, match="missing is no directory"):
            async with opened({"checks_lora_path": checks}, lora_adapters=missing):
                pass


async def test_each_adapter_computes_its_own_requests(tmp_path: Path) -> None:
    """17: the library knows an adapter by a number, which also keeps its cached blocks apart."""
    table = {name: {"path": write_adapter(tmp_path / name)} for name in ("sql", "tone")}
    prompt = tuple(range(100, 200))
    said = {}
    async with opened(lora_adapters=table) as engine:
        for name in ("", "sql", "tone", "sql"):
            sink = CollectingSink()
            request = engine.submit(
                sink, prompt=prompt, adapter=name, max_tokens=8, ignore_eos=True
            )
            await sink.all_ended(*request.keys)
            cached = sink.started[0].cached_prompt_tokens
            said.setdefault(name, []).append((sink.token_ids[0], cached))

    assert [[cached for _, cached in answers] for answers in said.values()] == [[0], [0, 96], [0]]
    assert said["sql"][0][0] == said["sql"][1][0]
    assert len({tuple(answers[0][0]) for answers in said.values()}) == 3


async def test_an_adapters_rank_is_looked_at(tmp_path: Path) -> None:
    """17: memory is set aside for the highest rank, which is the operator's to say."""
    large = {"large": {"path": write_adapter(tmp_path / "large", rank=16)}}
    with pytest.raises(StartError, match=r"`large` has rank 16; lora\.max_rank is 8"):
        async with opened(lora_adapters=large, lora={"max_rank": 8}):
            pass


@pytest.mark.parametrize("has_check", [True, False])
async def test_an_executor_that_is_no_more(has_check: bool) -> None:
    """17: its flag is found by either way of asking, although nothing runs."""
    switches = {"has_check_health": has_check}
    settings: dict[str, Any] = {"watchdog_seconds": 0.2, "iteration_statistics": False}
    async with opened(switches, **settings) as engine, asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.to_thread(engine.machine.llms[0].shutdown)
        failure = await engine.engine.failed()

    assert "shut itself down" in failure.message


async def test_a_shutdown_that_hangs_is_left_behind() -> None:
    """18: the end is waited for as long as it is set, and the loop goes on meanwhile."""
    with importable(), using(Switches(model=_FACTS, shutdown_hangs=True)):
        settings = TensorRtLlmSettings(guided_decoding_backend="none", shutdown_seconds=0.1)
        engine = TensorRtLlmEngine(
            fake_model(), settings, open_library(), exit_process=lambda _: None
        )
        await engine.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await engine.stop()
            await engine.stop()


@pytest.mark.parametrize("missing", [(), ("cache_salt", "trace_headers", "scheduling_params")])
async def test_only_keywords_of_this_build_are_passed(missing: tuple[str, ...]) -> None:
    """20: an unknown one would be a TypeError; the prompt is read either way."""
    async with opened({"missing_keywords": frozenset(missing)}) as engine:
        trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "vendor=1")
        said = await engine.ask(PROMPT, max_tokens=1, cache_salt="tenant", trace=trace)
        keywords = engine.machine.requests[-1].keywords
        headers = {"traceparent": trace.traceparent, "tracestate": "vendor=1"}

        assert said.ended.error is None
        assert keywords.get("trace_headers") == (None if missing else headers)
        assert ("cache_salt" in keywords) == ("cache_salt" not in missing)
        assert ("cache_salt" in engine.engine.info.honoured_fields) == (not missing)


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:4317"])
async def test_the_librarys_own_spans_are_children_of_the_workers(endpoint: str) -> None:
    """20: it makes them only where it is told where to, and for requests that have a trace."""
    trace = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
    async with opened(traces_endpoint=endpoint) as engine:
        await engine.ask(PROMPT, max_tokens=1)
        await engine.ask(PROMPT, max_tokens=1, trace=trace)
        plain, traced = (one.keywords for one in engine.machine.requests[1:])
        parents = [span.parent_headers for span in engine.machine.spans[1:]]

    assert "trace_headers" not in plain
    assert traced["trace_headers"] == {"traceparent": trace.traceparent}
    assert parents == ([None, traced["trace_headers"]] if endpoint else [])
