"""The backend and the typed client against real services in this process."""

import asyncio

import pytest

from headrace.client.backend import GrpcChatBackend
from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.in_process import (
    HELLO,
    InProcessStack,
    connected_backend,
    in_process_stack,
    small_registry,
)
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import generation_options
from tests.support.scripted_tokenizer import scripted_tokenizer
from tests.support.scripted_worker import scripted_worker
from tokenizer_svc.registry import ModelRegistry
from worker.engine.paced_settings import PacedSettings

QUICK = PacedSettings(tokens_per_second=2000)
ECHO = PacedSettings(tokens_per_second=2000, script="echo")
SLOW = PacedSettings(tokens_per_second=20)
"""An answer to the end of the context takes ten seconds."""
STATES: dict[str, PacedSettings] = {
    "queued": PacedSettings(max_running_outputs=1, prefill_tokens_per_second=0.01),
    "prefill": PacedSettings(prefill_tokens_per_second=0.01),
    "streaming": SLOW,
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model."""
    return small_registry(tmp_path_factory.mktemp("models"))


async def _reach(
    state: str, consumer: RecordingConsumer, stack: InProcessStack, submitted: int
) -> None:
    if state == "streaming":
        await consumer.hears("text")
        return
    await stack.engines[0].has_submitted(submitted)


async def _idle_after(stack: InProcessStack) -> float:
    """The seconds until nothing is open; outputs that nobody ends would run for longer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(5):
        await stack.idle()
    return loop.time() - began


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("state", STATES)
async def test_an_abort_leaves_nothing_open_within_100_ms(
    state: str, n: int, registry: ModelRegistry
) -> None:
    """Queued, in prefill or streaming: the worker's table and the tokenizer are empty at once."""
    seconds = []
    async with (
        in_process_stack(registry, STATES[state]) as stack,
        connected_backend(stack) as backend,
    ):
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        queued = int(state == "queued")
        for attempt in range(3):
            consumer = RecordingConsumer()
            others = [
                backend.generate(prompt, generation_options(), RecordingConsumer())
                for _ in range(queued)
            ]
            options = generation_options(n=n, max_tokens=None)
            generation = backend.generate(prompt, options, consumer)
            await _reach(state, consumer, stack, (attempt + 1) * (1 + queued))
            for ended in (generation, generation, *others):
                ended.abort()
            heard = list(consumer.heard)
            seconds.append(await _idle_after(stack))

            assert 0 == sum(link.num_outputs for link in backend._links)
            assert 0 == stack.engines[0].load.queued_outputs
            aborted = stack.worker.servicer.table.aborted_outputs
            assert (attempt + 1) * (n + queued) == aborted
            assert heard == consumer.heard

    # The soonest of several: what else the machine does only ever adds.
    assert min(seconds) < 0.1, seconds


async def test_an_abort_in_the_same_turn_as_the_start_leaves_nothing(
    registry: ModelRegistry,
) -> None:
    """A request that is aborted before its frame was written runs nowhere afterwards."""
    consumer = RecordingConsumer()
    async with in_process_stack(registry) as stack, connected_backend(stack) as backend:
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        backend.generate(prompt, generation_options(), consumer).abort()
        after = RecordingConsumer()
        backend.generate(prompt, generation_options(max_tokens=1), after)
        await after.hears("done")
        await stack.idle()

        assert [] == consumer.heard
        assert 1 == stack.worker.servicer.table.aborted_outputs


async def _answer(
    registry: ModelRegistry, settings: PacedSettings, **options: object
) -> RecordingConsumer:
    consumer = RecordingConsumer()
    async with in_process_stack(registry, settings) as stack, connected_backend(stack) as backend:
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        backend.generate(prompt, generation_options(**options), consumer)
        await consumer.ended.wait()
        await stack.idle()
    return consumer


async def test_the_text_is_what_the_tokens_say(registry: ModelRegistry) -> None:
    """An echoing worker's answer is the prompt's text up to the first end token."""
    consumer = await _answer(registry, ECHO, max_tokens=100)

    assert {0: "user\nHello, world!"} == consumer.texts
    assert "stop" == consumer.results[0].finish_reason


async def test_a_stop_string_ends_the_answer_before_it(registry: ModelRegistry) -> None:
    """Text before the stop string is delivered, nothing of it or behind it; its token counts."""
    whole = await _answer(registry, ECHO, max_tokens=100)
    cut = await _answer(registry, ECHO, max_tokens=100, stop_strings=("never", "world"))
    result = cut.results[0]

    assert {0: "user\nHello, "} == cut.texts
    assert ("stop", "world") == (result.finish_reason, result.stop_string)
    assert 0 < result.completion_tokens < whole.results[0].completion_tokens


async def test_a_stop_string_in_the_last_allowed_token_is_a_stop(registry: ModelRegistry) -> None:
    """Where one token both completes a stop string and reaches max_tokens, it is a stop."""
    cut = await _answer(registry, ECHO, max_tokens=100, stop_strings=("world",))
    tokens = cut.results[0].completion_tokens
    same = await _answer(registry, ECHO, max_tokens=tokens, stop_strings=("world",))
    before = await _answer(registry, ECHO, max_tokens=tokens - 1, stop_strings=("world",))

    assert cut.texts == same.texts
    assert cut.results == same.results
    assert "length" == before.results[0].finish_reason
    assert tokens - 1 == before.results[0].completion_tokens


async def test_a_held_back_beginning_of_a_stop_string_is_flushed(registry: ModelRegistry) -> None:
    """Text that could have begun a stop string comes out when the answer ends without it."""
    whole = await _answer(registry, ECHO, max_tokens=100)
    held = await _answer(registry, ECHO, max_tokens=100, stop_strings=("world!zzz",))

    assert whole.texts == held.texts
    assert whole.results == held.results


async def test_several_outputs_have_their_own_text_and_counts(registry: ModelRegistry) -> None:
    """All n outputs are complete, each with its own finish, and done comes once."""
    consumer = await _answer(registry, ECHO, n=4, max_tokens=100)

    assert 4 == len(consumer.results)
    assert 1 == len(set(consumer.texts.values()))
    assert 1 == consumer.heard.count(("done",))


async def test_a_killed_worker_is_survived(registry: ModelRegistry) -> None:
    """Of requests on two workers those of the stopped one end or move, and new ones are served."""
    settings = PacedSettings(prefill_tokens_per_second=100)
    consumers = [RecordingConsumer(delivers=False) for _ in range(8)]
    async with (
        in_process_stack(registry, settings, workers=2) as stack,
        connected_backend(stack) as backend,
    ):
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        for consumer in consumers:
            backend.generate(prompt, generation_options(max_tokens=5), consumer)
        await stack.worker.server.stop(0)
        for consumer in consumers:
            await consumer.ended.wait()

        assert 8 == sum(("done",) in consumer.heard for consumer in consumers)
        assert 1 == len({consumer.texts[0] for consumer in consumers})


async def test_the_client_answers_from_messages_to_text(registry: ModelRegistry) -> None:
    """Deltas spell the answer; finish reason, stop string and usage are there afterwards."""
    async with (
        in_process_stack(registry, ECHO) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
    ):
        async with client.chat(HELLO, max_tokens=100, stop=["world"]) as answer:
            parts = [part async for part in answer]

        assert [stack.model] == client.models
        assert "user\nHello, " == "".join(parts)
        assert ("stop", "world") == (answer.finish_reason, answer.stop_string)
        assert 0 < answer.usage.completion_tokens[0]
        assert 0 < answer.usage.prompt_tokens


async def test_an_answer_can_be_read_again_and_does_not_hang(registry: ModelRegistry) -> None:
    """Reading behind the end gives nothing more, at once."""
    async with (
        in_process_stack(registry, ECHO) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
        client.chat(HELLO, max_tokens=100) as answer,
    ):
        text = await answer.text()
        again = await asyncio.wait_for(answer.text(), 5)

    assert text
    assert "" == again


async def test_leaving_the_context_early_aborts_the_request(registry: ModelRegistry) -> None:
    """A caller that breaks off leaves nothing open; a reader elsewhere is told."""
    async with (
        in_process_stack(registry, SLOW) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
    ):
        async with client.chat(HELLO) as answer:
            async for _ in answer:
                break
        await _idle_after(stack)
        with pytest.raises(ServiceError) as caught:
            await asyncio.wait_for(answer.text(), 5)

    assert errors_pb2.ERROR_REASON_CLIENT_CANCELLED == caught.value.reason


async def test_an_error_in_the_callers_block_aborts_too(registry: ModelRegistry) -> None:
    """An exception inside the context passes through and nothing stays open."""
    async with (
        in_process_stack(registry, SLOW) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            async with client.chat(HELLO):
                _ = 1 // 0
        await _idle_after(stack)


async def test_the_client_raises_what_the_services_refuse(registry: ModelRegistry) -> None:
    """Render's and the worker's refusals are ServiceErrors with reason and parameter."""
    async with (
        in_process_stack(registry, ECHO) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
    ):
        with pytest.raises(ServiceError) as role:
            async with client.chat([ChatMessage("nobody", "x")]):
                pass
        with pytest.raises(ServiceError) as tokens:
            async with client.chat(HELLO, max_tokens=100_000) as answer:
                await answer.text()
        with pytest.raises(ServiceError) as model:
            async with client.chat(HELLO, model="other"):
                pass

    assert (errors_pb2.ERROR_REASON_INVALID_REQUEST, "messages") == (
        role.value.reason,
        role.value.param,
    )
    assert errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED == tokens.value.reason
    assert errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE == model.value.reason


async def test_the_clients_time_limit_holds(registry: ModelRegistry) -> None:
    """An answer that takes longer than the caller's limit is an error, and is aborted."""
    async with (
        in_process_stack(registry, PacedSettings(prefill_tokens_per_second=0.01)) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
    ):
        with pytest.raises(ServiceError) as caught:
            async with client.chat(HELLO, timeout_seconds=0.2) as answer:
                await answer.text()
        await stack.idle()

    assert errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED == caught.value.reason


async def test_a_client_that_cannot_connect_says_so_and_leaves_nothing() -> None:
    """Entering fails after the connect limit, by name, and its tasks are gone."""
    client = HeadraceClient(["127.0.0.1:1"], ["127.0.0.1:1"], connect_timeout_seconds=0.2)
    with pytest.raises(ServiceError) as caught:
        await client.__aenter__()

    assert errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE == caught.value.reason
    assert not any(link.is_connected for link in client._backend._links)
    assert len(asyncio.all_tasks()) == 1


async def test_peers_without_a_common_tokenizer_are_refused_by_name() -> None:
    """A worker and a tokenizer of different fingerprints serve nothing, and that is said."""
    async with scripted_worker() as worker, scripted_tokenizer() as tokenizer:
        tokenizer.models = {"tiny": "0" * 32}
        client = HeadraceClient([worker.address], [tokenizer.address])
        entering = asyncio.create_task(client.__aenter__())
        await worker.greeted()
        await tokenizer.greeted()
        with pytest.raises(ServiceError) as caught:
            await asyncio.wait_for(entering, 5)

    assert errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER == caught.value.reason
    assert not any(link.is_connected for link in client._backend._links)
    assert len(asyncio.all_tasks()) == 1


async def test_the_least_loaded_worker_is_chosen_and_equals_take_turns(
    registry: ModelRegistry,
) -> None:
    """Requests spread over workers by outputs in flight."""
    async with (
        in_process_stack(registry, STATES["prefill"], workers=3) as stack,
        connected_backend(stack) as backend,
    ):
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        for _ in range(9):
            backend.generate(prompt, generation_options(), RecordingConsumer())

        assert [3, 3, 3] == [link.num_outputs for link in backend._workers]


async def test_models_are_those_with_worker_and_tokenizer(registry: ModelRegistry) -> None:
    """A served model carries what its worker says; without a tokenizer there is none."""
    async with in_process_stack(registry) as stack, connected_backend(stack) as backend:
        models = backend.models
        lonely = GrpcChatBackend(stack.worker_addresses, [])
        await lonely.start()
        await lonely._workers[0].connected.wait()

        assert [(stack.model, 256, 128)] == [
            (model.name, model.context_length, model.max_outputs) for model in models
        ]
        assert [] == list(lonely.models)
        assert not lonely.is_ready
        await lonely.stop()
