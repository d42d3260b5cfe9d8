"""The load: conversations side by side over HTTP, each turn behind the answer really given."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import grpc

from bench.reuse.conversations import SYSTEM_PROMPT, user_texts
from bench.reuse.prefixes import KnownPrefixes, computed_tokens
from bench.services import Services
from headrace.tokenizer.v1.encoding_pb2 import EncodeRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from headrace.worker.v1.model_pb2 import GetModelRequest
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub

_DATA = b"data: "
_DONE = b"[DONE]"


@dataclass(frozen=True)
class LoadPlan:
    """What is said, and how. Users think for up to `pause_seconds` before each turn.

    At most `concurrency` requests are under way at the same time.
    """

    model: str
    conversations: int
    turns: int
    concurrency: int
    max_tokens: int
    temperature: float
    pause_seconds: float
    seed: int


@dataclass(frozen=True)
class Turn:
    """One request: token counts, milliseconds until the first text, and how its answer came.

    `possible_tokens` is what the blocks of requests completed before it was sent allow at best.
    `is_spelled_alike` says whether the answer's text has as many tokens as were generated: where it
    has not, the model spelled it in other tokens than the tokenizer does.
    """

    conversation: int
    turn: int
    prompt_tokens: int
    cached_tokens: int
    possible_tokens: int
    completion_tokens: int
    first_text_ms: float
    is_spelled_alike: bool


@dataclass(frozen=True)
class _Answer:
    text: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    first_text_ms: float


class ChatLoad:
    """One run of the load against services that have just been started."""

    def __init__(
        self,
        plan: LoadPlan,
        session: aiohttp.ClientSession,
        tokenizer: TokenizerServiceStub,
        block_size: int,
    ) -> None:
        self._plan = plan
        self._session = session
        self._tokenizer = tokenizer
        self._prefixes = KnownPrefixes(plan.model, block_size)
        self._places = asyncio.Semaphore(plan.concurrency)

    async def warm_up(self) -> None:
        """A request that shares nothing with the load: the first of a process pays for more."""
        await self._ask([Message(role="user", content="Say hello.")], seed=0)

    async def run(self, on_turn: Callable[[Turn], None]) -> None:
        """All conversations to their ends. Raises RuntimeError for an answer that fails."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._plan.conversations):
                group.create_task(self._converse(number, on_turn))

    async def _converse(self, number: int, on_turn: Callable[[Turn], None]) -> None:
        plan = self._plan
        chance = random.Random(f"{plan.seed} pauses {number}")
        messages = [Message(role="system", content=SYSTEM_PROMPT)]
        for turn, text in enumerate(user_texts(plan.seed, number, plan.turns)):
            await asyncio.sleep(chance.uniform(0, plan.pause_seconds))
            messages.append(Message(role="user", content=text))
            prompt = await self._render(messages)
            async with self._places:
                possible = self._prefixes.cached_at_best(prompt)
                answer = await self._ask(messages, seed=1000 * number + turn)
                spelled = await self._encode(answer.text)
                self._prefixes.add(computed_tokens(prompt, spelled, answer.completion_tokens))
            if answer.prompt_tokens != len(prompt):
                raise RuntimeError(
                    f"usage says {answer.prompt_tokens} prompt tokens, Render gives {len(prompt)}"
                )
            messages.append(Message(role="assistant", content=answer.text))
            generated = answer.completion_tokens - (answer.finish_reason == "stop")
            on_turn(
                Turn(
                    conversation=number,
                    turn=turn,
                    prompt_tokens=answer.prompt_tokens,
                    cached_tokens=answer.cached_tokens,
                    possible_tokens=possible,
                    completion_tokens=answer.completion_tokens,
                    first_text_ms=answer.first_text_ms,
                    is_spelled_alike=len(spelled) == generated,
                )
            )

    async def _render(self, messages: Sequence[Message]) -> Sequence[int]:
        request = RenderRequest(model=self._plan.model, messages=messages)
        ids: Sequence[int] = (await self._tokenizer.Render(request)).prompt_token_ids
        return ids

    async def _encode(self, text: str) -> Sequence[int]:
        request = EncodeRequest(model=self._plan.model, text=text)
        ids: Sequence[int] = (await self._tokenizer.Encode(request)).token_ids
        return ids

    async def _ask(self, messages: Sequence[Message], seed: int) -> _Answer:
        body = {
            "model": self._plan.model,
            "messages": [{"role": each.role, "content": each.content} for each in messages],
            "max_tokens": self._plan.max_tokens,
            "temperature": self._plan.temperature,
            "seed": seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sent = time.perf_counter()
        texts, finish_reason, first_text_ms, usage = [], "", 0.0, None
        async with self._session.post("/v1/chat/completions", json=body) as response:
            async for line in response.content:
                if not line.startswith(_DATA) or line.startswith(_DATA + _DONE):
                    continue
                event = json.loads(line.removeprefix(_DATA))
                if "error" in event:
                    raise RuntimeError(event["error"]["message"])
                usage = event["usage"]
                for choice in event["choices"]:
                    if text := choice["delta"].get("content"):
                        first_text_ms = first_text_ms or 1000 * (time.perf_counter() - sent)
                        texts.append(text)
                    finish_reason = choice["finish_reason"] or finish_reason
        if usage is None or not texts:
            raise RuntimeError(f"an answer without text or usage: HTTP {response.status}")
        return _Answer(
            text="".join(texts),
            prompt_tokens=usage["prompt_tokens"],
            cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
            completion_tokens=usage["completion_tokens"],
            finish_reason=finish_reason,
            first_text_ms=first_text_ms,
        )


@asynccontextmanager
async def connected(plan: LoadPlan, services: Services) -> AsyncIterator[ChatLoad]:
    """A load with its connections to running services, closed with the context."""
    async with (
        grpc.aio.insecure_channel(services.tokenizer_address) as tokenizer,
        grpc.aio.insecure_channel(services.worker_address) as worker,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{services.edge_port}", connector=aiohttp.TCPConnector(limit=0)
        ) as session,
    ):
        model = await GenerationServiceStub(worker).GetModel(GetModelRequest())
        yield ChatLoad(plan, session, TokenizerServiceStub(tokenizer), model.block_size)
