"""Long texts through the real service: how fast, how long the loop waits, who waits for whom.

Service, caller and the clock that measures the lag share one loop, so the lag also holds what the
caller's own messages cost.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter

import grpc

from headrace.models.cache import resolve_model
from headrace.models.directory import open_model_directory
from headrace.rpc.limits import CHANNEL_OPTIONS, FrameTiming
from headrace.rpc.server import GrpcServer
from headrace.runtime.identity import Identity
from headrace.tokenizer.v1.encoding_pb2 import CountTokensRequest, EncodeRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from headrace.tokenizer.v1.service_pb2 import DESCRIPTOR
from headrace.tokenizer.v1.service_pb2_grpc import (
    TokenizerServiceStub,
    add_TokenizerServiceServicer_to_server,
)
from tokenizer_svc.encoding_pool import EncodingPool
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.servicer import TokenizerServicer
from tokenizer_svc.settings import LimitSettings, TokenizerSettings

TEXTS = {
    "prose": "The water runs through the channel and turns the wheel, 42 times. ",
    "one character": "a",
    "spaces": " ",
    "no spaces": "thewaterrunsthroughthechannel",
    "combining marks": "e\u0301\u0302\u0303",
    "joined emoji": "👩\u200d👩\u200d👧",
    "Chinese": "水流经水渠推动水轮",
    "digits": "1234567890",
}
_TICK_SECONDS = 0.001
_LIMITS = LimitSettings(max_text_characters=8_000_000, max_text_tokens=16_000_000)


@dataclass(frozen=True)
class EncodingSample:
    """One text through CountTokens or Encode. Lags are of the loop, in milliseconds."""

    call: str
    text: str
    characters: int
    tokens: int
    seconds: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    peak_rss_mb: float


@dataclass(frozen=True)
class FairnessSample:
    """Short renders, alone and while long texts are encoded one after the other."""

    long_texts: int
    renders: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@asynccontextmanager
async def running_service(model: str) -> AsyncIterator[TokenizerServiceStub]:
    """The service with the model, on a free port, and a stub to call it."""
    directory = open_model_directory(resolve_model(model))
    registry = ModelRegistry([TokenizerModel.load(directory, TokenizerSettings())])
    pool = EncodingPool(2, _LIMITS.max_pending_encodings, _LIMITS.long_text_characters)
    servicer = TokenizerServicer(registry, pool, _LIMITS, Identity(), FrameTiming())
    name = DESCRIPTOR.services_by_name["TokenizerService"].full_name
    server = GrpcServer("127.0.0.1", 0, [name])
    server.add(add_TokenizerServiceServicer_to_server, servicer)
    await server.serve()
    address = f"127.0.0.1:{server.port}"
    try:
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            yield TokenizerServiceStub(channel)
    finally:
        await server.stop(0)
        await asyncio.to_thread(pool.close)


async def measure_text(
    stub: TokenizerServiceStub, call: str, text: str, characters: int
) -> EncodingSample:
    """One call, with the loop's lag meanwhile."""
    pattern = TEXTS[text]
    content = (pattern * (characters // len(pattern) + 1))[:characters]
    with _lags() as lags:
        begin = perf_counter()
        if call == "CountTokens":
            tokens = (await stub.CountTokens(CountTokensRequest(text=content))).tokens
        else:
            tokens = len((await stub.Encode(EncodeRequest(text=content))).token_ids)
        seconds = perf_counter() - begin
    return EncodingSample(
        call=call,
        text=text,
        characters=characters,
        tokens=tokens,
        seconds=seconds,
        lag_p50_ms=1e3 * quantile(lags, 0.5),
        lag_p99_ms=1e3 * quantile(lags, 0.99),
        lag_max_ms=1e3 * max(lags),
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


async def measure_fairness(stub: TokenizerServiceStub, long_texts: int) -> FairnessSample:
    """Render a short conversation again and again until the long texts are counted."""
    content = TEXTS["prose"] * (1_000_000 // len(TEXTS["prose"]))
    short = RenderRequest(messages=[Message(role="user", content="How are you?")])
    long = [
        asyncio.ensure_future(stub.CountTokens(CountTokensRequest(text=content)))
        for _ in range(long_texts)
    ]
    waits: list[float] = []
    while len(waits) < 200 or not all(task.done() for task in long):
        begin = perf_counter()
        await stub.Render(short)
        waits.append(perf_counter() - begin)
    await asyncio.gather(*long)
    return FairnessSample(
        long_texts=long_texts,
        renders=len(waits),
        p50_ms=1e3 * quantile(waits, 0.5),
        p99_ms=1e3 * quantile(waits, 0.99),
        max_ms=1e3 * max(waits),
    )


def quantile(values: list[float], share: float) -> float:
    """The value that so large a share does not exceed."""
    return sorted(values)[int(share * (len(values) - 1))]


@contextmanager
def _lags() -> Iterator[list[float]]:
    """How late the loop came to each tick while the block ran, in seconds."""
    lags = [0.0]

    async def tick() -> None:
        while True:
            due = perf_counter() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            lags.append(max(perf_counter() - due, 0.0))

    ticker = asyncio.ensure_future(tick())
    try:
        yield lags
    finally:
        ticker.cancel()
