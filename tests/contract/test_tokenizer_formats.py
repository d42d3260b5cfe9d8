"""Outputs read in a format, over gRPC: what they say, acknowledged, however they are fed."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from headrace.rpc.errors import error_from_rpc
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeOpen,
    FunctionSchema,
    OutputDelta,
    TokenAlternatives,
)
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.render_pb2 import Decoder, Message, RenderRequest
from tests.support.raw_detokenize import RawDetokenize, SeenOutput, running_tokenizer
from tests.support.tokenizer_models import (
    TEMPLATE,
    train_metaspace_tokenizer,
    train_tokenizer,
    write_model,
)
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

SPECIAL = ("[TOOL_CALLS]", "<|python_tag|>")
ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>")
THINKING_TEMPLATE = TEMPLATE + "{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}"
CALL = '<tool_call>\n{"name": "f", "arguments": {"city": "Zürich 😀", "n": [1, {}]}}\n</tool_call>'
OUTPUTS = {
    "hermes": f"Let me see.\n{CALL}\n{CALL} Done <tool_call>not</tool_call>",
    "qwen3_coder": (
        "Hm.<tool_call>\n<function=f>\n<parameter=city>\nZürich\n😀\n</parameter>\n<parameter=n>\n"
        "3\n</parameter>\n</function>\n</tool_call>"
    ),
    "llama3_json": '<|python_tag|>{"name": "f", "parameters": {"a": "};"}}; {"name": "é"}',
    "mistral": 'So [TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "123456789"}] ok',
    "qwen3+hermes": f"<think>\nHow are\n\nyou? </thin\n</think>\n\nHello. {CALL}",
    "deepseek_r1+mistral": 'I call it.</think>[TOOL_CALLS]f{"a": 1}[TOOL_CALLS]g[ARGS]{}',
}
FUNCTIONS = [
    FunctionSchema(name="f", parameters='{"properties": {"n": {"type": "integer"}}}'),
    FunctionSchema(name="g"),
]


def marked(document: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with the markers of the formats among its added tokens."""
    first = max(document["model"]["vocab"].values()) + 1
    example = document["added_tokens"][0]
    for number, content in enumerate((*SPECIAL, *ADDED)):
        entry = {"id": first + number, "content": content, "special": content in SPECIAL}
        document["added_tokens"].append(example | entry)
    return document


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """Two families of vocabularies, the second with a template that opens the thoughts."""
    folder = tmp_path_factory.mktemp("formats")
    directories = [
        write_model(folder / "bytelevel", marked(train_tokenizer())),
        write_model(
            folder / "metaspace", marked(train_metaspace_tokenizer()), template=THINKING_TEMPLATE
        ),
    ]
    settings = TokenizerSettings(output_formats={"bytelevel": "hermes"})
    return ModelRegistry([TokenizerModel.load(directory, settings) for directory in directories])


def decoder(model: TokenizerModel, output_format: str, *, inside: bool = False) -> Decoder:
    found = model.decoder()
    found.output_format, found.begins_in_reasoning = output_format, inside
    return found


def opening(model: TokenizerModel, handle: int, name: str, *stops: str, **more: Any) -> Any:
    values = {"decoder": decoder(model, name), "stop_strings": stops, "functions": FUNCTIONS} | more
    return DetokenizeOpen(handle=handle, **values)


def said(seen: SeenOutput) -> list[tuple[Any, ...]]:
    """What an output says, its pieces joined: kind, call, text."""
    found: list[tuple[Any, ...]] = []
    for delta in seen.said:
        kind = delta.WhichOneof("event")
        entry = _entry(kind or "", delta)
        if found and kind in ("content", "reasoning", "arguments") and found[-1][:2] == entry[:2]:
            found[-1] = (*entry[:2], found[-1][2] + entry[2])
        else:
            found.append(entry)
    return found


def _entry(kind: str, delta: OutputDelta) -> tuple[Any, ...]:
    match kind:
        case "tool_call_begin":
            return kind, delta.tool_call_begin.index, delta.tool_call_begin.name
        case "arguments":
            return kind, delta.arguments.index, delta.arguments.text
        case "tool_call_end":
            return kind, delta.tool_call_end.index, delta.tool_call_end.is_complete
    return kind, None, getattr(delta, kind)


def call(index: int, name: str, arguments: str) -> list[tuple[Any, ...]]:
    return [
        ("tool_call_begin", index, name),
        ("arguments", index, arguments),
        ("tool_call_end", index, True),
    ]


async def fed(
    raw: RawDetokenize, handle: int, frames: Sequence[Sequence[int]], alternatives: int = 0
) -> SeenOutput:
    """Feed an open output in these frames, and close it."""
    for frame in frames:
        ids = [(each + place) % 40 + 3 for each in frame for place in range(alternatives)]
        counts = [alternatives] * len(frame)
        offered = TokenAlternatives(handle=handle, counts=counts, token_ids=ids)
        await raw.send(feeds=[(handle, frame)], alternatives=[offered] if alternatives else [])
    await raw.send(closes=[DetokenizeClose(handle=handle, finish_reason=FINISH_REASON_LENGTH)])
    return await raw.output(handle, closed=True)


@pytest.mark.parametrize("family", ["bytelevel", "metaspace"])
@pytest.mark.parametrize("name", OUTPUTS)
async def test_every_split_over_frames_says_the_same(
    registry: ModelRegistry, name: str, family: str
) -> None:
    """Nothing depends on how the tokens were fed, and all of them are acknowledged."""
    model = registry.find(family)
    ids = model.encoder.encode(OUTPUTS[name])
    draw = random.Random(name)
    splits = [[[i] for i in ids], [ids], *([ids[:cut], ids[cut:]] for cut in range(len(ids)))]
    for _ in range(10):
        borders = [0, *sorted(draw.randrange(len(ids)) for _ in range(4)), len(ids)]
        splits.append([ids[a:b] for a, b in pairwise(borders)])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, handle, name) for handle in range(len(splits))])
        seen = [await fed(raw, handle, split) for handle, split in enumerate(splits)]

    assert any(kind == "tool_call_end" and ok for kind, _, ok in said(seen[0]))
    for each in seen:
        assert said(each) == said(seen[0])
        assert (each.consumed, each.released, each.text) == (len(ids), len(ids), "")


async def test_calls_of_each_format(registry: ModelRegistry) -> None:
    """Calls come with name, arguments and end; markers that are special tokens are seen."""
    model = registry.find("bytelevel")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, at, name) for at, name in enumerate(OUTPUTS)])
        ids = [model.encoder.encode(text) for text in OUTPUTS.values()]
        seen = [said(await fed(raw, at, [each])) for at, each in enumerate(ids)]

    arguments = '{"city": "Zürich 😀", "n": [1, {}]}'
    rest = [("content", None, " Done <tool_call>not</tool_call>")]
    before = [("content", None, "Let me see.\n")]
    assert seen[0] == before + call(0, "f", arguments) + call(1, "f", arguments) + rest
    assert seen[2] == [*call(0, "f", '{"a": "};"}'), ("content", None, '; {"name": "é"}')]
    assert seen[3][1:] == [*call(0, "f", '{"a": 1}'), ("content", None, " ok")]
    assert seen[4][0] == ("reasoning", None, "How are\n\nyou? </thin")
    assert seen[5][1:] == call(0, "f", '{"a": 1}') + call(1, "g", "{}")


@pytest.mark.parametrize("spelled", [False, True])
@pytest.mark.parametrize("name", OUTPUTS)
async def test_an_output_goes_on_at_another_replica(
    registry: ModelRegistry, name: str, spelled: bool
) -> None:
    """Wherever it was cut, both together say it once, and spell each token once."""
    model = registry.find("metaspace" if name == "hermes" else "bytelevel")
    ids = model.encoder.encode(OUTPUTS[name])
    count = 2 if spelled else 0
    async with running_tokenizer(registry) as one, running_tokenizer(registry) as other:
        first, second = RawDetokenize(one.stub), RawDetokenize(other.stub)
        await first.send([opening(model, 1, name, "zzz", token_bytes=spelled)])
        whole = await fed(first, 1, [ids], count)
        for cut in range(1, len(ids)):
            handle, known = cut + 2, min(len(ids), cut + 3)
            await first.send([opening(model, handle, name, "zzz", token_bytes=spelled)])
            await first.send(feeds=[(handle, ids[:cut])])
            seen = await first.output(handle, entries=1)
            again = opening(
                model,
                handle,
                name,
                "zzz",
                token_bytes=spelled,
                prior_token_ids=ids[:known],
                released_tokens=seen.released,
            )
            await second.send([again])
            rest = await fed(second, handle, [ids[known:]])
            both = SeenOutput(said=[*seen.said, *rest.said])

            assert said(both) == said(whole)
            assert seen.spelled + rest.spelled == whole.spelled

    assert bool(whole.spelled) == spelled


async def test_a_place_that_was_never_named_is_refused(registry: ModelRegistry) -> None:
    """Released tokens within what was said at once fail the output by name."""
    model = registry.find("bytelevel")
    ids = model.encoder.encode(CALL)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "hermes", prior_token_ids=ids[:4], released_tokens=3)])
        failure = (await raw.failed(1)).failure

    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert "released_tokens is 3" in failure.message


async def test_stop_strings_end_content_only(registry: ModelRegistry) -> None:
    """They are no stop within thoughts and calls, and end the content exactly."""
    model = registry.find("bytelevel")
    text = f"<think>\nHow are you?\n</think>\n\nHello.{CALL} Hello, world! How are you today?"
    ids = model.encoder.encode(text)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        stops = ("city", "ld! How are", ".{")
        await raw.send([opening(model, at, "qwen3+hermes", *stops) for at in (1, 2)])
        await raw.send(feeds=[(1, ids)])
        for token_id in ids:
            await raw.send(feeds=[(2, [token_id])])
        seen = await raw.output(1, entries=1)
        while raw.outputs.setdefault(2, SeenOutput()).stop is None:
            await raw.read()
        single = raw.outputs[2]

    assert said(seen)[-1] == ("content", None, " Hello, wor")
    assert said(single) == said(seen)
    assert seen.stop is not None
    assert single.stop is not None
    assert seen.stop.stop_index == single.stop.stop_index == 1
    assert seen.stop.consumed_tokens == single.stop.consumed_tokens < len(ids)
    assert seen.released == single.released < seen.consumed


async def test_a_stop_string_at_the_flush(registry: ModelRegistry) -> None:
    """What the end makes content may complete one."""
    model = registry.find("bytelevel")
    ids = model.encoder.encode("Hello <tool_call>{")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "hermes", "_call>{")])
        seen = await fed(raw, 1, [ids])

    assert said(seen) == [("content", None, "Hello <tool")]
    assert seen.stop is not None
    assert seen.stop.consumed_tokens == len(ids)


async def test_bytes_spell_the_markup_too(registry: ModelRegistry) -> None:
    """With token_bytes the tokens spell the whole text, each when it is released."""
    model = registry.find("bytelevel")
    text = OUTPUTS["mistral"] + " and that is it"
    ids = model.encoder.encode(text)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        opens = [
            opening(model, at, "mistral", *stops, token_bytes=True)
            for at, stops in ((1, ()), (2, ("that",)))
        ]
        await raw.send(opens)
        whole = await fed(raw, 1, [[each] for each in ids], 2)
        await raw.send(feeds=[(2, ids)])
        cut = await raw.output(2, entries=1)

    assert b"".join(whole.spelled).decode() == text
    assert (len(whole.spelled), len(whole.alternatives)) == (len(ids), 2 * len(ids))
    assert b"".join(cut.spelled).decode() == text[: text.index("that")]
    assert cut.released == len(cut.spelled)


async def test_an_output_cut_off_within_a_call(registry: ModelRegistry) -> None:
    """What was said stays, and the call's end says that it is not whole."""
    model = registry.find("bytelevel")
    ids = model.encoder.encode(CALL[:50])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "hermes")])
        seen = await fed(raw, 1, [ids])

    assert [entry[0] for entry in said(seen)] == ["tool_call_begin", "arguments", "tool_call_end"]
    assert said(seen)[-1] == ("tool_call_end", 0, False)
    assert seen.released == len(ids)


async def test_values_are_of_their_types(registry: ModelRegistry) -> None:
    """Bare values become what the function's schema says, and strings without one."""
    model = registry.find("bytelevel")
    ids = model.encoder.encode(OUTPUTS["qwen3_coder"])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        name = "qwen3_coder"
        await raw.send([opening(model, 1, name), opening(model, 2, name, functions=[])])
        typed, bare = [said(await fed(raw, handle, [ids])) for handle in (1, 2)]

    assert typed[2] == ("arguments", 0, '{"city": "Zürich\\n😀", "n": 3}')
    assert bare[2] == ("arguments", 0, '{"city": "Zürich\\n😀", "n": "3"}')


@pytest.mark.parametrize(
    ("functions", "part"),
    [
        ([FunctionSchema(name="")], "0 characters"),
        ([FunctionSchema(name="f"), FunctionSchema(name="f")], "as another function's"),
        ([FunctionSchema(name="f", parameters="{")], "no JSON object"),
        ([FunctionSchema(name="f", parameters="[" * 100_000)], "no JSON object"),
        ([FunctionSchema(name="f", parameters=" " * 300_000)], "300000 characters"),
        ([FunctionSchema(name=f"f{number}") for number in range(129)], "129 entries"),
    ],
)
async def test_functions_are_bounded(
    registry: ModelRegistry, functions: list[FunctionSchema], part: str
) -> None:
    """What is no list of functions fails the output by name."""
    model = registry.find("bytelevel")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "hermes", functions=functions)])
        failure = (await raw.failed(1)).failure

    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert failure.parameter.startswith("functions")
    assert part in failure.message


async def test_plain_outputs_beside_have_no_events(registry: ModelRegistry) -> None:
    """In the format text all is content of the deltas, and special tokens stay silent."""
    model = registry.find("bytelevel")
    ids = model.encoder.encode(OUTPUTS["mistral"])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "text"), opening(model, 2, "mistral")])
        await raw.send(feeds=[(2, ids), (1, ids)])
        plain = await fed(raw, 1, [])

    assert plain.text == OUTPUTS["mistral"].replace("[TOOL_CALLS]", "")
    assert not plain.said


async def test_render_names_the_format(registry: ModelRegistry) -> None:
    """Text unless the request names another or asks for the model's own, whose calls need tools."""
    messages = [Message(role="user", content="Hello")]
    async with running_tokenizer(registry) as tokenizer:
        asked = {None: "text", "text": "text", "model": "text", "qwen3+mistral": "qwen3+mistral"}
        for name, expected in asked.items():
            request = RenderRequest(messages=messages, output_format=name)
            answer = await tokenizer.stub.Render(request)
            assert answer.decoder.output_format == expected
            assert not answer.decoder.begins_in_reasoning
        model = await tokenizer.stub.GetModel(GetModelRequest())
        request = RenderRequest(messages=messages, output_format="hermes+hermes")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tokenizer.stub.Render(request)

    error = error_from_rpc(caught.value, peer="tokenizer")
    assert model.output_format == "hermes"
    assert error.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
    assert error.param == "output_format"


async def test_thoughts_opened_by_the_prompt(registry: ModelRegistry) -> None:
    """Render sees that the template has opened them, and the answer begins within them."""
    model = registry.find("metaspace")
    messages = [Message(role="user", content="Hello")]
    async with running_tokenizer(registry) as tokenizer:
        request = RenderRequest(model="metaspace", messages=messages, output_format="model")
        rendered = (await tokenizer.stub.Render(request)).decoder
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "", decoder=rendered)])
        seen = await fed(raw, 1, [model.encoder.encode("How</think>Hello")])

    assert (rendered.output_format, rendered.begins_in_reasoning) == ("qwen3", True)
    assert said(seen) == [("reasoning", None, "How"), ("content", None, " Hello")]
