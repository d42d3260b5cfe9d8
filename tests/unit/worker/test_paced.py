"""The paced engine holds the seam's rules, and does what its settings say."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from tests.support.event_sinks import CollectingSink
from tests.support.models import END_TOKEN, fake_model
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import EngineEvents, EngineRequest, EventSink, SamplingParams

OTHER = 9
"""An id that is no end token."""


def request(first_key: int = 1, **fields: object) -> EngineRequest:
    """A request of three prompt tokens and at most eight output tokens."""
    values: dict[str, object] = {"prompt_token_ids": (5, 6, 7), "max_tokens": 8}
    return EngineRequest(request_id="r", first_key=first_key, **(values | fields))


@asynccontextmanager
async def paced(**settings: object) -> AsyncIterator[PacedEngine]:
    """A started engine, fast unless told otherwise."""
    values = {"tokens_per_second": 5000.0} | settings
    engine = PacedEngine(fake_model(), PacedSettings(**values))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def ran(engine_request: EngineRequest, **settings: object) -> CollectingSink:
    """What a sink heard of one request."""
    sink = CollectingSink()
    async with paced(**settings) as engine:
        engine.submit(engine_request, sink)
        await sink.all_ended(*engine_request.keys)
    assert [] == sink.violations
    return sink


class Iterations:
    """A sink that keeps every batch of events apart."""

    def __init__(self, inner: CollectingSink) -> None:
        self.inner = inner
        self.batches: list[EngineEvents] = []

    def on_events(self, events: EngineEvents) -> None:
        self.batches.append(events)
        self.inner.on_events(events)


async def test_the_sentence_is_deterministic_and_ends_at_max_tokens() -> None:
    """The same tokens every time, whatever the sampling; the end is a length."""
    first = await ran(request())
    second = await ran(request(sampling=SamplingParams(temperature=0.0, seed=5)))

    assert 8 == len(first.token_ids[1])
    assert first.token_ids == second.token_ids
    assert FINISH_REASON_LENGTH == first.ended[1].finish_reason
    assert (None, 8) == (first.ended[1].stop_token_id, first.ended[1].num_output_tokens)


async def test_echo_gives_the_prompt_and_an_end_token() -> None:
    """The end token is the last id and named in the end."""
    sink = await ran(request(), script="echo")

    assert [5, 6, 7, END_TOKEN] == sink.token_ids[1]
    assert (FINISH_REASON_STOP, END_TOKEN) == (
        sink.ended[1].finish_reason,
        sink.ended[1].stop_token_id,
    )


async def test_ignore_eos_goes_on_behind_the_end_token() -> None:
    """The end token is an id like any other; stop token ids still end."""
    ignoring = await ran(request(ignore_eos=True, max_tokens=6), script="echo")
    stopped = await ran(
        request(ignore_eos=True, stop_token_ids=frozenset({END_TOKEN})), script="echo"
    )

    assert [5, 6, 7, END_TOKEN, 5, 6] == ignoring.token_ids[1]
    assert FINISH_REASON_LENGTH == ignoring.ended[1].finish_reason
    assert [5, 6, 7, END_TOKEN] == stopped.token_ids[1]
    assert FINISH_REASON_STOP == stopped.ended[1].finish_reason


async def test_a_stop_token_id_ends_the_output_and_is_its_last_id() -> None:
    """Other ids than the model's own end tokens stop as well."""
    sink = await ran(request(stop_token_ids=frozenset({6})), script="echo")

    assert [5, 6] == sink.token_ids[1]
    assert 6 == sink.ended[1].stop_token_id


async def test_a_stop_token_at_max_tokens_is_a_stop() -> None:
    """Where the last allowed token is an end token, the reason is stop."""
    sink = await ran(request(max_tokens=4), script="echo")

    assert [5, 6, 7, END_TOKEN] == sink.token_ids[1]
    assert FINISH_REASON_STOP == sink.ended[1].finish_reason


@pytest.mark.parametrize(("min_tokens", "length"), [(0, 1), (1, 5), (2, 5), (5, 6)])
async def test_no_end_is_drawn_before_min_tokens(min_tokens: int, length: int) -> None:
    """End tokens and stop token ids are replaced as long as min_tokens is not reached."""
    sink = await ran(
        request(
            prompt_token_ids=(END_TOKEN, OTHER, OTHER, OTHER),
            stop_token_ids=frozenset({END_TOKEN}),
            min_tokens=min_tokens,
            max_tokens=20,
        ),
        script="echo",
    )
    ids = sink.token_ids[1]

    assert length == len(ids)
    assert END_TOKEN == ids[-1]
    assert END_TOKEN not in ids[:-1]


async def test_min_tokens_holds_though_every_word_of_the_sentence_stops() -> None:
    """What replaces an end is never itself an end, whatever the stop token ids are."""
    words = frozenset((await ran(request(max_tokens=64))).token_ids[1]) | {0}
    sink = await ran(request(stop_token_ids=words, min_tokens=3))

    assert 4 == len(sink.token_ids[1])
    assert not words & set(sink.token_ids[1][:-1])
    assert sink.token_ids[1][-1] in words


async def test_a_continuation_goes_on_where_the_prefix_ends() -> None:
    """The prefix counts towards max_tokens and min_tokens, and is not sent again."""
    whole = (await ran(request())).token_ids[1]
    rest = await ran(request(output_prefix_token_ids=tuple(whole[:5])))
    echoed = await ran(request(output_prefix_token_ids=(5, 6), min_tokens=2), script="echo")

    assert whole[5:] == rest.token_ids[1]
    assert 3 == rest.ended[1].num_output_tokens
    assert [7, END_TOKEN] == echoed.token_ids[1]


async def test_several_outputs_are_alike_and_end_each() -> None:
    """A request with n outputs starts and ends n keys in a row."""
    sink = await ran(request(first_key=10, n=3))

    assert {10, 11, 12} == set(sink.ended) == set(sink.started)
    assert sink.token_ids[10] == sink.token_ids[11] == sink.token_ids[12]


@pytest.mark.parametrize(("logprobs", "alternatives"), [(0, 0), (3, 1)])
async def test_log_probabilities_come_with_each_token(logprobs: int, alternatives: int) -> None:
    """Every token is certain; alternatives are given only where some were asked for."""
    sink = Iterations(CollectingSink())
    async with paced() as engine:
        engine.submit(request(logprobs=logprobs), sink)
        engine.submit(request(first_key=2), sink)
        await sink.inner.all_ended(1, 2)
    entries = [entry for batch in sink.batches for entry in batch.logprobs.get(1, [])]

    assert [0.0] * 8 == [entry.logprob for entry in entries]
    assert {alternatives} == {len(entry.top) for entry in entries}
    assert all(2 not in batch.logprobs for batch in sink.batches)


async def test_a_sink_hears_once_an_iteration_of_all_its_outputs() -> None:
    """Outputs that run together come in the same batch, one token each."""
    sink = Iterations(CollectingSink())
    async with paced() as engine:
        engine.submit(request(n=4), sink)
        await sink.inner.all_ended(1, 2, 3, 4)

    assert 8 == len(sink.batches)
    assert all([1, 1, 1, 1] == batch.counts for batch in sink.batches)


async def test_the_start_tells_of_queue_and_prefill() -> None:
    """Prompt tokens, nothing cached, times of queue and prefill; fed tokens are counted."""
    sink = CollectingSink()
    async with paced(prefill_tokens_per_second=100.0) as engine:
        engine.submit(request(), sink)
        await sink.all_ended(1)
        prefilled = engine.load.prefilled_tokens
    started = sink.started[1]

    assert (3, 0, 3) == (started.prompt_tokens, started.cached_prompt_tokens, prefilled)
    assert started.queue_ms >= 0
    assert 29 <= started.prefill_ms


async def test_what_exceeds_the_running_outputs_waits_its_turn() -> None:
    """A full engine queues, and takes the next when one ends."""
    sink = CollectingSink()
    async with paced(max_running_outputs=1) as engine:
        for key in (1, 2, 3):
            engine.submit(request(key, max_tokens=3), sink)
        queued = engine.load.queued_outputs
        await sink.all_ended(1, 2, 3)

    assert 3 == queued  # nothing runs before the first tick
    assert [1, 2, 3] == list(sink.ended)
    assert [] == sink.violations


async def test_higher_priority_goes_first_and_equals_keep_their_order() -> None:
    """The queue is ordered by priority, then by submission."""
    sink = CollectingSink()
    async with paced(max_running_outputs=1) as engine:
        for key, priority in ((1, 0), (2, -1), (3, 5), (4, 0), (5, 5)):
            engine.submit(request(key, max_tokens=1, priority=priority), sink)
        await sink.all_ended(1, 2, 3, 4, 5)

    assert [3, 5, 1, 4, 2] == list(sink.ended)


async def test_a_full_queue_refuses_whole_requests() -> None:
    """What does not fit is OVERLOADED at once, naming the bound; nothing of it runs."""
    sink = CollectingSink()
    async with paced(max_running_outputs=2, max_queued_outputs=3) as engine:
        engine.submit(request(n=3), sink)
        with pytest.raises(ServiceError) as caught:
            engine.submit(request(10, n=3), sink)
        engine.submit(request(20, n=2), sink)
        await sink.all_ended(1, 2, 3, 20, 21)

    assert errors_pb2.ERROR_REASON_OVERLOADED == caught.value.reason
    assert "max_queued_outputs is 3" in caught.value.message
    assert 10 not in sink.started


async def test_an_abort_in_the_queue_leaves_the_others() -> None:
    """Aborted outputs never start; the places go to those behind them."""
    sink, other = CollectingSink(), CollectingSink()
    async with paced(max_running_outputs=1) as engine:
        engine.submit(request(1, n=3), sink)
        engine.submit(request(1), other)
        engine.abort(sink, [1, 3, 99])
        left = engine.load.queued_outputs
        await sink.all_ended(2)
        await other.all_ended(1)

    assert 2 == left
    assert {2} == set(sink.started)


async def test_an_abort_while_running_is_silent_and_makes_room() -> None:
    """Nothing more is said of an aborted output, and the next one takes its place."""
    sink, other = CollectingSink(), CollectingSink()
    async with paced(max_running_outputs=1) as engine:
        engine.submit(request(1, max_tokens=4000, prompt_token_ids=(5,)), sink)
        engine.submit(request(1), other)
        await sink.has_tokens(1, 2)
        engine.abort(sink, [1])
        before = len(sink.token_ids[1])
        engine.abort(sink, [1])
        await other.all_ended(1)

    assert before == len(sink.token_ids[1])
    assert {} == sink.ended


class AbortingSink(CollectingSink):
    """Aborts an output from within its own events."""

    engine: PacedEngine

    def on_events(self, events: EngineEvents) -> None:
        super().on_events(events)
        self.engine.abort(self, list(events.keys))


async def test_a_sink_may_abort_from_within_its_events() -> None:
    """As a session does whose edge is slow; other sinks of the same iteration are served."""
    sink, other = AbortingSink(), CollectingSink()
    async with paced() as engine:
        sink.engine = engine
        engine.submit(request(1, n=2), sink)
        engine.submit(request(1), other)
        await other.all_ended(1)

        assert 0 == engine._num_running
    assert [1, 1] == [len(sink.token_ids[key]) for key in (1, 2)]


async def test_stop_fails_what_runs_and_what_waits_and_takes_nothing_new() -> None:
    """Every output hears an end, and later requests are refused."""
    sink = CollectingSink()
    async with paced(max_running_outputs=1) as engine:
        engine.submit(request(1, n=2, max_tokens=4000, prompt_token_ids=(5,)), sink)
        await sink.has_tokens(1, 1)
        await engine.stop()
        with pytest.raises(ServiceError) as caught:
            engine.submit(request(), CollectingSink())
    errors = [sink.ended[key].error for key in (1, 2)]

    assert [errors_pb2.ERROR_REASON_DRAINING] * 3 == [
        error and error.reason for error in (*errors, caught.value)
    ]


class BrokenSink(CollectingSink):
    """Breaks the seam's rule that a sink never raises, while tokens come."""

    def on_events(self, events: EngineEvents) -> None:
        super().on_events(events)
        if events.keys:
            raise ZeroDivisionError


async def test_a_sink_that_raises_ends_the_engine_loudly() -> None:
    """Nobody is left waiting: every output ends, `failed` says why, and nothing new is taken."""
    broken, other = BrokenSink(), CollectingSink()
    async with paced() as engine:
        engine.submit(request(prompt_token_ids=(5,), max_tokens=4000), other)
        await other.has_tokens(1)
        engine.submit(request(), broken)
        error = await engine.failed()
        await other.all_ended(1)
        with pytest.raises(ServiceError, match="ZeroDivisionError"):
            engine.submit(request(), CollectingSink())

    assert errors_pb2.ERROR_REASON_ENGINE_FAILURE == error.reason
    assert other.ended[1].error == error


async def test_the_rate_is_that_of_the_settings() -> None:
    """Forty tokens at 400 a second take a tenth of a second, and not less."""
    loop = asyncio.get_running_loop()
    sink = CollectingSink()
    async with paced(tokens_per_second=400.0) as engine:
        began = loop.time()
        engine.submit(request(max_tokens=40, prompt_token_ids=(5,)), sink)
        await sink.all_ended(1)
        taken = loop.time() - began

    assert 0.09 <= taken


async def test_a_late_tick_is_made_up_for() -> None:
    """Ticks are due at fixed times: one that came late does not delay the next ones."""
    engine = PacedEngine(fake_model(), PacedSettings(tokens_per_second=100))
    sink = Iterations(CollectingSink())
    await engine.start()
    engine.submit(request(max_tokens=40, prompt_token_ids=(5,)), sink)
    await sink.inner.has_tokens(1, 1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + 0.2
    while loop.time() < until:  # the loop is stuck for twenty ticks
        pass
    await sink.inner.all_ended(1)
    taken = loop.time() - began
    await engine.stop()

    assert taken < 0.39 + 0.15  # without making up: 0.2 + 0.39


async def test_it_honours_every_optional_field_but_guides() -> None:
    """The engine says so itself, and its fingerprint follows the tokenizer's."""
    info = PacedEngine(fake_model(), PacedSettings()).info
    other = PacedEngine(fake_model(fingerprint="0" * 32), PacedSettings()).info

    assert "sampling.seed" in info.honoured_fields
    assert not [name for name in info.honoured_fields if name.startswith("guide.")]
    assert info.system_fingerprint != other.system_fingerprint
    assert frozenset({END_TOKEN}) == info.end_token_ids


def test_sinks_are_told_apart_by_identity() -> None:
    """Keys are unique within a sink only: two sinks may use the same ones."""
    first: EventSink = CollectingSink()
    second: EventSink = CollectingSink()

    assert len({first, second}) == 2
    assert dataclasses.replace(request(), n=2).keys == range(1, 3)
