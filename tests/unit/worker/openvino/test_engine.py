"""The engine around a model that computes nothing: the seam's rules, aborts, failure, stop."""

import asyncio

import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.openvino.conftest import Start
from tests.unit.worker.openvino.fakes import (
    END_TOKEN,
    FakeLoader,
    fake_model,
    make_request,
)
from worker.engine.openvino.engine import OpenVinoEngine
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.seam import EngineLoad, SamplingParams

_ENGINE_FAILURE = errors_pb2.ERROR_REASON_ENGINE_FAILURE


async def test_an_output_ends_at_its_length(start: Start) -> None:
    """Started, then the tokens, then one end with its reason and count."""
    one = await start()
    one.engine.submit(make_request(7, (10, 11, 12), max_tokens=3), one.sink)
    await one.sink.all_ended(7)

    started, ended = one.sink.started[7], one.sink.ended[7]
    assert one.sink.token_ids[7] == [13, 14, 15]
    assert (started.prompt_tokens, started.cached_prompt_tokens) == (3, 0)
    assert (ended.finish_reason, ended.num_output_tokens) == (FINISH_REASON_LENGTH, 3)
    assert ended.stop_token_id is None


async def test_an_end_token_is_the_last_id_and_is_named(start: Start) -> None:
    """The model's end token comes with the tokens and is named in the end."""
    one = await start()
    one.engine.submit(make_request(0, (62, 63, 0), max_tokens=9, ignore_eos=False), one.sink)
    await one.sink.all_ended(0)

    assert one.sink.token_ids[0] == [1, END_TOKEN]
    assert one.sink.ended[0].finish_reason == FINISH_REASON_STOP
    assert one.sink.ended[0].stop_token_id == END_TOKEN


async def test_a_stop_token_ends_although_end_tokens_are_ignored(start: Start) -> None:
    """ignore_eos passes over the end token; stop_token_ids still end the output."""
    one = await start()
    request = make_request(0, (0,), max_tokens=9, stop_token_ids=frozenset({4}))
    one.engine.submit(request, one.sink)
    await one.sink.all_ended(0)

    assert one.sink.token_ids[0] == [1, 2, 3, 4]
    assert one.sink.ended[0].stop_token_id == 4


async def test_no_end_comes_before_min_tokens(start: Start) -> None:
    """Until min_tokens are there, end and stop tokens are not drawn at all."""
    one = await start()
    request = make_request(
        0, (0,), max_tokens=6, min_tokens=3, ignore_eos=False, stop_token_ids=frozenset({4})
    )
    one.engine.submit(request, one.sink)
    await one.sink.all_ended(0)

    drawn = one.sink.token_ids[0]
    assert not {END_TOKEN, 4} & set(drawn[:3])
    assert len(drawn) >= 3


async def test_a_continuation_counts_its_prefix(start: Start) -> None:
    """The prefix counts towards max_tokens, not as prompt, and is not sent again."""
    one = await start()
    request = make_request(0, (10,), max_tokens=4, output_prefix_token_ids=(11, 12))
    one.engine.submit(request, one.sink)
    await one.sink.all_ended(0)

    assert one.sink.token_ids[0] == [13, 14]
    assert one.sink.started[0].prompt_tokens == 1
    assert one.sink.ended[0].num_output_tokens == 2


async def test_all_events_of_a_sink_come_in_one_object_an_iteration(start: Start) -> None:
    """Three outputs of one sink that decode together are one call each step."""
    one = await start()
    calls = []
    one.sink.on_events = calls.append
    one.hold()
    one.engine.submit(make_request(99, (1,), max_tokens=1), CollectingSink())
    await one.is_held()
    for key in range(3):
        one.engine.submit(make_request(key, (10 * key,), max_tokens=4), one.sink)
    one.release()
    probe = CollectingSink()
    one.engine.submit(make_request(98, (1,), max_tokens=6), probe)
    await probe.all_ended(98)

    assert [len(events.keys) for events in calls] == [3, 3, 3, 3]


async def test_what_the_pool_cannot_hold_is_refused(start: Start) -> None:
    """The refusal names what is needed and what there is; one token less is taken."""
    one = await start(num_blocks=4)

    with pytest.raises(ServiceError, match="room for 17 tokens; the whole KV cache holds 16") as e:
        one.engine.submit(make_request(0, [5] * 10, max_tokens=8), one.sink)
    one.engine.submit(make_request(1, [5] * 10, max_tokens=7), one.sink)
    await one.sink.all_ended(1)

    assert e.value.reason == errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
    assert len(one.sink.token_ids[1]) == 7


async def test_a_full_queue_refuses_by_name(start: Start) -> None:
    """Beyond the places and the queue a request is refused; what was taken ends well."""
    one = await start(max_num_sequences=2, max_queued_outputs=3)
    one.hold()
    for key in range(5):
        one.engine.submit(make_request(key), one.sink)

    with pytest.raises(ServiceError, match="3 outputs wait, max_queued_outputs is 3") as refused:
        one.engine.submit(make_request(5), one.sink)
    one.release()
    await one.sink.all_ended(*range(5))

    assert refused.value.reason == errors_pb2.ERROR_REASON_OVERLOADED
    assert one.engine.load.queued_outputs == 0


async def test_several_outputs_read_their_prompt_once(start: Start) -> None:
    """Four outputs of a prompt of 10 feed 10 tokens; each of the others copies one block."""
    one = await start()
    one.engine.submit(make_request(3, list(range(20, 30)), max_tokens=1, n=4), one.sink)
    await one.sink.all_ended(3, 4, 5, 6)

    assert one.runner.tokens_fed == 10
    assert len(one.runner.copied) == 3
    assert one.sink.token_ids == {key: [30] for key in range(3, 7)}
    cached = [one.sink.started[key].cached_prompt_tokens for key in range(3, 7)]
    assert cached == [0, 9, 9, 9]
    assert one.engine.load.referenced_blocks == 0


async def test_outputs_without_a_place_queue_by_themselves(start: Start) -> None:
    """With two places and six blocks all five outputs get what they would get alone."""
    one = await start(num_blocks=6, max_num_sequences=2)
    one.engine.submit(make_request(0, list(range(20, 30)), max_tokens=12, n=5), one.sink)
    await one.sink.all_ended(*range(5))

    assert one.sink.token_ids == {key: list(range(30, 42)) for key in range(5)}
    assert one.engine.load.referenced_blocks == 0
    assert one.engine.load.queued_outputs == 0


async def test_penalties_see_a_prefix_and_survive_preemption(start: Start) -> None:
    """A token of the prefix is as dear as a drawn one; putting back forgets none."""
    sampling = SamplingParams(
        temperature=0, presence_penalty=2, logit_bias=((40, 51.0), (30, 52.5))
    )
    one = await start(num_blocks=9)
    one.hold()
    for key, prefix in ((0, ()), (1, ()), (2, (30,))):
        request = make_request(
            key, [10] * 8, max_tokens=12, output_prefix_token_ids=prefix, sampling=sampling
        )
        one.engine.submit(request, one.sink)
    one.release()
    await one.sink.all_ended(0, 1, 2)

    # Once drawn, 30 stands at 50.5 and 40 at 49, however often they come; the rest is below.
    assert one.sink.token_ids[0] == one.sink.token_ids[1] == [30, 40, *[30] * 10]
    assert one.sink.token_ids[2] == [40, *[30] * 10]
    assert one.engine.load.preemptions > 0


async def test_frequency_penalties_count_and_survive_preemption(start: Start) -> None:
    """Each occurrence costs 2: of two tokens that start 4 apart the dearer one comes first."""
    sampling = SamplingParams(
        temperature=0, frequency_penalty=2, logit_bias=((40, 94.5), (30, 99.0))
    )
    one = await start(num_blocks=9)
    one.hold()
    for key, prefix in ((0, ()), (1, ()), (2, (30, 30))):
        request = make_request(
            key, [10] * 8, max_tokens=12, output_prefix_token_ids=prefix, sampling=sampling
        )
        one.engine.submit(request, one.sink)
    one.release()
    await one.sink.all_ended(0, 1, 2)

    expected = [30, 30, 30, 40, 30, 40, 30, 40, 30, 40, 30, 40]
    assert one.sink.token_ids[0] == one.sink.token_ids[1] == expected
    assert one.sink.token_ids[2] == expected[2:]
    assert one.engine.load.preemptions > 0


async def test_logprobs_are_the_models_own(start: Start) -> None:
    """One entry a token, of the logits before biases; as many alternatives as asked for."""
    one = await start()
    sampling = SamplingParams(temperature=0, logit_bias=((5, 100.0),))
    one.engine.submit(make_request(0, (10,), max_tokens=3, logprobs=2), one.sink)
    one.engine.submit(make_request(1, (10,), max_tokens=2, logprobs=0, sampling=sampling), one.sink)
    one.engine.submit(make_request(2, (10,), max_tokens=2), one.sink)
    await one.sink.all_ended(0, 1, 2)

    assert [entry.top[0][0] for entry in one.sink.logprobs[0]] == [11, 12, 13]
    assert [len(entry.top) for entry in one.sink.logprobs[0]] == [2, 2, 2]
    assert all(entry.logprob == pytest.approx(0, abs=1e-9) for entry in one.sink.logprobs[0])
    assert [entry.logprob for entry in one.sink.logprobs[1]] == [pytest.approx(-50)] * 2
    assert [entry.top for entry in one.sink.logprobs[1]] == [(), ()]
    assert 2 not in one.sink.logprobs


async def test_preemption_changes_no_token(start: Start) -> None:
    """With a pool that holds two of six outputs all six get what they get alone."""
    one = await start(num_blocks=12)
    for key in range(6):
        one.engine.submit(make_request(key, [10 * key] * 6, max_tokens=20), one.sink)
    await one.sink.all_ended(*range(6))

    for key in range(6):
        assert one.sink.token_ids[key] == [(10 * key + i) % 64 for i in range(1, 21)]
    assert one.engine.load.preemptions > 0


async def test_cached_tokens_are_those_not_fed(start: Start) -> None:
    """Tokens fed to the model are the prompt without what the cache held, exactly."""
    one = await start()
    for key in range(2):
        before = one.runner.tokens_fed
        one.engine.submit(make_request(key, list(range(30)), max_tokens=1), one.sink)
        await one.sink.all_ended(key)

        cached = one.sink.started[key].cached_prompt_tokens
        assert one.runner.tokens_fed - before == 30 - cached
        assert cached == (0, 28)[key]
    assert one.engine.load.prefilled_tokens == 32


async def test_without_a_prefix_cache_everything_is_fed(start: Start) -> None:
    """With `prefix_cache` off the same prompt is computed again, and no block stays cached."""
    one = await start(prefix_cache=False)
    for key in range(2):
        before = one.runner.tokens_fed
        one.engine.submit(make_request(key, range(10, 40), max_tokens=1), one.sink)
        await one.sink.all_ended(key)
        assert one.sink.started[key].cached_prompt_tokens == 0
        assert one.runner.tokens_fed - before == 30
    assert one.engine.load.free_blocks == one.engine.load.total_blocks


async def test_bad_logits_fail_their_output_alone(start: Start) -> None:
    """An output whose logits are not finite fails by name; another goes on."""
    one = await start()
    one.runner.bad_token = 12
    one.engine.submit(make_request(0, (10,), max_tokens=9), one.sink)
    one.engine.submit(make_request(1, (30,), max_tokens=9), one.sink)
    await one.sink.all_ended(0, 1)

    error = one.sink.ended[0].error
    assert error is not None
    assert (error.reason, "no finite logits" in error.message) == (_ENGINE_FAILURE, True)
    assert one.sink.token_ids == {0: [11, 12], 1: list(range(31, 40))}
    assert one.engine.load.referenced_blocks == 0


async def test_a_failing_model_fails_everything_once(start: Start) -> None:
    """Running, waiting and just submitted outputs end with an error, and new ones are refused."""
    one = await start(max_num_sequences=1)
    one.hold()
    for key in range(3):
        one.engine.submit(make_request(key), one.sink)
    await one.is_held()
    one.engine.submit(make_request(3), one.sink)
    one.runner.failure = RuntimeError("no memory")
    one.release()
    await one.sink.all_ended(*range(4))

    errors = [ended.error for ended in one.sink.ended.values()]
    assert {error.reason for error in errors if error} == {_ENGINE_FAILURE}
    with pytest.raises(ServiceError, match="RuntimeError"):
        one.engine.submit(make_request(4), one.sink)
    assert (await one.engine.failed()).reason == _ENGINE_FAILURE
    assert one.runner.is_closed
    assert one.engine.load.total_blocks == 0


async def test_stop_ends_what_runs_and_refuses(start: Start) -> None:
    """Running and waiting outputs end as draining, before `stop` returns; memory is freed."""
    one = await start(max_num_sequences=1)
    one.hold()
    for key in range(2):
        one.engine.submit(make_request(key, max_tokens=100), one.sink)
    await one.is_held()
    stopping = asyncio.ensure_future(one.engine.stop())
    one.release()
    await stopping

    reasons = {ended.error.reason for ended in one.sink.ended.values() if ended.error}
    assert one.sink.ended.keys() == {0, 1}
    assert reasons == {errors_pb2.ERROR_REASON_DRAINING}
    assert one.runner.is_closed
    with pytest.raises(ServiceError) as refused:
        one.engine.submit(make_request(2), one.sink)
    assert refused.value.reason == errors_pb2.ERROR_REASON_DRAINING


async def test_before_start_everything_is_refused() -> None:
    """An engine that was not started takes nothing, knows nothing, and stops quietly."""
    engine = OpenVinoEngine(fake_model(), OpenVinoSettings(), loader=FakeLoader())
    with pytest.raises(ServiceError, match="not been started"):
        engine.submit(make_request(0), CollectingSink())
    await engine.stop()

    assert engine.load == EngineLoad()
