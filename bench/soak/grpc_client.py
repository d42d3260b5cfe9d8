"""Guided requests straight to the worker: to the end, cancelled, or with too little time.

Each method returns in a word how the request ended, or raises UnexpectedError.
"""

import json
import random
import re
from types import TracebackType
from typing import Any, Self

import grpc
import jsonschema

from bench.services import Services
from bench.soak.chances import GuidedAsk, guided_ask
from bench.soak.outcomes import UnexpectedError
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.tokenizer.v1.encoding_pb2 import DecodeRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.generation_pb2 import Choice, GenerationRequest, Guide, SamplingParams
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub

_REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED
_EXPIRED = grpc.StatusCode.DEADLINE_EXCEEDED


class GrpcClient:
    """All gRPC clients together; a context that closes their channels."""

    def __init__(self, services: Services, model: str) -> None:
        self._services = services
        self._model = model

    async def __aenter__(self) -> Self:
        self._channels = [
            grpc.aio.insecure_channel(address)
            for address in (self._services.worker_address, self._services.tokenizer_address)
        ]
        self._worker = GenerationServiceStub(self._channels[0])
        self._tokenizer = TokenizerServiceStub(self._channels[1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for channel in self._channels:
            await channel.close()

    async def guided(self, chance: random.Random) -> str:
        """To the end; an answer that was not cut must be what the guide allows."""
        ask = guided_ask(chance)
        call = self._worker.Generate(await self._request(ask, chance))
        try:
            outputs, ends = await _read(call)
        except grpc.aio.AioRpcError as error:
            return _expected(error, _REFUSED, "refused")
        if sorted(ends) != list(range(ask.n)):
            raise UnexpectedError(f"n is {ask.n}, ends came for {sorted(ends)}")
        for index, reason in ends.items():
            if reason == FINISH_REASON_STOP:
                _check_text(ask, await self._text(outputs[index]))
        return "answered"

    async def guided_left(self, chance: random.Random) -> str:
        """Cancelled after some messages, perhaps while the guide is still compiled."""
        leave_after = chance.randrange(20)
        call = self._worker.Generate(await self._request(guided_ask(chance), chance))
        try:
            for _ in range(leave_after):
                if await call.read() is grpc.aio.EOF:
                    return "answered"
        except grpc.aio.AioRpcError as error:
            return _expected(error, _REFUSED, "refused")
        finally:
            call.cancel()
        return "left"

    async def guided_late(self, chance: random.Random) -> str:
        """With less time than most need."""
        request = await self._request(guided_ask(chance), chance)
        try:
            await _read(self._worker.Generate(request, timeout=chance.uniform(0.05, 1.5)))
        except grpc.aio.AioRpcError as error:
            if error.code() is _REFUSED:
                return "refused"
            return _expected(error, _EXPIRED, "timed out")
        return "answered"

    async def _request(self, ask: GuidedAsk, chance: random.Random) -> GenerateRequest:
        messages = [Message(role="user", content=ask.question)]
        rendered = await self._tokenizer.Render(RenderRequest(model=self._model, messages=messages))
        guide: dict[str, Any] = {ask.kind: ask.guide}
        if isinstance(ask.guide, list):
            guide = {ask.kind: Choice(alternatives=ask.guide)}
        return GenerateRequest(
            request=GenerationRequest(
                request_id=f"soak-{chance.getrandbits(64):016x}",
                prompt_token_ids=rendered.prompt_token_ids,
                sampling=SamplingParams(temperature=0.8, frequency_penalty=chance.choice((0, 0.5))),
                max_tokens=ask.max_tokens,
                n=ask.n,
                guide=Guide(**guide),
            )
        )

    async def _text(self, token_ids: list[int]) -> str:
        decoded = await self._tokenizer.Decode(
            DecodeRequest(model=self._model, token_ids=token_ids)
        )
        text: str = decoded.text
        return text


async def _read(call: Any) -> tuple[dict[int, list[int]], dict[int, int]]:
    """Ids and finish reasons by output. Raises AioRpcError for a call that fails."""
    outputs: dict[int, list[int]] = {}
    ends: dict[int, int] = {}
    async for response in call:
        match response.WhichOneof("event"):
            case "tokens":
                outputs.setdefault(response.tokens.handle, []).extend(response.tokens.token_ids)
            case "terminal":
                if response.terminal.handle in ends:
                    raise UnexpectedError(f"output {response.terminal.handle} ended twice")
                ends[response.terminal.handle] = response.terminal.finish_reason
            case _:
                pass
    return outputs, ends


def _expected(error: grpc.aio.AioRpcError, code: grpc.StatusCode, how: str) -> str:
    if error.code() is code:
        return how
    raise UnexpectedError(f"{error.code().name}: {error.details()}") from error


def _check_text(ask: GuidedAsk, text: str) -> None:
    if not is_allowed(ask, text):
        raise UnexpectedError(f"{text[:200]!r} is not what {ask.kind} {ask.guide} allows")


def is_allowed(ask: GuidedAsk, text: str) -> bool:
    """Whether the guide allows this text as a whole answer."""
    if isinstance(ask.guide, list):
        return text in ask.guide
    if ask.kind == "regex":
        return re.fullmatch(ask.guide, text) is not None
    try:
        jsonschema.validate(json.loads(text), json.loads(ask.guide))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
