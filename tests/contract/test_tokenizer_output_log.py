"""The tokenizer's line of each output: one, however the output ends, and no text in it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_UNSPECIFIED
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeClose, DetokenizeOpen
from tests.support.raw_detokenize import RawDetokenize, RunningTokenizer, running_tokenizer
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

TRACE_ID = f"{7:032x}"
CONTEXT = {"request_id": "req_1", "traceparent": f"00-{TRACE_ID}-{9:016x}-00"}
TEXT = "Hello, world!"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TokenizerModel:
    """A small model."""
    directory = write_model(tmp_path_factory.mktemp("models") / "small", train_tokenizer())
    return TokenizerModel.load(directory, TokenizerSettings())


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged of outputs."""
    with capture_logs() as logs:
        yield logs


def ended(logs: list[Any]) -> list[dict[str, Any]]:
    """The lines of outputs, without what is the same in all of them."""
    return [
        {key: value for key, value in line.items() if key not in ("event", "log_level", "seconds")}
        for line in logs
        if line["event"] == "output_ended"
    ]


def opening(model: TokenizerModel, handle: int, **more: Any) -> DetokenizeOpen:
    return DetokenizeOpen(handle=handle, decoder=model.decoder(), **(CONTEXT | more))


def closing(handle: int, *, abandons: bool = False) -> DetokenizeClose:
    reason = FINISH_REASON_UNSPECIFIED if abandons else FINISH_REASON_LENGTH
    return DetokenizeClose(handle=handle, finish_reason=reason)


def line(reason: str, tokens: int, **more: Any) -> dict[str, Any]:
    """A line as it is expected."""
    expected = {"request_id": "req_1", "trace_id": TRACE_ID, "model": "small", "reason": reason}
    return expected | {"tokens": tokens, "reasoning_tokens": 0} | more


async def leave(raw: RawDetokenize, tokenizer: RunningTokenizer) -> None:
    """Break the stream off, and wait until the tokenizer has seen it."""
    raw.call.cancel()
    await tokenizer.servicer.activity.idle()


async def test_each_end_of_an_output_is_a_line(model: TokenizerModel, lines: list[Any]) -> None:
    """Closed, ended by a stop string, abandoned, failed, refused; but not lost with its stream."""
    ids = model.encoder.encode(TEXT)
    unknown = len(model.vocabulary.token_bytes)
    async with running_tokenizer(ModelRegistry([model])) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send(
            [
                opening(model, 1),
                opening(model, 2, stop_strings=["lo"]),
                opening(model, 3),
                opening(model, 4),
                opening(model, 5, stop_strings=[""]),
                opening(model, 6),
            ],
            [(1, ids), (2, ids), (3, ids[:2]), (4, [ids[0], unknown]), (6, ids[:1])],
            [closing(1), closing(2, abandons=True), closing(3, abandons=True)],
        )
        await raw.output(6, entries=1)
        stop = raw.outputs[2].consumed
        await leave(raw, tokenizer)
        ends = tokenizer.servicer.activity.ended_outputs

    assert ended(lines) == [
        line("failed", 0, error="invalid_request"),
        line("failed", 1, error="invalid_request"),
        line("closed", len(ids)),
        line("stop_string", stop),
        line("abandoned", 2),
    ]
    assert dict(ends) == {
        "failed": 2,
        "closed": 1,
        "stop_string": 1,
        "abandoned": 1,
        "stream_lost": 1,
    }
    assert "Hello" not in json.dumps(lines)


async def test_what_is_lost_with_its_stream_is_one_line(
    model: TokenizerModel, lines: list[Any]
) -> None:
    """How many outputs and tokens, and the first requests; what a stop string ended is apart."""
    ids = model.encoder.encode(TEXT)
    async with running_tokenizer(ModelRegistry([model])) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        ids_of = {handle: f"req_{handle // 2}" for handle in range(2, 42)}
        opens = [opening(model, 1, stop_strings=["lo"])]
        opens += [opening(model, handle, request_id=ids_of[handle]) for handle in ids_of]
        await raw.send(opens, [(1, ids), *((handle, ids[:3]) for handle in ids_of)])
        await raw.output(41, entries=1)
        await leave(raw, tokenizer)
        ends = tokenizer.servicer.activity.ended_outputs

    [lost] = [line for line in lines if line["event"] == "outputs_lost"]
    assert 0 < lost.pop("longest_seconds")
    assert lost == {
        "event": "outputs_lost",
        "log_level": "info",
        "reason": "stream_lost",
        "outputs": 40,
        "tokens": 120,
        "first_request_ids": [f"req_{number}" for number in range(1, 9)],
        "first_trace_ids": [TRACE_ID] * 8,
    }
    assert [entry["reason"] for entry in ended(lines)] == ["stop_string"]
    assert dict(ends) == {"stop_string": 1, "stream_lost": 40}


async def test_a_stream_that_ends_with_nothing_open_is_no_line(
    model: TokenizerModel, lines: list[Any]
) -> None:
    """What was open has had its own line."""
    async with running_tokenizer(ModelRegistry([model])) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)], closes=[closing(1)])
        await raw.output(1, closed=True)
        await leave(raw, tokenizer)

    assert [line["event"] for line in lines if "output" in line["event"]] == ["output_ended"]


async def test_the_flush_may_complete_a_stop_string(
    model: TokenizerModel, lines: list[Any]
) -> None:
    """What ended the output is told, not who closed it."""
    half = model.vocabulary.token_bytes.index("é".encode()[:1])
    async with running_tokenizer(ModelRegistry([model])) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, stop_strings=["\ufffd"])], [(1, [half])], [closing(1)])
        await raw.output(1, closed=True)

    assert ended(lines) == [line("stop_string", 1)]


async def test_thoughts_are_counted(model: TokenizerModel, lines: list[Any]) -> None:
    """Tokens of the thoughts and of their markup, as the edge is told them."""
    decoder = model.decoder()
    decoder.output_format, decoder.begins_in_reasoning = "qwen3", True
    ids = model.encoder.encode("Hello</think>world")
    registry = ModelRegistry([model], FormatCatalog.installed())
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([DetokenizeOpen(handle=1, decoder=decoder)], [(1, ids)], [closing(1)])
        seen = await raw.output(1, closed=True)

    [entry] = ended(lines)
    assert 0 < entry["reasoning_tokens"] == seen.reasoning_tokens < entry["tokens"] == len(ids)


@pytest.mark.parametrize("traceparent", ["", "nonsense"])
async def test_an_edge_that_says_nothing_of_the_request_is_served(
    model: TokenizerModel, lines: list[Any], traceparent: str
) -> None:
    """An earlier version's open has neither field; what cannot be read is left out."""
    open_ = opening(model, 1, request_id="x" * 129, traceparent=traceparent)
    async with running_tokenizer(ModelRegistry([model])) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([open_], closes=[closing(1)])
        await raw.output(1, closed=True)

    assert ended(lines) == [line("closed", 0, request_id="", trace_id="")]


async def test_what_is_refused_makes_no_long_line(model: TokenizerModel, lines: list[Any]) -> None:
    """The name of a model that is none is cut."""
    open_ = opening(model, 1)
    open_.decoder.model = "x" * 10_000
    async with running_tokenizer(ModelRegistry([model])) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([open_])
        await raw.failed(1)

    [entry] = ended(lines)
    assert ("failed", "x" * 256) == (entry["reason"], entry["model"])
