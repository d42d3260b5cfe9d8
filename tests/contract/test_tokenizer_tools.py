"""Tools and thinking in Render and CountTokens, over real gRPC."""

import json
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.tokenizer.v1.encoding_pb2 import Conversation, CountTokensRequest, DecodeRequest
from headrace.tokenizer.v1.render_pb2 import Function, Message, RenderRequest
from tests.support.raw_detokenize import RunningTokenizer, running_tokenizer
from tests.support.tokenizer_models import TEMPLATE, train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

USER = Message(role="user", content="Hello, world!")
SCHEMA = {"type": "object", "properties": {"where": {"type": "string", "description": "a <|town"}}}
LOOK = Function(name="look", description="Look out", parameters=json.dumps(SCHEMA), strict=True)
WAIT = Function(name="wait")
SHOWING = "{% for tool in tools or [] %}{{ tool | tojson }}\n{% endfor %}" + TEMPLATE
THINKING = TEMPLATE + "{{ '<think>\n\n</think>\n' if enable_thinking is false else '<think>' }}"
TEMPLATES = {
    "plain": TEMPLATE,
    "showing": SHOWING,
    "thinking": THINKING,
    "always": TEMPLATE + "<think>{# </think> #}",
    "mistral": TEMPLATE + "{# [TOOL_CALLS] #}",
    "refusing": SHOWING + "{{ raise_exception('No waiting.') if 'wait' in (tools | string) }}",
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """Models of one tokenizer, each with a template of its own."""
    folder, document = tmp_path_factory.mktemp("models"), train_tokenizer()
    directories = [
        write_model(folder / name, document, template=template, context_length=4096)
        for name, template in TEMPLATES.items()
    ]
    return ModelRegistry([TokenizerModel.load(each, TokenizerSettings()) for each in directories])


async def refusal(call: grpc.aio.UnaryUnaryCall) -> ServiceError:
    """The error with which the call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, peer="tokenizer")


def asking(tools: Sequence[Function] = (), **more: Any) -> RenderRequest:
    """A request for the model's own format."""
    return RenderRequest(messages=[USER], tools=tools, output_format="model", **more)


async def prompt(tokenizer: RunningTokenizer, request: RenderRequest) -> str:
    """The prompt's text."""
    ids = (await tokenizer.stub.Render(request)).prompt_token_ids
    asked = DecodeRequest(model=request.model, token_ids=ids, keep_special_tokens=True)
    text: str = (await tokenizer.stub.Decode(asked)).text
    return text


async def test_tools_reach_the_template(registry: ModelRegistry) -> None:
    """In the form of OpenAI's API; a schema where there is none, a description only if set."""
    async with running_tokenizer(registry) as tokenizer:
        text = await prompt(tokenizer, asking([LOOK, WAIT], model="showing"))

    look, wait, rest = text.split("\n", 2)
    assert json.loads(look) == {
        "type": "function",
        "function": {"name": "look", "description": "Look out", "parameters": SCHEMA},
    }
    assert json.loads(wait) == {
        "type": "function",
        "function": {"name": "wait", "parameters": {"type": "object", "properties": {}}},
    }
    assert rest.startswith("<|im_start|>user\nHello, world!")


async def test_tools_are_described_where_the_template_shows_none(registry: ModelRegistry) -> None:
    """In a system message in front, each on a line of its own, with how calls are written."""
    async with running_tokenizer(registry) as tokenizer:
        text = await prompt(tokenizer, asking([LOOK, WAIT], model="plain"))

    system, user = text.split("<|im_end|>\n", 1)
    described = system.split("<tools>\n")[1].split("\n</tools>\n")
    assert system.startswith("<|im_start|>system\n")
    assert [json.loads(line)["function"]["name"] for line in described[0].splitlines()] == [
        "look",
        "wait",
    ]
    assert "<tool_call>" in described[1]
    assert user.startswith("<|im_start|>user\nHello, world!")


@pytest.mark.parametrize(
    ("model", "tools", "asked", "expected"),
    [
        ("plain", [], "model", "text"),
        ("plain", [WAIT], "model", "hermes"),
        ("plain", [WAIT], "mistral", "mistral"),
        ("thinking", [], "model", "qwen3"),
        ("thinking", [WAIT], "model", "qwen3+hermes"),
        ("thinking", [], "qwen3+hermes", "qwen3+hermes"),
    ],
)
async def test_the_answers_format_depends_on_tools(
    registry: ModelRegistry, model: str, tools: list[Function], asked: str, expected: str
) -> None:
    """Calls are read where there are tools, thoughts as the model writes them."""
    request = RenderRequest(messages=[USER], tools=tools, output_format=asked, model=model)
    async with running_tokenizer(registry) as tokenizer:
        decoder = (await tokenizer.stub.Render(request)).decoder

    assert decoder.output_format == expected
    assert decoder.begins_in_reasoning is (model == "thinking")


@pytest.mark.parametrize("asked", [None, "text", "qwen3"])
async def test_tools_need_a_format_with_calls(registry: ModelRegistry, asked: str | None) -> None:
    """One that is named and has none is refused."""
    request = RenderRequest(messages=[USER], tools=[WAIT], output_format=asked)
    async with running_tokenizer(registry) as tokenizer:
        error = await refusal(tokenizer.stub.Render(request))

    assert (error.reason, error.param) == (errors_pb2.ERROR_REASON_INVALID_REQUEST, "output_format")


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([WAIT, Function(name="")], "tools[1].name"),
        ([Function(name="f", parameters="[]")], "tools[0].parameters"),
        ([Function(name=f"f{number}") for number in range(129)], "tools"),
    ],
)
async def test_tools_are_checked_by_name(
    registry: ModelRegistry, tools: list[Function], param: str
) -> None:
    """Both calls refuse what is no list of functions."""
    count = CountTokensRequest(conversation=Conversation(messages=[USER], tools=tools))
    async with running_tokenizer(registry) as tokenizer:
        errors = [
            await refusal(tokenizer.stub.Render(asking(tools))),
            await refusal(tokenizer.stub.CountTokens(count)),
        ]

    assert [error.param for error in errors] == [param, param]


async def test_a_template_that_refuses_the_tools_names_them(registry: ModelRegistry) -> None:
    """Its own words reach the caller, who learns that it were not the messages."""
    async with running_tokenizer(registry) as tokenizer:
        assert await prompt(tokenizer, asking([LOOK], model="refusing"))
        error = await refusal(tokenizer.stub.Render(asking([WAIT], model="refusing")))

    assert (error.reason, error.param) == (errors_pb2.ERROR_REASON_INVALID_REQUEST, "tools")
    assert "refused these tools: No waiting." in error.message


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("hermes", '<tool_call>\n{"name": '),
        ("llama3_json", '{"name": <name of the function>, "parameters": '),
        ("mistral", '[TOOL_CALLS] [{"name": '),
        ("qwen3_coder", "<function=name_of_the_function>"),
        ("qwen3+mistral", '[TOOL_CALLS] [{"name": '),
    ],
)
async def test_the_description_is_of_the_format_that_is_read(
    registry: ModelRegistry, asked: str, part: str
) -> None:
    """The model is told to write what the answer's parser understands."""
    request = RenderRequest(messages=[USER], tools=[WAIT], output_format=asked, model="plain")
    async with running_tokenizer(registry) as tokenizer:
        text = await prompt(tokenizer, request)

    assert part in text.split("\n</tools>\n")[1]


@pytest.mark.parametrize("model", ["plain", "showing", "thinking", "mistral"])
async def test_counting_counts_the_tools(registry: ModelRegistry, model: str) -> None:
    """As many tokens as the prompt that Render makes."""
    conversation = Conversation(messages=[USER], tools=[LOOK, WAIT])
    count = CountTokensRequest(model=model, conversation=conversation)
    async with running_tokenizer(registry) as tokenizer:
        rendered = await tokenizer.stub.Render(asking([LOOK, WAIT], model=model))
        counted = await tokenizer.stub.CountTokens(count)

    assert counted.tokens == len(rendered.prompt_token_ids)


@pytest.mark.parametrize(
    ("wanted", "begins", "answered_as"),
    [(None, True, "qwen3"), (True, True, "qwen3"), (False, False, "text")],
)
async def test_thinking_is_switched(
    registry: ModelRegistry, wanted: bool | None, begins: bool, answered_as: str
) -> None:
    """By the variable that the template reads; a prompt that closes the thoughts leaves none."""
    async with running_tokenizer(registry) as tokenizer:
        decoder = (await tokenizer.stub.Render(asking(model="thinking", thinking=wanted))).decoder

    assert decoder.begins_in_reasoning is begins
    assert decoder.output_format == answered_as


async def test_thinking_that_cannot_be_is_refused(registry: ModelRegistry) -> None:
    """Nothing thinks, or it cannot be stopped; what is so anyway changes nothing."""
    async with running_tokenizer(registry) as tokenizer:
        for model, possible in (("plain", False), ("always", True)):
            plain = await prompt(tokenizer, asking(model=model))
            assert await prompt(tokenizer, asking(model=model, thinking=possible)) == plain
            error = await refusal(tokenizer.stub.Render(asking(model=model, thinking=not possible)))
            assert error.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
            assert error.param == "thinking"
