"""Behaviours 13, 14 and 19: reuse, events and statistics, performance metrics; the scheduler."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from tests.support.tensorrt_llm import importable
from tests.unit.support.tensorrt_llm.conftest import Opened, Opener

with importable():
    from tensorrt_llm.executor.utils import RequestError
    from tensorrt_llm.llmapi import KvCacheRetentionConfig

HUNDRED = list(range(100, 200))
EVENTS = {"event_buffer_max_size": 1000}
SOON = 0.05


async def _events(here: Opened) -> list[dict[str, Any]]:
    return [event async for event in here.llm.get_kv_cache_events_async(SOON)]


def _of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["data"]["type"] == kind]


async def _cached(here: Opened, prompt: list[int], **fields: Any) -> int:
    count: int = (await here.ask(prompt, max_tokens=2, **fields)).cached_tokens
    return count


@pytest.mark.parametrize("partial", [False, True])
async def test_behaviour_13_cached_tokens(opened: Opener, partial: bool) -> None:
    """0 at first, then whole blocks; known with the first response only."""
    here = opened({"counts_partial_reuse": partial})
    first = await _cached(here, HUNDRED)
    again = here.ask(HUNDRED)
    before = again.cached_tokens
    await anext(again)
    exact = await _cached(here, HUNDRED[:64])

    assert (first, before) == (0, 0)
    assert again.cached_tokens == (99 if partial else 96)
    assert exact == (63 if partial else 32)


@pytest.mark.parametrize("separate", [True, False])
async def test_behaviour_13_salts(opened: Opener, separate: bool) -> None:
    """Another salt shares nothing; switched off, everything."""
    here = opened({"salts_separate": separate})
    cached = [await _cached(here, HUNDRED, cache_salt=salt) for salt in ("a", "b", "a")]

    assert cached == [0, 0 if separate else 96, 96]


@pytest.mark.parametrize("reuses", [True, False])
async def test_behaviour_13_prompts_that_run_together_share_nothing(
    opened: Opener, reuses: bool
) -> None:
    """A block can be had when it has been read; without reuse never."""
    here = opened({"held": True}, kv_cache_config={"enable_block_reuse": reuses})
    both = [here.ask(HUNDRED, max_tokens=1) for _ in range(2)]
    here.machine.release()
    for result in both:
        await result

    assert [result.cached_tokens for result in both] == [0, 0]
    assert await _cached(here, HUNDRED) == (96 if reuses else 0)


@pytest.mark.parametrize("host", [0, 64 << 20])
async def test_behaviour_13_eviction_and_the_host_pool(opened: Opener, host: int) -> None:
    """What does not fit is evicted, the oldest first; with a host pool it comes back."""
    here = opened({"kv_blocks": 8}, kv_cache_config={"host_cache_size": host, **EVENTS})
    await here.ask(HUNDRED)
    for start in (1000, 2000):
        await here.ask(list(range(start, start + 200)))
    events = await _events(here)

    assert bool(_of(events, "removed")) == (host == 0)
    assert bool(_of(events, "updated")) == (host > 0)
    assert await _cached(here, HUNDRED) == (96 if host else 0)


@pytest.mark.parametrize("priority", [100, 0])
async def test_behaviour_13_retention(opened: Opener, priority: int) -> None:
    """Blocks of a higher priority outlive younger ones."""
    here = opened({"kv_blocks": 10})
    kept = KvCacheRetentionConfig(
        [KvCacheRetentionConfig.TokenRangeRetentionConfig(0, None, priority)], priority
    )
    await here.ask(HUNDRED, kv_cache_retention_config=kept)
    await here.ask(list(range(1000, 1150)))
    await here.ask(list(range(2000, 2130)))

    assert (await _cached(here, HUNDRED) > 0) == (priority == 100)


def test_retention_is_validated() -> None:
    """Durations are timedeltas, priorities 0 to 100."""
    ranged = KvCacheRetentionConfig.TokenRangeRetentionConfig
    with pytest.raises(TypeError, match="timedelta"):
        ranged(0, None, 50, 1000)
    with pytest.raises(ValueError, match="101"):
        ranged(0, None, 101)

    assert ranged(0, 5, 50, timedelta(seconds=1)).token_end == 5


@pytest.mark.parametrize("mode", ["assert", "empty"])
async def test_behaviour_14_before_the_first_request(opened: Opener, mode: str) -> None:
    """Events assert or are empty; statistics are empty."""
    here = opened({"before_first_request": mode}, kv_cache_config=EVENTS)
    if mode == "assert":
        with pytest.raises(AssertionError, match="not properly instantiated"):
            await _events(here)
    else:
        assert await _events(here) == []
    assert [stat async for stat in here.llm.get_stats_async(SOON)] == []


@pytest.mark.parametrize("high", [True, False])
async def test_behaviour_14_events(opened: Opener, high: bool) -> None:
    """Created, then chains of blocks with unsigned hashes, the last partial; read once."""
    here = opened({"high_hashes": high}, kv_cache_config=EVENTS)
    await here.ask(HUNDRED)
    events = await _events(here)
    (created,) = _of(events, "created")
    blocks = [block for data in _of(events, "stored") for block in data["blocks"]]

    assert created["num_blocks_per_cache_level"] == [1024, 0]
    assert [event["event_id"] for event in events] == list(range(len(events)))
    assert [len(block["tokens"]) for block in blocks] == [32, 32, 32, 11]
    assert [token["token_id"] for token in blocks[0]["tokens"]] == HUNDRED[:32]
    assert all((block["block_hash"] >= 1 << 63) == high for block in blocks)
    assert _of(events, "stored")[0]["parent_hash"] is None
    assert _of(events, "stored")[1]["parent_hash"] == blocks[2]["block_hash"]
    assert await _events(here) == []


async def test_behaviour_14_variants_of_events(opened: Opener) -> None:
    """Several windows, a rank, gaps between ids, no partial blocks, None in differences."""
    switches = {
        "event_windows": (512,),
        "event_rank": 3,
        "event_gap_every": 4,
        "partial_block_events": False,
        "none_diffs": True,
        "kv_blocks": 8,
    }
    here = opened(switches, kv_cache_config={"host_cache_size": 64 << 20, **EVENTS})
    await here.ask(HUNDRED)
    await here.ask(list(range(1000, 1220)))
    events = await _events(here)
    ids = [event["event_id"] for event in events]
    sizes = {len(b["tokens"]) for data in _of(events, "stored") for b in data["blocks"]}

    assert {event["window_size"] for event in events} == {512, 4096}
    assert {event["attention_dp_rank"] for event in events} == {3}
    assert ids != list(range(len(ids)))
    assert sizes == {32}
    assert {data["cache_level"]["old_value"] for data in _of(events, "updated")} == {None}


@pytest.mark.parametrize("rearms", ["request", "poll"])
async def test_behaviour_14_ended_iterators(opened: Opener, rearms: str) -> None:
    """An iterator that ended gives something again after the next submission, or at once."""
    here = opened({"rearms_iterators": rearms, "held": True}, kv_cache_config=EVENTS)
    first = here.ask(HUNDRED)
    created = await _events(here)
    here.machine.release()
    await first
    later = await _events(here)
    await here.ask(HUNDRED[::-1])
    again = await _events(here)

    assert [event["data"]["type"] for event in created] == ["created"]
    assert bool(later) == (rearms == "poll")
    assert bool(again)


async def test_behaviour_14_no_buffer_no_events(opened: Opener) -> None:
    """Without a buffer, or without reuse, there are none."""
    for config in ({}, {"enable_block_reuse": False, **EVENTS}):
        here = opened(kv_cache_config=config)
        await here.ask(HUNDRED)
        assert await asyncio.to_thread(here.llm.get_kv_cache_events, SOON) == []


@pytest.mark.parametrize("enabled", [True, False])
async def test_behaviour_14_statistics(opened: Opener, enabled: bool) -> None:
    """One for each iteration, only when enabled, and read once."""
    here = opened(enable_iter_perf_stats=enabled)
    await here.ask(HUNDRED)
    stats = here.llm.get_stats(SOON)

    assert len(stats) == (8 if enabled else 0)
    assert here.llm.get_stats(SOON) == []
    if enabled:
        assert stats[0]["kvCacheStats"]["usedNumBlocks"] == 4
        assert stats[-1]["numActiveRequests"] == 0
        assert stats[-1]["kvCacheStats"]["maxNumBlocks"] == 1024


@pytest.mark.parametrize("gives", [True, False])
async def test_behaviour_19_performance_metrics(opened: Opener, gives: bool) -> None:
    """Asked for, the last response has them as timedeltas in order; else there are none."""
    here = opened({"gives_perf_metrics": gives})
    unasked = await here.ask(HUNDRED)
    result = here.ask(HUNDRED, return_perf_metrics=True)
    early = [step.outputs[0].request_perf_metrics for step in [await anext(result)]]
    metrics = (await result).outputs[0].request_perf_metrics

    assert unasked.outputs[0].request_perf_metrics is None
    assert early == [None]
    if not gives:
        assert (metrics, result.metrics_dict) == (None, {})
        return
    timing = metrics.timing_metrics
    order = [timing.arrival_time, timing.first_scheduled_time]
    order += [timing.first_token_time, timing.last_token_time]
    assert order == sorted(order)
    assert timing.last_token_time - timing.first_token_time > timedelta()
    assert metrics.kv_cache_metrics.num_reused_blocks == 3
    assert {"ttft", "e2e", "tpot"} <= {str(name) for name in result.metrics_dict}


async def test_behaviour_19_spans_need_metrics(opened: Opener) -> None:
    """A span for each answer that was read to its end, only with metrics; the parent is told."""
    here = opened(otlp_traces_endpoint="http://127.0.0.1:1")
    headers = {"traceparent": "00-1-2-01"}
    await here.ask(trace_headers=headers)
    await here.ask(trace_headers=headers, return_perf_metrics=True)

    assert [span.parent_headers for span in here.machine.spans] == [headers]
    assert here.machine.spans[0].attributes["gen_ai.usage.completion_tokens"] == 8


async def test_an_evicting_policy_pauses_and_goes_on(opened: Opener) -> None:
    """Requests that do not fit together are paused and read again; their ids are the same."""
    prompts = [list(range(start, start + 60)) for start in (100, 300, 500)]
    alone = [(await opened().ask(p, max_tokens=90)).outputs[0].token_ids for p in prompts]
    config = {"capacity_scheduler_policy": "MAX_UTILIZATION"}
    here = opened({"kv_blocks": 8}, scheduler_config=config, enable_iter_perf_stats=True)
    results = [here.ask(p, max_tokens=90) for p in prompts]
    for result in results:
        await result
    paused = max(s["inflightBatchingStats"]["numPausedRequests"] for s in here.llm.get_stats(0))

    assert [list(result.outputs[0].token_ids) for result in results] == [list(a) for a in alone]
    assert paused > 0
    assert here.llm.get_stats(0) == []


@pytest.mark.parametrize("policy", ["GUARANTEED_NO_EVICT", "STATIC_BATCH"])
async def test_other_policies_pause_nobody(opened: Opener, policy: str) -> None:
    """They wait until all that could be needed is there, or until the batch has ended."""
    config = {"capacity_scheduler_policy": policy, "context_chunking_policy": "EQUAL_PROGRESS"}
    here = opened(
        {"kv_blocks": 8},
        scheduler_config=config,
        enable_iter_perf_stats=True,
        enable_chunked_prefill=True,
        max_num_tokens=64,
    )
    results = [here.ask(list(range(s, s + 60)), max_tokens=90) for s in (100, 300, 500)]
    for result in results:
        assert (await result).outputs[0].finish_reason == "length"
    stats = here.llm.get_stats(0)

    assert {s["inflightBatchingStats"]["numPausedRequests"] for s in stats} == {0}
    assert max(s["numActiveRequests"] for s in stats) == 1


@pytest.mark.parametrize("policy", ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION"])
@pytest.mark.parametrize("host", [0, 10 << 20])
async def test_at_random_no_block_is_lost(opened: Opener, policy: str, host: int) -> None:
    """A hundred requests of any length, some aborted at any step, leave every block free."""
    chance = random.Random(7)
    here = opened(
        {"kv_blocks": 24, "iteration_seconds": 0, "tokens_per_step": (1, 3)},
        kv_cache_config={"host_cache_size": host, **EVENTS},
        scheduler_config={"capacity_scheduler_policy": policy},
        max_batch_size=6,
    )

    async def one() -> bool:
        begin = chance.choice((100, 500))
        prompt = list(range(begin, begin + chance.randint(1, 150)))
        fields = {"max_tokens": chance.randint(1, 80), "n": chance.choice((1, 2))}
        result = here.ask(prompt, temperature=1.0, ignore_eos=False, **fields)
        left = chance.choice((None, None, 0, 1, 5))
        while left is None or left > 0:
            if await anext(result, None) is None:
                return bool(result.finished and result.outputs[0].finish_reason)
            left = None if left is None else left - 1
        result.abort()
        return True

    assert all(await asyncio.gather(*(one() for _ in range(100))))
    await asyncio.to_thread(here.machine.wait_idle)
    pool = here.machine.workers[0]._iteration._scheduler.pool
    assert (pool.used, pool.free) == (0, 24)
    assert not any(block.references for block in pool._stored.values())


async def test_more_outputs_than_blocks_is_that_request_s_error(opened: Opener) -> None:
    """A request that even alone does not fit fails; the next one is served."""
    here = opened({"kv_blocks": 4})
    with pytest.raises(RequestError, match="cannot hold"):
        await here.ask(list(range(100, 160)), n=3, temperature=1.0, max_tokens=60)

    assert (await here.ask()).finished
