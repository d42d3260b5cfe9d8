"""Keys over gRPC: who is let in by a worker, whose salt and priority hold, and whose limits."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from headrace.access.key_ring import KeyRing
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from headrace.rpc.bearer import OwnKey
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.worker.v1.generate_pb2 import GenerateRequest, GenerateResponse
from headrace.worker.v1.model_pb2 import GetModelRequest
from tests.support.engines import ScriptedEngine
from tests.support.keys import KEY, OTHER_KEY, TRUSTED_KEY, entry, trusted_entry, write_keys
from tests.support.models import fake_model
from tests.support.raw_attach import RawAttach, generation, running_worker
from tests.support.raw_attach import RunningWorker as Worker
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import Engine, EngineRequest

INVALID_KEY = errors_pb2.ERROR_REASON_INVALID_API_KEY
LIMITED = errors_pb2.ERROR_REASON_RATE_LIMITED
Ring = Callable[..., KeyRing]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Where the worker's keys stand."""
    return tmp_path / "keys.toml"


@pytest.fixture
def ring(key_file: Path) -> Ring:
    """Keys in force, from entries."""
    return lambda *entries: KeyRing(write_keys(key_file, *entries))


def serving(keys: KeyRing, engine: Engine | None = None) -> AbstractAsyncContextManager[Worker]:
    """A worker that demands these keys."""
    paced = PacedEngine(fake_model(), PacedSettings(tokens_per_second=5000))
    return running_worker(engine or paced, keys=keys)


async def generate(worker: Worker, key: str | None, **fields: Any) -> list[GenerateResponse]:
    """A whole Generate call."""
    request = GenerateRequest(request=generation(**fields))
    call = worker.stub.Generate(request, metadata=OwnKey(key).metadata())
    return [response async for response in call]


async def refusal(worker: Worker, key: str | None, **fields: Any) -> ServiceError:
    """What a Generate call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generate(worker, key, **fields)
    return error_from_rpc(caught.value, peer="worker")


@pytest.mark.parametrize("key", [None, OTHER_KEY, KEY[:-1], ""])
async def test_every_method_but_health_wants_a_known_key(ring: Ring, key: str | None) -> None:
    """Unary calls, streams and reflection alike; the status says why, and shows no key."""
    metadata = () if key is None else (("authorization", f"Bearer {key}"),)
    async with serving(ring(entry(KEY))) as worker:
        stub = worker.stub
        calls = [
            stub.GetModel(GetModelRequest(), metadata=metadata),
            stub.Generate(GenerateRequest(request=generation()), metadata=metadata).read(),
            stub.Attach(metadata=metadata).read(),
            reflection_pb2_grpc.ServerReflectionStub(worker.channel)
            .ServerReflectionInfo(metadata=metadata)
            .read(),
        ]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            error = error_from_rpc(caught.value, peer="worker")
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert error.reason == INVALID_KEY
            assert not key or key not in repr(caught.value)
        health = await health_pb2_grpc.HealthStub(worker.channel).Check(
            health_pb2.HealthCheckRequest()
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_two_keys_are_none(ring: Ring) -> None:
    """Somebody in between may have looked at the other one."""
    async with serving(ring(entry(KEY), entry(OTHER_KEY))) as worker:
        both = OwnKey(KEY).metadata() + OwnKey(OTHER_KEY).metadata()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.stub.GetModel(GetModelRequest(), metadata=both)

        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_known_key_is_let_in_everywhere(ring: Ring) -> None:
    """Generate, Attach, GetModel and reflection."""
    metadata = OwnKey(KEY).metadata()
    async with serving(ring(entry(KEY))) as worker:
        events = await generate(worker, KEY, max_tokens=3)
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1, generation(max_tokens=3))
        frames = await raw.read_until("terminals")
        model = await worker.stub.GetModel(GetModelRequest(), metadata=metadata)
        seen = await (
            reflection_pb2_grpc.ServerReflectionStub(worker.channel)
            .ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=metadata
            )
            .read()
        )

        assert events[-1].terminal.finish_reason == FINISH_REASON_LENGTH
        assert frames[-1].terminals[0].finish_reason == FINISH_REASON_LENGTH
        assert model.model == "tiny"
        assert seen.list_services_response.service
        raw.call.cancel()


class SeeingEngine(PacedEngine):
    """A paced engine that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(fake_model(), PacedSettings(tokens_per_second=5000))
        self.requests: list[EngineRequest] = []

    def submit(self, request: EngineRequest, sink: Any) -> None:
        self.requests.append(request)
        super().submit(request, sink)


async def test_salt_and_priority_are_the_keys_own(ring: Ring) -> None:
    """They are filled in; the caller may repeat them, and say nothing else."""
    engine = SeeingEngine()
    keys = ring(entry(KEY, more="priority = 7"))
    async with serving(keys, engine) as worker:
        await generate(worker, KEY)
        await generate(worker, KEY, cache_salt="tenant:acme", priority=7)
        salt = await refusal(worker, KEY, cache_salt="tenant:globex")
        priority = await refusal(worker, KEY, priority=8)
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1)
        await raw.submit(2, generation(cache_salt="tenant:globex"))
        frames = await raw.read_until("terminals", 2)

        assert [(r.cache_salt, r.priority) for r in engine.requests] == [("tenant:acme", 7)] * 3
        assert (salt.param, priority.param) == ("cache_salt", "priority")
        failed = [t for f in frames for t in f.terminals if t.HasField("failure")]
        assert [(t.handle, t.failure.parameter) for t in failed] == [(2, "cache_salt")]
        raw.call.cancel()


async def test_a_trusted_key_speaks_for_others(ring: Ring) -> None:
    """The edge's own key: salt and priority are taken as they are."""
    engine = SeeingEngine()
    keys = ring(trusted_entry())
    async with serving(keys, engine) as worker:
        await generate(worker, TRUSTED_KEY, cache_salt="tenant:globex", priority=-3)

        assert [(r.cache_salt, r.priority) for r in engine.requests] == [("tenant:globex", -3)]


async def test_a_model_that_the_key_does_not_admit_is_unknown(ring: Ring) -> None:
    """In every form; the key that admits it goes on."""
    entries = (entry(KEY, more='models = ["large"]'), entry(OTHER_KEY, more='models = ["tiny"]'))
    async with serving(ring(*entries)) as worker:
        error = await refusal(worker, KEY, model="tiny")
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1)
        (frame,) = (await raw.read_until("terminals"))[-1:]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.stub.GetModel(GetModelRequest(), metadata=OwnKey(KEY).metadata())

        missing = errors_pb2.ERROR_REASON_MODEL_NOT_FOUND
        assert error.reason == missing
        assert frame.terminals[0].failure.reason == missing
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert await generate(worker, OTHER_KEY)
        raw.call.cancel()


async def test_requests_a_minute_hold_over_calls_and_streams_together(ring: Ring) -> None:
    """One key, one bucket; the refusal says how long to wait. Other keys have their own."""
    entries = (entry(KEY, more="requests_per_minute = 2"), entry(OTHER_KEY, "globex"))
    async with serving(ring(*entries)) as worker:
        await generate(worker, KEY)
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1)
        await raw.submit(2)
        frames = await raw.read_until("terminals", 2)
        error = await refusal(worker, KEY)

        failed = [t for f in frames for t in f.terminals if t.HasField("failure")]
        assert [(t.handle, t.failure.reason) for t in failed] == [(2, LIMITED)]
        assert 28_000 <= failed[0].failure.retry_after_ms <= 30_000
        assert error.reason == LIMITED
        assert error.retry_after_seconds == pytest.approx(30, abs=2)
        assert await generate(worker, OTHER_KEY)
        raw.call.cancel()


async def test_tokens_are_settled_also_for_a_caller_who_leaves(ring: Ring) -> None:
    """What was generated until then is charged, and the rest of the estimate comes back."""
    engine = ScriptedEngine()
    keys = ring(entry(KEY, more="tokens_per_minute = 1000"))
    async with serving(keys, engine) as worker:
        holder = keys.find(KEY)
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1, generation(max_tokens=900))
        await raw.read_until("accepted_handles")
        held = holder.allowance.quota("tokens", time.monotonic())
        error = await refusal(worker, KEY, max_tokens=200)
        engine.emit(1, *range(40))
        raw.call.cancel()
        await worker.servicer.table.idle()
        left = holder.allowance.quota("tokens", time.monotonic())

        assert held.remaining in (97, 98)
        assert error.reason == LIMITED
        assert "tokens per min (TPM): Limit 1000" in error.message
        assert left.remaining == pytest.approx(1000 - 43, abs=20)
        assert holder.allowance.num_running == 0


async def test_what_the_engine_refuses_costs_no_tokens(ring: Ring) -> None:
    """It was counted as a request, and nothing of it was computed; in both forms."""
    engine = ScriptedEngine()
    engine.refusal = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "the queue is full")
    keys = ring(entry(KEY, more="tokens_per_minute = 1000"))
    holder = keys.find(KEY)
    async with serving(keys, engine) as worker:
        error = await refusal(worker, KEY, max_tokens=900)
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1, generation(max_tokens=900))
        await raw.read_until("terminals")

        assert error.reason == errors_pb2.ERROR_REASON_OVERLOADED
        assert holder.allowance.quota("tokens", time.monotonic()).remaining == 1000
        assert holder.allowance.num_running == 0
        raw.call.cancel()


async def test_tokens_to_continue_from_cost_what_a_prompt_costs(ring: Ring) -> None:
    """They are computed likewise: whoever moves a prompt there gets nothing for it."""
    keys = ring(entry(KEY, more="tokens_per_minute = 1000"))
    async with serving(keys) as worker:
        await generate(worker, KEY, output_prefix_token_ids=[1] * 500, max_tokens=501)
        left = keys.find(KEY).allowance.quota("tokens", time.monotonic())
        error = await refusal(worker, KEY, output_prefix_token_ids=[1] * 900, max_tokens=990)

        assert left.remaining == pytest.approx(1000 - 3 - 500 - 1, abs=30)
        assert "Requested 993." in error.message


async def test_too_large_a_request_never_fits(ring: Ring) -> None:
    """More tokens than a whole minute has: refused without a time to wait."""
    async with serving(ring(entry(KEY, more="tokens_per_minute = 100"))) as worker:
        error = await refusal(worker, KEY, max_tokens=98)
        events = await generate(worker, KEY, max_tokens=97)

        assert error.retry_after_seconds is None
        assert "Request too large" in error.message
        assert events[-1].terminal.finish_reason == FINISH_REASON_LENGTH


async def test_requests_at_a_time_are_bounded_over_streams(ring: Ring) -> None:
    """A place is free again when a request has ended."""
    engine = ScriptedEngine()
    keys = ring(entry(KEY, more="concurrent_requests = 1"))
    async with serving(keys, engine) as worker:
        raw, other = RawAttach(worker.stub, KEY), RawAttach(worker.stub, KEY)
        await raw.submit(1)
        await raw.read_until("accepted_handles")
        await other.submit(1)
        refused = (await other.read_until("terminals"))[-1].terminals[0]
        await raw.abort(1)
        await raw.read_until("terminals")
        await other.submit(2)
        accepted = (await other.read_until("accepted_handles"))[-1].accepted_handles

        assert refused.failure.reason == LIMITED
        assert list(accepted) == [2]
        raw.call.cancel()
        other.call.cancel()


async def test_a_removed_key_is_refused_at_once_and_its_stream_ends_when_empty(
    ring: Ring, key_file: Path
) -> None:
    """What runs may end; the peer is told that nothing new is taken, and comes back anew."""
    engine = ScriptedEngine()
    keys = ring(entry(KEY), entry(OTHER_KEY))
    async with serving(keys, engine) as worker:
        raw = RawAttach(worker.stub, KEY)
        await raw.submit(1)
        await raw.read_until("accepted_handles")
        write_keys(key_file, entry(OTHER_KEY))
        await keys.reload()
        await raw.submit(2)
        frame = (await raw.read_until("terminals"))[-1]
        error = await refusal(worker, KEY)
        engine.finish(1)
        ended = (await raw.read_until("terminals"))[-1]
        await raw.read_to_end()

        assert error.reason == INVALID_KEY
        assert frame.terminals[0].failure.reason == errors_pb2.ERROR_REASON_DRAINING
        assert frame.header.draining
        assert ended.terminals[0].handle == 1
