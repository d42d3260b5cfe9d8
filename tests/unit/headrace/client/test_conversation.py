"""Conversations as the tokenizer's requests carry them."""

import pytest

from headrace.client.conversation import function_schemas, render_request, wire_messages
from headrace.client.prompt_request import (
    ChatMessage,
    ContentGuide,
    Function,
    PromptRequest,
    ToolCall,
    ToolChoice,
)
from headrace.tokenizer.v1 import render_pb2
from headrace.tokenizer.v1.detokenize_pb2 import FunctionSchema
from headrace.worker.v1.generation_pb2 import Choice, Guide
from tokenizer_svc.message_mapping import template_messages

CALL = ToolCall("c", "look", '{"where": "Ulm"}')


def test_everything_arrives() -> None:
    """What the tokenizer hands to the templates is what the caller said, and no more."""
    messages = [
        ChatMessage("user", "", "ann"),
        ChatMessage("assistant", None, tool_calls=(CALL,), reasoning_content="hm"),
        ChatMessage("tool", "22", tool_call_id="c"),
        ChatMessage("function", None, "look"),
        ChatMessage("assistant", "So", refusal="no"),
    ]
    function = {"name": "look", "arguments": '{"where": "Ulm"}'}

    assert template_messages(wire_messages(messages)) == [
        {"role": "user", "content": "", "name": "ann"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "22", "tool_call_id": "c"},
        {"role": "function", "content": None, "name": "look"},
        {"role": "assistant", "content": "So", "refusal": "no"},
    ]


def test_a_plain_request_says_no_more_than_it_must() -> None:
    """The answer is asked for in the model's own format; nothing else is set."""
    wire = render_request(PromptRequest("m", (ChatMessage("user", "Hi"),)))
    messages = [render_pb2.Message(role="user", content="Hi")]

    assert wire == render_pb2.RenderRequest(model="m", messages=messages, output_format="model")


def test_functions_choice_and_thinking_arrive() -> None:
    """Each with what was said of it; the decoder is told the names and schemas."""
    tools = (Function("f", "does", '{"type": "object"}', strict=True), Function("g"))
    choice = ToolChoice(required=True, allowed_names=("f",), single_call=True)
    request = PromptRequest("m", (), tools, choice, thinking=False)
    wire = render_request(request)

    assert list(wire.tools) == [
        render_pb2.Function(
            name="f", description="does", parameters='{"type": "object"}', strict=True
        ),
        render_pb2.Function(name="g"),
    ]
    assert wire.tool_choice == render_pb2.ToolChoice(
        required=True, allowed_names=["f"], single_call=True
    )
    assert (wire.HasField("thinking"), wire.thinking) == (True, False)
    assert function_schemas(request) == (
        FunctionSchema(name="f", parameters='{"type": "object"}'),
        FunctionSchema(name="g"),
    )


@pytest.mark.parametrize(
    ("guide", "wire"),
    [
        (ContentGuide("json_object"), Guide(json_object=True)),
        (ContentGuide("json_schema", "{}"), Guide(json_schema="{}")),
        (ContentGuide("regex", "a+"), Guide(regex="a+")),
        (ContentGuide("grammar", 'start: "a"'), Guide(grammar='start: "a"')),
        (ContentGuide("choice", '["a", "b"]'), Guide(choice=Choice(alternatives=["a", "b"]))),
    ],
)
def test_each_kind_of_content_guide(guide: ContentGuide, wire: Guide) -> None:
    """The kind chooses the field."""
    request = PromptRequest("m", (), content_guide=guide)

    assert render_request(request).content_guide == wire
