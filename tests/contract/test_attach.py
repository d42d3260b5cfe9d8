"""The frame contract on Attach, rule by rule (protos/README.md), against the worker's servicer."""

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.rpc.limits import FrameTiming
from headrace.worker.v1.attach_pb2 import AttachRequest, Submission
from headrace.worker.v1.model_pb2 import GetModelRequest
from tests.support.engines import ScriptedEngine
from tests.support.models import END_TOKEN, fake_model
from tests.support.raw_attach import RawAttach, generation, running_worker
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings

FAST = FrameTiming(heartbeat_seconds=0.1, silence_seconds=0.5, hello_seconds=0.5)


async def accepted(raw: RawAttach, first: int = 1, **fields: object) -> None:
    """Submit a request and wait until the worker has it."""
    await raw.submit(first, generation(**fields))
    await raw.read_until("accepted_handles")


async def test_each_direction_opens_with_hello() -> None:
    """The worker's first frame, and only that, says hello with version, build and instance."""
    async with running_worker(ScriptedEngine(), FAST) as worker:
        raw = RawAttach(worker.stub)
        await raw.send()
        first, second = await raw.read(), await raw.read()

    assert first.header.hello.protocol_version == 1
    assert first.header.hello.instance_id
    assert first.header.hello.max_message_bytes == 16 * 1024 * 1024
    assert not second.header.HasField("hello")
    assert (1, 2) == (first.header.sequence, second.header.sequence)


async def test_another_protocol_is_refused_by_name() -> None:
    """A peer of an unknown protocol version ends with a status that names both versions."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        frame = AttachRequest()
        frame.header.sequence = 1
        frame.header.hello.protocol_version = 99
        await raw.call.write(frame)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    error = error_from_rpc(caught.value, peer="worker")
    assert errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER == error.reason
    assert "99" in error.message


@pytest.mark.parametrize("second", [1, 4, 0])
async def test_a_gap_in_the_numbering_ends_the_stream(second: int) -> None:
    """Frames are numbered 1, 2, 3 …; anything else ends the stream loudly."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        await raw.send()
        raw.sequence = second - 1
        await raw.send(greet=False)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()


async def test_a_reused_handle_ends_the_stream() -> None:
    """Handles are strictly increasing: reuse is a bug and ends the stream."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw, 7)
        await raw.submit(7)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert "7" in (caught.value.details() or "")


@pytest.mark.parametrize(("first", "n"), [(2**64 - 1, 2), (2**64 - 3, 10**9)])
async def test_a_handle_beyond_64_bits_ends_the_stream(first: int, n: int) -> None:
    """Outputs whose handles cannot be named are a bug of the edge, and end its stream by name."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(first, generation(n=n))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()
    assert "beyond 64 bits" in (caught.value.details() or "")


async def test_order_per_handle() -> None:
    """An output is accepted, started, fed and ended, in this order, with exactly one terminal."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        engine.start_output(1)
        engine.emit(1, 11, 12)
        engine.emit(1, 13, END_TOKEN)
        engine.finish(1, at_end_token=True)
        frames = await raw.read_until("terminals")

    started = [entry for frame in frames for entry in frame.started]
    tokens = [token for frame in frames for token in frame.token_ids]
    terminal = frames[-1].terminals[0]
    assert [(1, 5, 2)] == [(s.handle, s.prompt_tokens, s.cached_prompt_tokens) for s in started]
    assert [11, 12, 13, END_TOKEN] == tokens
    assert FINISH_REASON_STOP == terminal.finish_reason
    assert END_TOKEN == terminal.stop_token_id


async def test_n_outputs_take_handles_in_a_row() -> None:
    """A request with n outputs is accepted under n handles from the first."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(10, generation(n=3))
        frames = await raw.read_until("accepted_handles", 3)

    assert [10, 11, 12] == [h for frame in frames for h in frame.accepted_handles]


async def test_abort_is_ended_by_the_servicer_when_the_engine_is_silent() -> None:
    """An abort's terminal comes at once though the engine says nothing, and the table is empty."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        before = await worker.stub.GetModel(GetModelRequest())
        await raw.abort(1)
        frames = await raw.read_until("terminals")
        after = await worker.stub.GetModel(GetModelRequest())

    reason = frames[-1].terminals[0].failure.reason
    assert errors_pb2.ERROR_REASON_CLIENT_CANCELLED == reason
    assert [1] == engine.aborted
    assert (1, 0) == (before.load.running_requests, after.load.running_requests)


async def test_nothing_follows_a_terminal() -> None:
    """What the engine still says of an aborted output never reaches the edge, and is counted."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        await raw.submit(2)
        await raw.read_until("accepted_handles")
        await raw.abort(1)
        await raw.read_until("terminals")
        engine.emit(1, 11)
        engine.finish(1)
        engine.emit(2, 12)
        engine.finish(2)
        frames = await raw.read_until("terminals")
        load = (await worker.stub.GetModel(GetModelRequest())).load

    assert [2] == [handle for frame in frames for handle in frame.handles]
    assert [2] == [terminal.handle for frame in frames for terminal in frame.terminals]
    assert 2 == load.stray_entries


async def test_aborts_of_unknown_handles_are_ignored_and_counted() -> None:
    """An abort for a handle that never was, or is over, changes nothing but a counter."""
    async with running_worker(ScriptedEngine(), FAST) as worker:
        raw = RawAttach(worker.stub)
        await raw.send()
        await raw.abort(5, 6)
        await accepted(raw, 8)
        load = (await worker.stub.GetModel(GetModelRequest())).load

    assert 2 == load.stray_entries


async def test_a_refused_request_is_its_own_terminal() -> None:
    """A request that cannot be served fails alone, by name, and the stream goes on."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(logprobs=99))
        frames = await raw.read_until("terminals")
        await accepted(raw, 2)

    failure = frames[-1].terminals[0].failure
    assert errors_pb2.ERROR_REASON_INVALID_REQUEST == failure.reason
    assert "logprobs" == failure.parameter
    assert "99" in failure.message


async def test_an_engine_that_refuses_releases_the_request() -> None:
    """A request that the engine refuses leaves the table and fails with the engine's reason."""
    engine = ScriptedEngine()
    engine.refusal = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "full")
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(n=2))
        frames = await raw.read_until("terminals", 2)
        load = (await worker.stub.GetModel(GetModelRequest())).load

    reasons = {t.failure.reason for frame in frames for t in frame.terminals}
    assert {errors_pb2.ERROR_REASON_OVERLOADED} == reasons
    assert 0 == load.running_requests


async def test_large_batches_are_split_below_the_merge_limit() -> None:
    """Frames stop merging at 1 MiB, and nothing is lost or reordered."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        expected = list(range(20_000)) * 10
        for start in range(0, len(expected), 10_000):
            engine.emit(1, *expected[start : start + 10_000])
        engine.finish(1)
        frames = await raw.read_until("terminals")

    assert expected == [token for frame in frames for token in frame.token_ids]
    assert len(frames) > 2
    assert all(frame.ByteSize() <= 1024 * 1024 for frame in frames)


async def test_a_request_larger_than_a_frame_goes_alone() -> None:
    """A single submission above 1 MiB is taken, up to the announced largest message."""
    engine = ScriptedEngine()
    prompt = [1] * 1_200_000
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(prompt_token_ids=prompt))
        frames = await raw.read_until("terminals")

    failure = frames[-1].terminals[0].failure
    assert errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED == failure.reason
    assert "1200000" in failure.message


async def test_the_deadline_is_a_remaining_duration() -> None:
    """A request whose remaining time passes is ended with that reason, whatever the engine does."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(remaining_ms=50))
        frames = await raw.read_until("terminals")

    reason = frames[-1].terminals[0].failure.reason
    assert errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED == reason
    assert [1] == engine.aborted


async def test_continuation_counts_towards_max_tokens() -> None:
    """An output prefix is not sent again and leaves max_tokens less room."""
    engine = PacedEngine(fake_model(), PacedSettings(tokens_per_second=2000))
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(max_tokens=6))
        whole = await raw.read_until("terminals")
        ids = [token for frame in whole for token in frame.token_ids]
        await raw.submit(2, generation(max_tokens=6, output_prefix_token_ids=ids[:4]))
        rest = await raw.read_until("terminals")

    assert 6 == len(ids)
    assert ids[4:] == [token for frame in rest for token in frame.token_ids]


async def test_logprobs_travel_with_their_tokens() -> None:
    """An output that asked has as many log probabilities in a frame as tokens; others have none."""
    engine = PacedEngine(fake_model(), PacedSettings(tokens_per_second=2000))
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        asking = Submission(first_handle=1, request=generation(logprobs=2))
        silent = Submission(first_handle=2, request=generation())
        await raw.send(AttachRequest(submissions=[asking, silent]))
        frames = await raw.read_until("terminals", 2)

    entries = [entry for frame in frames for entry in frame.logprobs]
    tokens = [
        token
        for frame in frames
        for handle, token in zip(frame.handles, frame.token_ids, strict=True)
        if handle == 1
    ]
    assert {1} == {entry.handle for entry in entries}
    assert [0.0] * 9 == [value for entry in entries for value in entry.logprobs]
    assert tokens == [token for entry in entries for token in entry.top_token_ids]


async def test_a_handle_named_twice_in_one_frame_is_aborted_once() -> None:
    """The second mention is a stray like any other: one terminal, and the stream goes on."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        await raw.abort(1, 1)
        frames = await raw.read_until("terminals")
        await accepted(raw, 2)
        load = (await worker.stub.GetModel(GetModelRequest())).load

    assert [1] == [terminal.handle for frame in frames for terminal in frame.terminals]
    assert (1, 1) == (load.stray_entries, load.aborted_outputs)


async def test_an_absurd_number_of_outputs_is_refused_in_bounded_space() -> None:
    """A request for 2^32 - 1 outputs is refused; its handles are used up all the same."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(n=2**32 - 1))
        frames = await raw.read_until("terminals")
        await accepted(raw, 2**32)

    terminals = [terminal for frame in frames for terminal in frame.terminals]
    assert {"n"} == {terminal.failure.parameter for terminal in terminals}
    assert 128 == len(terminals)
