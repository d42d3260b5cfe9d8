"""Guides of answers in Render, over real gRPC: what is allowed, and what is refused by name."""

import json
from typing import Any

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.tokenizer.v1.render_pb2 import Function, Message, RenderRequest, ToolChoice
from headrace.worker.v1.generation_pb2 import Choice, Guide
from tests.support.guided_walks import Walker
from tests.support.raw_detokenize import running_tokenizer
from tests.support.tokenizer_models import TEMPLATE, train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

USER = Message(role="user", content="Hello, world!")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GET = Function(name="get", parameters=json.dumps(SCHEMA))
STRICT = Function(name="get", parameters=json.dumps(SCHEMA), strict=True)
WAIT = Function(name="wait")
BAD = Function(name="bad", parameters='{"type": "object", "properties": {"a": {"not": {}}}}')
NUMBER = Guide(json_schema='{"type": "integer"}')
REQUIRED = ToolChoice(required=True)
THINKING = TEMPLATE + "<think>{# </think> #}"

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST


def call(name: str, arguments: str) -> str:
    """A call as hermes writes it."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A model that answers at once and one that thinks."""
    folder, document = tmp_path_factory.mktemp("models"), train_tokenizer()
    directories = [
        write_model(folder / name, document, template=template, context_length=500_000)
        for name, template in (("plain", TEMPLATE), ("thinking", THINKING))
    ]
    return ModelRegistry([TokenizerModel.load(each, TokenizerSettings()) for each in directories])


@pytest.fixture(scope="module")
def walker() -> Walker:
    """What compiles guides as a worker does."""
    return Walker()


async def rendered(registry: ModelRegistry, **fields: Any) -> Guide | None:
    """The guide of an answer in the model's own format."""
    request = RenderRequest(messages=[USER], output_format="model", **fields)
    async with running_tokenizer(registry) as tokenizer:
        response = await tokenizer.stub.Render(request)
    return response.guide if response.HasField("guide") else None


async def refusal(registry: ModelRegistry, **fields: Any) -> ServiceError:
    """The error with which such a request ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rendered(registry, **fields)
    return error_from_rpc(caught.value, peer="tokenizer")


# Fields, an answer that the guide allows, and one that it does not.
ASKED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": [GET], "tool_choice": REQUIRED}, call("get", '{"n": 1}'), call("get", "{}")),
    ({"tools": [GET], "tool_choice": REQUIRED}, call("get", '{"n": 1}'), "Hello"),
    (
        {"tools": [GET, WAIT], "tool_choice": REQUIRED},
        "\n".join([call("wait", "{}"), call("get", '{"n": 1}')]),
        call("look", "{}"),
    ),
    (
        {"tools": [GET, WAIT], "tool_choice": ToolChoice(allowed_names=["wait"])},
        "Hello " + call("wait", "{}"),
        call("get", '{"n": 1}'),
    ),
    (
        {"tools": [WAIT], "tool_choice": ToolChoice(single_call=True)},
        call("wait", "{}"),
        "\n".join([call("wait", "{}")] * 2),
    ),
    ({"tools": [STRICT]}, "Hello " + call("get", '{"n": 1}'), call("get", '{"n": "1"}')),
    ({"tools": [GET, Function(name="wait", strict=True)]}, call("get", "{}"), call("put", "{}")),
    ({"content_guide": NUMBER}, "12", "Hello"),
    ({"content_guide": NUMBER, "tools": [GET]}, "12", "Hello"),
    ({"content_guide": NUMBER, "tools": [GET]}, call("get", "{}"), "12" + call("get", "{}")),
    ({"content_guide": NUMBER, "model": "thinking"}, "So.</think>\n\n12", "12"),
    (
        {"tools": [GET], "tool_choice": REQUIRED, "model": "thinking"},
        "So.\n</think>\n\n" + call("get", '{"n": 1}'),
        call("get", '{"n": 1}'),
    ),
]


@pytest.mark.parametrize(("fields", "allowed", "other"), ASKED)
async def test_what_is_asked_is_in_the_guide(
    registry: ModelRegistry, walker: Walker, fields: dict[str, Any], allowed: str, other: str
) -> None:
    """Required calls, allowed names, one call, strict functions, content, behind thoughts too."""
    guide = await rendered(registry, **fields)

    assert guide is not None
    assert walker.allows(guide, allowed)
    assert not walker.allows(guide, other)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [GET, WAIT]},
        {"tools": [GET], "tool_choice": ToolChoice()},
        {"tools": [GET], "tool_choice": ToolChoice(allowed_names=["get"])},
        {"tools": [BAD]},
        {"model": "thinking", "tools": [GET]},
    ],
)
async def test_nothing_restricted_has_no_guide(
    registry: ModelRegistry, fields: dict[str, Any]
) -> None:
    """Where the model may write whatever it wants, the worker gets no guide."""
    assert await rendered(registry, **fields) is None


@pytest.mark.parametrize(
    "guide",
    [
        NUMBER,
        Guide(json_object=True),
        Guide(regex="a+/"),
        Guide(grammar='start: "a"'),
        Guide(choice=Choice(alternatives=["a"])),
        Guide(structural_tag="{}"),
    ],
)
async def test_content_alone_keeps_its_guide(registry: ModelRegistry, guide: Guide) -> None:
    """Workers whose engines know no grammars can follow it."""
    assert await rendered(registry, content_guide=guide) == guide


@pytest.mark.parametrize(
    ("fields", "param", "named"),
    [
        ({"tools": [GET, BAD], "tool_choice": REQUIRED}, "tools[1].parameters", "not"),
        ({"content_guide": Guide(json_schema='{"not": {}}')}, "content_guide", "not"),
        ({"content_guide": Guide(json_schema="[]")}, "content_guide", "JSON"),
        ({"content_guide": Guide(json_schema='{"x-guidance": {}}')}, "content_guide", "x-guidance"),
        ({"content_guide": Guide(regex="(a")}, "content_guide", "unclosed group"),
        ({"content_guide": Guide(grammar="start: b")}, "content_guide", "unknown name"),
        ({"content_guide": Guide()}, "content_guide", "kind"),
        ({"content_guide": Guide(choice=Choice())}, "content_guide", "alternative"),
        ({"content_guide": Guide(json_object=False)}, "content_guide", "json_object"),
        ({"content_guide": Guide(regex="a" * 300_000)}, "content_guide", "300000 characters"),
        (
            {"content_guide": Guide(grammar='start: "a"'), "tools": [GET]},
            "content_guide",
            "beside tools",
        ),
        (
            {"content_guide": Guide(structural_tag="{}"), "model": "thinking"},
            "content_guide",
            "structural tag",
        ),
        ({"tool_choice": REQUIRED}, "tool_choice", "no tools"),
        (
            {"tools": [GET], "tool_choice": ToolChoice(allowed_names=["put"])},
            "tool_choice",
            "`put`",
        ),
    ],
)
async def test_what_cannot_be_followed_is_refused(
    registry: ModelRegistry, fields: dict[str, Any], param: str, named: str
) -> None:
    """By the parameter, with the keyword or the reason; never by leaving it out."""
    error = await refusal(registry, **fields)

    assert (error.reason, error.param) == (_INVALID, param)
    assert named in error.message


async def test_other_requests_go_on_while_a_schema_is_checked(registry: ModelRegistry) -> None:
    """A chain of references as long as is taken ends neither the process nor its patience."""
    chain = {str(at): {"$ref": f"#/$defs/{at + 1}"} for at in range(6000)}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/0"}}, "$defs": chain}
    schema["$defs"] = {**chain, "6000": {"type": "string"}}
    tool = Function(name="deep", parameters=json.dumps(schema))
    guide = await rendered(registry, tools=[tool], tool_choice=REQUIRED)

    assert guide is not None
