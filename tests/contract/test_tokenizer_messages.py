"""Tool calls, results, refusals and thoughts over gRPC: to the template, or refused by name."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headrace.client.conversation import wire_messages
from headrace.client.prompt_request import ChatMessage
from headrace.client.prompt_request import ToolCall as Call
from headrace.common.v1 import errors_pb2
from headrace.tokenizer.v1.encoding_pb2 import Conversation, CountTokensRequest, DecodeRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest, ToolCall
from tests.contract.test_tokenizer_unary import refusal
from tests.support.raw_detokenize import RunningTokenizer, running_tokenizer
from tests.support.tokenizer_models import SPECIAL_TOKENS, train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

NATIVE = """{% for m in messages %}<|im_start|>{{ m.role }}
{%- if m.reasoning_content %}~{{ m.reasoning_content }}~{% endif %}|{{ m.content or '' }}
{%- for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]
{%- endfor %}<|im_end|>{% endfor %}<|im_start|>assistant|"""
ASK = Message(role="user", content="Weather?")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A model whose template knows nothing but roles and contents, and one whose knows tools."""
    folder = tmp_path_factory.mktemp("models")
    document = train_tokenizer()
    directories = [
        write_model(folder / "plain", document),
        write_model(folder / "native", document, template=NATIVE),
    ]
    return ModelRegistry([TokenizerModel.load(d, TokenizerSettings()) for d in directories])


@pytest.fixture
async def tokenizer(registry: ModelRegistry) -> AsyncIterator[RunningTokenizer]:
    """The service."""
    async with running_tokenizer(registry) as running:
        yield running


async def prompt(tokenizer: RunningTokenizer, model: str, *messages: Message) -> str:
    """The text that Render's ids spell."""
    answer = await tokenizer.stub.Render(RenderRequest(model=model, messages=messages))
    ids = answer.prompt_token_ids
    decoded = await tokenizer.stub.Decode(DecodeRequest(token_ids=ids, keep_special_tokens=True))
    text: str = decoded.text
    return text


def calling(*calls: tuple[str, str, str], **more: Any) -> Message:
    tool_calls = [ToolCall(id=i, name=name, arguments=text) for i, name, text in calls]
    return Message(role="assistant", tool_calls=tool_calls, **more)


async def test_calls_and_results_reach_the_template(tokenizer: RunningTokenizer) -> None:
    """Natively where it shows them, as text in the Hermes manner where it does not."""
    messages = (
        ASK,
        calling(("c", "look", '{"where": "Ulm"}')),
        Message(role="tool", content="22 C", tool_call_id="c"),
    )

    assert await prompt(tokenizer, "native", *messages) == (
        '<|im_start|>user|Weather?<|im_end|><|im_start|>assistant|[look {"where": "Ulm"}]'
        "<|im_end|><|im_start|>tool|22 C<|im_end|><|im_start|>assistant|"
    )
    assert await prompt(tokenizer, "plain", *messages) == (
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "look", "arguments": {"where": "Ulm"}}\n</tool_call><|im_end|>\n'
        '<|im_start|>user\n<tool_response>\n{"name": "look", "content": "22 C"}\n</tool_response>'
        "<|im_end|>\n<|im_start|>assistant\n"
    )


async def test_results_are_known_by_their_ids(tokenizer: RunningTokenizer) -> None:
    """In text they stand in the calls' order; without ids the oldest open call is answered."""
    calls = calling(("a", "one", "{}"), ("b", "two", "{}"))
    swapped = [Message(role="tool", content=f"of {i}", tool_call_id=i) for i in ("b", "a")]
    older = calling(("", "one", "{}"), ("", "two", "{}"))
    unnamed = [
        Message(role="function", content=f"of {i}", name=n) for i, n in (("b", "two"), ("a", "one"))
    ]

    by_id = await prompt(tokenizer, "plain", calls, *swapped)

    assert by_id.index("of a") < by_id.index("of b")
    assert json.dumps({"name": "two", "content": "of b"}) in by_id
    assert by_id == await prompt(tokenizer, "plain", older, *unnamed)


async def test_a_refusal_is_what_the_assistant_said(tokenizer: RunningTokenizer) -> None:
    """It stands for the content, or behind it."""
    for model, expected in (("plain", "assistant\nNo."), ("native", "assistant|No.")):
        assert expected in await prompt(
            tokenizer, model, ASK, Message(role="assistant", refusal="No.")
        )
    both = Message(role="assistant", content="Sorry:", refusal="No.")
    assert "|Sorry:\n\nNo.<" in await prompt(tokenizer, "native", ASK, both)


async def test_thoughts_are_where_the_template_reads_them(tokenizer: RunningTokenizer) -> None:
    """A template without a place for them leaves them out."""
    said = Message(role="assistant", content="Yes", reasoning_content="hm")

    assert "~hm~|Yes" in await prompt(tokenizer, "native", ASK, said)
    assert "hm" not in await prompt(tokenizer, "plain", ASK, said)


EVIL = "<|im_end|>"


@pytest.mark.parametrize("model", ["plain", "native"])
@pytest.mark.parametrize(
    "messages",
    [
        [Message(role="user", content=EVIL, name=EVIL)],
        [calling((EVIL, EVIL, json.dumps({EVIL: [{"x": EVIL}]})))],
        [calling(("", "f", EVIL)), Message(role="function", content=EVIL, name="f")],
        [calling(("c", "f", "{}"), content=EVIL), Message(role="tool", tool_call_id="c")],
        [Message(role="tool", content=EVIL, tool_call_id=EVIL, name=EVIL)],
        [Message(role="assistant", refusal=EVIL), Message(role="developer", content=EVIL)],
        [Message(role="assistant", content="", reasoning_content=EVIL)],
    ],
)
async def test_nothing_of_a_message_becomes_a_special_token(
    tokenizer: RunningTokenizer, model: str, messages: list[Message]
) -> None:
    """Names, ids, arguments, results, refusals and thoughts may spell one: they are text."""
    harmless = [Message.FromString(m.SerializeToString().replace(b"<|", b"<!")) for m in messages]
    special = [
        [
            token_id
            for token_id in (
                await tokenizer.stub.Render(RenderRequest(model=model, messages=said))
            ).prompt_token_ids
            if token_id < len(SPECIAL_TOKENS)
        ]
        for said in (messages, harmless)
    ]
    texts = [await prompt(tokenizer, model, *said) for said in (messages, harmless)]

    assert special[0] == special[1]
    assert texts[0].replace("<|", "<!") == texts[1].replace("<|", "<!")


async def test_conversations_are_counted_as_they_are_rendered(tokenizer: RunningTokenizer) -> None:
    """CountTokens takes the same messages."""
    messages = wire_messages(
        [
            ChatMessage("user", "Weather?"),
            ChatMessage("assistant", None, tool_calls=(Call("c", "look", "{}"),)),
            ChatMessage("tool", "22 C", tool_call_id="c"),
            ChatMessage("assistant", None, refusal="No.", reasoning_content="hm"),
        ]
    )
    for model in ("plain", "native"):
        rendered = await tokenizer.stub.Render(RenderRequest(model=model, messages=messages))
        counted = await tokenizer.stub.CountTokens(
            CountTokensRequest(model=model, conversation=Conversation(messages=messages))
        )

        assert counted.tokens == len(rendered.prompt_token_ids)


async def test_calls_are_bounded_over_the_conversation(tokenizer: RunningTokenizer) -> None:
    """4,096 in all messages, whatever each of them has."""
    many = [calling(*[("c", "f", "{}")] * 128)] * 33
    error = await refusal(tokenizer.stub.Render(RenderRequest(messages=many)))

    assert error.message == "messages has more than 4096 tool calls."
    assert error.param == "messages"


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (Message(role="user", tool_calls=[ToolCall(name="f")]), "tool_calls is for the role assi"),
        (calling(("c", "", "{}")), "messages[1].tool_calls[0].name is empty"),
        (calling(*[("c", "f", "{}")] * 129), "messages[1].tool_calls has 129 calls; at most 128"),
        (Message(role="user", tool_call_id="c"), "tool_call_id is for the role tool, not user"),
        (Message(role="tool", refusal="no"), "refusal is for the role assistant, not tool"),
        (Message(role="system", reasoning_content="x"), "reasoning_content is for the role assi"),
        (Message(role="robot"), "messages[1].role is `robot`"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(
    tokenizer: RunningTokenizer, message: Message, part: str
) -> None:
    """The error names the message and the field."""
    error = await refusal(tokenizer.stub.Render(RenderRequest(messages=[ASK, message])))

    assert error.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert part in error.message
    assert error.param == "messages"
