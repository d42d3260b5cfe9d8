"""The tokenizer's gRPC service: Render, Encode, Decode, CountTokens, Detokenize, GetModel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import ParamSpec, TypeVar

import grpc

from headrace.access.grpc_authentication import KeyGate
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import FrameTiming
from headrace.rpc.served_calls import served_call
from headrace.runtime.identity import Identity
from headrace.telemetry import names
from headrace.tokenizer.v1.encoding_pb2 import (
    CountTokensRequest,
    CountTokensResponse,
    DecodeRequest,
    DecodeResponse,
    EncodeRequest,
    EncodeResponse,
)
from headrace.tokenizer.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.tokenizer.v1.render_pb2 import RenderRequest, RenderResponse
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceServicer
from tokenizer_svc.activity import Activity
from tokenizer_svc.call_gate import CallGate
from tokenizer_svc.counting import Counting
from tokenizer_svc.detokenize_session import DetokenizeSession, OutputOpener
from tokenizer_svc.encoding import TextEncoder, TooManyTokensError
from tokenizer_svc.encoding_pool import EncodingPool
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.render_times import RenderTimes
from tokenizer_svc.rendering import Rendering, extend_ids
from tokenizer_svc.request_mapping import checked_text
from tokenizer_svc.settings import LimitSettings

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class TokenizerServicer(TokenizerServiceServicer):
    """Serves the registry's models to any number of edges and direct callers."""

    def __init__(
        self,
        registry: ModelRegistry,
        pool: EncodingPool,
        limits: LimitSettings,
        identity: Identity,
        timing: FrameTiming,
        gate: KeyGate | None = None,
    ) -> None:
        """`gate` knows the callers; without one everybody may do everything."""
        self._registry = registry
        self._callers = CallGate(registry, gate)
        self._pool = pool
        self._limits = limits
        self._identity = identity
        self._timing = timing
        self._opener = OutputOpener(registry, limits)
        self._sessions: set[DetokenizeSession] = set()
        self.activity = Activity()

    async def Render(  # noqa: N802 (gRPC's name)
        self, request: RenderRequest, context: grpc.aio.ServicerContext
    ) -> RenderResponse:
        """A conversation to prompt token ids."""
        with self.activity.call(), self._callers.call(context, request.model) as call:
            rendering = Rendering.prepare(self._registry, call.model, request, self._limits)
            with _told_times(rendering.times):
                response = await self._encoded(rendering.size, rendering.run)
            call.used_tokens = len(response.prompt_token_ids)
            return response

    async def Encode(  # noqa: N802 (gRPC's name)
        self, request: EncodeRequest, context: grpc.aio.ServicerContext
    ) -> EncodeResponse:
        """Text to token ids."""
        with self.activity.call(), self._callers.call(context, request.model) as call:
            encoder = call.model.encoder
            size = len(checked_text(request.text, self._limits))
            max_tokens = self._limits.max_text_tokens
            response = await self._encoded(size, _encoded, encoder, request, max_tokens)
            call.used_tokens = len(response.token_ids)
            return response

    async def Decode(  # noqa: N802 (gRPC's name)
        self, request: DecodeRequest, context: grpc.aio.ServicerContext
    ) -> DecodeResponse:
        """Token ids to text."""
        with self.activity.call(), self._callers.call(context, request.model) as call:
            size = call.used_tokens = len(request.token_ids)
            return DecodeResponse(text=await self._run(size, _decoded, call.model, request))

    async def CountTokens(  # noqa: N802 (gRPC's name)
        self, request: CountTokensRequest, context: grpc.aio.ServicerContext
    ) -> CountTokensResponse:
        """How many tokens a text or a conversation has."""
        with self.activity.call(), self._callers.call(context, request.model) as call:
            model = call.model
            match request.WhichOneof("input"):
                case "text":
                    text = checked_text(request.text, self._limits)
                    tokens = await self._encoded(len(text), model.encoder.count_marked, text)
                case "conversation":
                    counting = Counting.prepare(
                        self._registry, model, request.conversation, self._limits
                    )
                    with _told_times(counting.times):
                        tokens = await self._encoded(counting.size, counting.run)
                case _:
                    message = "Neither text nor conversation is set; one of them is needed."
                    raise ServiceError(
                        errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="input"
                    )
            call.used_tokens = tokens
            return CountTokensResponse(tokens=tokens)

    async def Detokenize(  # type: ignore[override] # noqa: N802 (gRPC's name; writes by context)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        """Serve one edge's shared stream until it ends."""
        del request_iterator  # frames are read from the context, which also writes
        caller = self._callers.stream_caller(context)
        session = DetokenizeSession(
            context, self._opener, self.activity, self._identity, self._timing, caller
        )
        self._sessions.add(session)
        try:
            if self.activity.is_draining:
                session.drain()
            await session.run()
        finally:
            self._sessions.discard(session)

    async def GetModel(  # noqa: N802 (gRPC's name)
        self, request: GetModelRequest, context: grpc.aio.ServicerContext
    ) -> GetModelResponse:
        """What is known of a model, and how busy the service is."""
        model = self._callers.model(context, request.model)
        return GetModelResponse(
            model=model.directory.name,
            served_models=self._callers.names(context),
            build=self._identity.build,
            instance_id=self._identity.instance_id,
            tokenizer_fingerprint=model.directory.tokenizer_fingerprint,
            vocabulary_size=len(model.vocabulary.token_bytes),
            end_token_ids=sorted(model.directory.end_token_ids),
            context_length=model.directory.context_length,
            open_outputs=self.activity.open_outputs,
            stray_entries=self.activity.stray_entries,
            output_format=model.output_format,
        )

    async def _encoded(
        self, characters: int, job: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs
    ) -> ResultT:
        """The result of a job on texts of so many characters; the call is told how many."""
        served_call().attributes[names.TEXT_CHARACTERS] = characters
        return await self._run(characters, job, *args, **kwargs)

    async def _run(
        self, size: int, job: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs
    ) -> ResultT:
        """The result of a job, from a thread; the call is told how long it waited for one."""
        attributes, asked = served_call().attributes, perf_counter()

        def work() -> ResultT:
            attributes[names.THREAD_WAIT_SECONDS] = perf_counter() - asked
            return job(*args, **kwargs)

        try:
            return await self._pool.run(size, work)
        finally:
            # Nobody has begun it: its caller is gone, or there was no room.
            attributes.setdefault(names.THREAD_WAIT_SECONDS, perf_counter() - asked)

    def drain(self) -> None:
        """Take nothing new on any stream, and say so to every edge."""
        self.activity.is_draining = True
        for session in self._sessions:
            session.drain()

    async def drained(self) -> None:
        """Return when nothing is under way; every stream then ends once its last frame is out."""
        await self.activity.idle()
        self.cut()

    def cut(self) -> None:
        """End every stream once what waits is out; what is open there has to go on elsewhere."""
        for session in self._sessions:
            session.finish()


@contextmanager
def _told_times(times: RenderTimes) -> Iterator[None]:
    """Tell the call where its rendering's time went, however far it came."""
    try:
        yield
    finally:
        served_call().attributes.update(
            {
                names.TEMPLATE_SECONDS: times.template.seconds,
                names.ENCODING_SECONDS: times.encoding.seconds,
                names.GUIDE_SECONDS: times.guide.seconds,
            }
        )


def _encoded(encoder: TextEncoder, request: EncodeRequest, max_tokens: int) -> EncodeResponse:
    """The answer to Encode; runs on a thread."""
    encode = encoder.encode if request.allow_special_tokens else encoder.encode_marked
    try:
        ids = encode(request.text, max_tokens)
    except TooManyTokensError as error:
        message = f"text has {error.count} tokens; at most {max_tokens} are allowed."
        raise ServiceError(
            errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE, message, param="text"
        ) from error
    response = EncodeResponse()
    extend_ids(response.token_ids, ids)
    return response


def _decoded(model: TokenizerModel, request: DecodeRequest) -> str:
    """The answer to Decode; runs on a thread."""
    token_ids = request.token_ids[:]
    size = len(model.vocabulary.token_bytes)
    if token_ids and max(token_ids) >= size:
        message = f"token_ids holds {max(token_ids)}; the vocabulary has {size} ids."
        raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="token_ids")
    return model.vocabulary.decode(token_ids, keep_special_tokens=request.keep_special_tokens)
