"""The frame contract on Detokenize, rule by rule (protos/README.md), against the servicer."""

import asyncio

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_UNSPECIFIED,
)
from headrace.rpc.errors import error_from_rpc
from headrace.rpc.limits import MERGE_BYTES, FrameTiming
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeOpen,
    DetokenizeRequest,
)
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from tests.support.raw_detokenize import RawDetokenize, running_tokenizer
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import LimitSettings, TokenizerSettings

FAST = FrameTiming(heartbeat_seconds=0.1, silence_seconds=0.5, hello_seconds=0.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TokenizerModel:
    """A small model."""
    directory = write_model(tmp_path_factory.mktemp("models") / "small", train_tokenizer())
    return TokenizerModel.load(directory, TokenizerSettings())


@pytest.fixture(scope="module")
def registry(model: TokenizerModel) -> ModelRegistry:
    """That model alone."""
    return ModelRegistry([model])


def opening(model: TokenizerModel, handle: int, *stops: str, **more: object) -> DetokenizeOpen:
    values = {"decoder": model.decoder(), "stop_strings": stops} | more
    return DetokenizeOpen(handle=handle, **values)


def closing(handle: int, reason: int = FINISH_REASON_LENGTH) -> DetokenizeClose:
    return DetokenizeClose(handle=handle, finish_reason=reason)


async def test_an_output_from_open_to_close(model: TokenizerModel, registry: ModelRegistry) -> None:
    """Text comes back as it is fed, acknowledged, and the close is confirmed."""
    text = "Hello, 日本 😀!"
    ids = model.encoder.encode(text)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)])
        for token_id in ids:
            await raw.send(feeds=[(1, [token_id])])
        await raw.send(closes=[closing(1)])
        seen = await raw.output(1, closed=True)

    assert seen.text == text
    assert (seen.consumed, seen.released) == (len(ids), len(ids))
    assert raw.frames[0].header.hello.instance_id
    assert [frame.header.sequence for frame in raw.frames] == list(range(1, len(raw.frames) + 1))


async def test_one_request_frame_is_answered_in_one_frame(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """Entries of all outputs, stop hits and closed handles come together."""
    [comma] = model.encoder.encode(",")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1), opening(model, 2, ",")])
        await raw.send(feeds=[(1, [comma]), (2, [comma])], closes=[closing(1)])
        await raw.output(1, closed=True)
        frame = raw.frames[-1]

    assert list(frame.handles) == [1, 2, 1]
    assert list(frame.deltas) == [",", "", ""]
    assert [(hit.handle, hit.stop_index, hit.consumed_tokens) for hit in frame.stop_hits] == [
        (2, 0, 1)
    ]
    assert list(frame.closed_handles) == [1]


async def test_feeds_behind_a_stop_are_ignored_and_the_close_confirmed(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """After a hit nothing more is said of the output but that it is closed."""
    ids = model.encoder.encode("one, two, three")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, ", t")], [(1, ids)])
        await raw.send(feeds=[(1, ids)], closes=[closing(1, FINISH_REASON_STOP)])
        seen = await raw.output(1, closed=True)

    assert seen.text == "one"
    assert seen.entries == 1
    assert seen.stop is not None
    assert seen.stop.consumed_tokens == seen.consumed < len(ids)


async def test_special_and_end_tokens_are_no_text(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """The model's own end tokens and the request's stop token ids are consumed in silence."""
    [word] = model.encoder.encode("a")
    decoder = model.decoder()
    [end] = decoder.stop_token_ids
    decoder.stop_token_ids.append(word)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1), opening(model, 2, decoder=decoder)])
        await raw.send(feeds=[(1, [word, end]), (2, [word, end])])
        first, second = await raw.output(1, entries=1), await raw.output(2, entries=1)

    assert (first.text, first.released) == ("a", 2)
    assert (second.text, second.released) == ("", 2)


@settings(max_examples=15)
@given(
    text=st.text(alphabet="ab,日😀 ", max_size=20),
    cut=st.integers(0, 40),
    lag=st.integers(0, 5),
)
async def test_an_output_goes_on_at_another_replica(
    model: TokenizerModel, registry: ModelRegistry, text: str, cut: int, lag: int
) -> None:
    """Re-opened with what was acknowledged, the whole text comes once, wherever it was cut."""
    ids = model.encoder.encode(text)
    cut = min(cut, len(ids))
    stops = ("b,", "日😀")
    expected_end = min((at for at in map(text.find, stops) if at >= 0), default=len(text))
    async with running_tokenizer(registry) as one, running_tokenizer(registry) as other:
        first = RawDetokenize(one.stub)
        await first.send([opening(model, 1, *stops)], [(1, ids[:cut])])
        seen = await first.output(1, entries=1)
        known = min(len(ids), cut + lag)
        second = RawDetokenize(other.stub)
        again = opening(
            model, 1, *stops, prior_token_ids=ids[:known], released_tokens=seen.released
        )
        await second.send([again], [(1, ids[known:])], [closing(1)])
        rest = await second.output(1, closed=True)

    assert seen.text + rest.text == text[:expected_end]


async def test_a_replica_with_another_tokenizer_refuses_by_name(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """Another fingerprint fails the output and nothing else on the stream."""
    decoder = model.decoder()
    decoder.tokenizer_fingerprint = "0" * 32
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, decoder=decoder), opening(model, 2)], [(2, [50])])
        failure = (await raw.failed(1)).failure
        await raw.output(2, entries=1)

    assert failure.reason == errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER
    assert "0" * 32 in failure.message


@pytest.mark.parametrize(
    ("more", "reason", "part"),
    [
        ({"stop_strings": [""]}, errors_pb2.ERROR_REASON_INVALID_REQUEST, "empty string"),
        ({"stop_strings": ["x"] * 17}, errors_pb2.ERROR_REASON_INVALID_REQUEST, "17 strings"),
        ({"stop_strings": ["x" * 4097]}, errors_pb2.ERROR_REASON_INVALID_REQUEST, "4097"),
        ({"released_tokens": 3}, errors_pb2.ERROR_REASON_INVALID_REQUEST, "released_tokens is 3"),
        ({"prior_token_ids": [9999]}, errors_pb2.ERROR_REASON_INVALID_REQUEST, "Token id 9999"),
    ],
)
async def test_an_open_that_cannot_be_is_refused(
    model: TokenizerModel, registry: ModelRegistry, more: dict[str, object], reason: int, part: str
) -> None:
    """The failure names what is wrong; feeds for the handle are strays."""
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, **more)], [(1, [50])])
        failure = (await raw.failed(1)).failure
        info = await tokenizer.stub.GetModel(GetModelRequest())

    assert failure.reason == reason
    assert part in failure.message
    assert (info.stray_entries, info.open_outputs) == (1, 0)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("model", "other", errors_pb2.ERROR_REASON_MODEL_NOT_FOUND),
        ("output_format", "hermes+qwen3", errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER),
        ("output_format", "", errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER),
    ],
)
async def test_a_decoder_that_is_not_known_is_refused(
    model: TokenizerModel, registry: ModelRegistry, field: str, value: str, reason: int
) -> None:
    """Another model or output format fails the output by name."""
    decoder = model.decoder()
    setattr(decoder, field, value)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, decoder=decoder)])
        failure = (await raw.failed(1)).failure

    assert failure.reason == reason


async def test_unknown_handles_are_ignored_and_counted(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """Strays change nothing and are counted; an abandoned output is one of them."""
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1), opening(model, 2)])
        await raw.send(closes=[closing(1, FINISH_REASON_UNSPECIFIED)])
        await raw.send(feeds=[(1, [50]), (77, [50])], closes=[closing(78)])
        await raw.send(feeds=[(2, [50])])
        await raw.output(2, entries=1)
        info = await tokenizer.stub.GetModel(GetModelRequest())

    assert (info.stray_entries, info.open_outputs) == (3, 1)
    assert raw.outputs.keys() == {2}


@pytest.mark.parametrize(
    "frame",
    [
        DetokenizeRequest(handles=[1], counts=[2], token_ids=[50]),
        DetokenizeRequest(handles=[1], token_ids=[50]),
        DetokenizeRequest(token_ids=[50]),
    ],
)
async def test_contradicting_arrays_end_the_stream(
    model: TokenizerModel, registry: ModelRegistry, frame: DetokenizeRequest
) -> None:
    """The stream ends with a status that says what did not fit."""
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)])
        copy = DetokenizeRequest()
        copy.CopyFrom(frame)
        await raw.send_frame(copy)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert "counts that add up to" in error_from_rpc(caught.value, peer="tokenizer").message


async def test_a_reused_handle_ends_the_stream(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """Handles are strictly increasing, also over failed opens."""
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 5, ""), opening(model, 5)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_streams_end_drops_its_outputs(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """Whatever ends the stream, nothing of it stays open."""
    async with running_tokenizer(registry) as tokenizer:
        raw, other = RawDetokenize(tokenizer.stub), RawDetokenize(tokenizer.stub)
        for stream in (raw, other):
            await stream.send([opening(model, 1), opening(model, 2)], [(1, [50])])
            await stream.output(1, entries=1)
        before = await tokenizer.stub.GetModel(GetModelRequest())
        await raw.call.done_writing()
        await raw.read_to_end()
        other.call.cancel()
        await tokenizer.servicer.activity.idle()
        after = await tokenizer.stub.GetModel(GetModelRequest())

    assert (before.open_outputs, after.open_outputs) == (4, 0)


async def test_frames_are_of_bounded_size(model: TokenizerModel, registry: ModelRegistry) -> None:
    """Answers that would make a frame of more than 1 MiB come in several."""
    ids = model.encoder.encode("channel" * 8) * 120
    handles = range(1, 257)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, handle) for handle in handles])
        await raw.send(feeds=[(handle, ids) for handle in handles])
        for handle in handles:
            await raw.output(handle, entries=1)

    assert all(seen.text == "channel" * 8 * 120 for seen in raw.outputs.values())
    assert len([frame for frame in raw.frames if frame.handles]) > 1
    assert max(frame.ByteSize() for frame in raw.frames) <= MERGE_BYTES + 1024


async def test_outputs_above_the_limit_are_refused(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """The one too many fails as overloaded; the others stay."""
    async with running_tokenizer(registry, limits=LimitSettings(max_open_outputs=2)) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, handle) for handle in (1, 2, 3)])
        failure = (await raw.failed(3)).failure
        await raw.send(feeds=[(2, [50])])
        await raw.output(2, entries=1)

    assert failure.reason == errors_pb2.ERROR_REASON_OVERLOADED


async def test_draining_refuses_what_is_new_and_ends_what_runs(
    model: TokenizerModel, registry: ModelRegistry
) -> None:
    """Every frame says so, open outputs go on to their end, and then nothing is left."""
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)], [(1, [50])])
        await raw.output(1, entries=1)
        tokenizer.servicer.drain()
        await raw.send([opening(model, 2)], [(1, [51])], [closing(1)])
        failure = (await raw.failed(2)).failure
        seen = await raw.output(1, closed=True)
        await tokenizer.servicer.activity.idle()
        late = RawDetokenize(tokenizer.stub)
        await late.send()
        frame = await late.read()

    assert failure.reason == errors_pb2.ERROR_REASON_DRAINING
    assert seen.consumed == 2
    assert raw.frames[-1].header.draining
    assert frame.header.draining


async def test_heartbeats_and_silence(model: TokenizerModel, registry: ModelRegistry) -> None:
    """The tokenizer speaks when there is nothing to say, and ends a stream that is silent."""
    async with running_tokenizer(registry, FAST) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)])
        async with asyncio.timeout(5):
            beats = [await raw.read() for _ in range(3)]
            with pytest.raises(grpc.aio.AioRpcError):
                await raw.read_to_end()
            await tokenizer.servicer.activity.idle()

    assert [beat.header.last_received_sequence for beat in beats][-1] == 1
