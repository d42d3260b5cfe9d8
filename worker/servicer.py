"""The worker's gRPC service: Attach, Generate, GetModel."""

import grpc

from headrace.access.grpc_authentication import KeyGate, key_of
from headrace.common.v1 import errors_pb2
from headrace.rpc.call_metadata import call_trace
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import FrameTiming
from headrace.runtime.identity import Identity
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.generation_pb2 import GenerationRequest
from headrace.worker.v1.model_pb2 import GetModelRequest, GetModelResponse, WorkerLoad
from headrace.worker.v1.service_pb2_grpc import GenerationServiceServicer
from worker.active_requests import RequestTable
from worker.attach_session import AttachSession
from worker.engine.seam import Engine
from worker.generate_call import GenerateCall
from worker.request_gate import RequestGate
from worker.request_report import RequestReports
from worker.served_names import admitted_names, chosen_name


class WorkerServicer(GenerationServiceServicer):
    """Serves one engine to any number of edges and direct callers."""

    def __init__(
        self,
        engine: Engine,
        identity: Identity,
        timing: FrameTiming,
        gate: KeyGate | None = None,
        unbounded_answer_tokens: int = 1024,
        reports: RequestReports | None = None,
    ) -> None:
        """`gate` knows the callers; without one everybody may do everything."""
        self._gate = gate or KeyGate()
        self._unbounded_answer_tokens = unbounded_answer_tokens
        self._engine = engine
        self._identity = identity
        self._timing = timing
        self._sessions: set[AttachSession] = set()
        self._draining = False
        self.table = RequestTable(reports)

    async def Attach(  # type: ignore[override] # noqa: N802 (gRPC's name; writes by context)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        """Serve one edge's shared stream until it ends."""
        del request_iterator  # frames are read from the context, which also writes
        session = AttachSession(
            context,
            self._engine,
            self.table,
            self._identity,
            self._timing,
            self._requests(context),
        )
        self._sessions.add(session)
        try:
            if self._draining:
                session.drain()
            await session.run()
        finally:
            self._sessions.discard(session)

    async def Generate(  # type: ignore[override] # noqa: N802 (gRPC's name; writes by context)
        self, request: GenerateRequest, context: grpc.aio.ServicerContext
    ) -> None:
        """Serve one request."""
        wire = _with_metadata(request.request, context)
        requests = self._requests(context)
        if self._draining:
            error = ServiceError(errors_pb2.ERROR_REASON_DRAINING, "the worker is shutting down")
            self.table.reports.begin(wire, requests.caller).refuse(error)
            raise error
        call = GenerateCall(self._engine, self.table, requests)
        await call.run(wire, context.write)

    async def GetModel(  # noqa: N802 (gRPC's name)
        self, request: GetModelRequest, context: grpc.aio.ServicerContext
    ) -> GetModelResponse:
        """Say what is served, and how busy the worker is."""
        info = self._engine.info
        caller = self._gate.holder(context).caller
        name = chosen_name(info, caller, request.model)
        knows_base = name != info.model and caller.may_use(info.model)
        return GetModelResponse(
            model=name,
            served_models=admitted_names(info, caller),
            base_model=info.model if knows_base else "",
            engine=info.engine,
            build=self._identity.build,
            instance_id=self._identity.instance_id,
            context_length=info.context_length,
            block_size=info.block_size,
            vocabulary_size=info.vocabulary_size,
            end_token_ids=sorted(info.end_token_ids),
            tokenizer_fingerprint=info.tokenizer_fingerprint,
            honoured_fields=sorted(info.honoured_fields),
            max_logprobs=info.max_logprobs,
            max_outputs=info.max_outputs,
            numerics=info.numerics,
            system_fingerprint=info.fingerprint_of(name),
            load=self._load(),
        )

    def drain(self) -> None:
        """Take nothing new on any stream, and say so to every edge."""
        self._draining = True
        for session in self._sessions:
            session.drain()

    async def drained(self) -> None:
        """Return when nothing runs; every stream then ends once its last frame is out."""
        await self.table.idle()
        self._finish()

    def cut(self) -> None:
        """End every stream once what waits is out; what still runs there has to go on elsewhere."""
        self.table.is_closing = True
        self._finish()

    def _finish(self) -> None:
        for session in self._sessions:
            session.finish()

    def _requests(self, context: grpc.aio.ServicerContext) -> RequestGate:
        """What the caller may submit. Raises ServiceError: invalid_api_key."""
        key = key_of(context.invocation_metadata())
        return RequestGate(self._gate, key, self._unbounded_answer_tokens)

    def _load(self) -> WorkerLoad:
        load = self._engine.load
        return WorkerLoad(
            running_requests=self.table.num_running,
            queued_outputs=load.queued_outputs,
            total_blocks=load.total_blocks,
            free_blocks=load.free_blocks,
            cached_blocks=load.cached_blocks,
            referenced_blocks=load.referenced_blocks,
            preemptions=load.preemptions,
            prefilled_tokens=load.prefilled_tokens,
            stray_entries=self.table.stray_entries,
            aborted_outputs=self.table.aborted_outputs,
        )


def _with_metadata(
    request: GenerationRequest, context: grpc.aio.ServicerContext
) -> GenerationRequest:
    """Fill in what a unary caller may say in metadata: trace context and the deadline."""
    trace = call_trace(context.invocation_metadata())
    if trace.traceparent and not request.traceparent:
        # Both or none: a state belongs to its trace.
        request.traceparent, request.tracestate = trace.traceparent, trace.tracestate
    remaining = context.time_remaining()
    if remaining is not None:
        remaining_ms = max(0, int(remaining * 1000))
        known = request.remaining_ms if request.HasField("remaining_ms") else remaining_ms
        request.remaining_ms = min(known, remaining_ms)
    return request
