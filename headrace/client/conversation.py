"""A conversation with its functions, as the tokenizer's requests carry it: pure."""

import json
from collections.abc import Iterable

from headrace.client.prompt_request import ChatMessage, ContentGuide, PromptRequest
from headrace.tokenizer.v1.detokenize_pb2 import FunctionSchema
from headrace.tokenizer.v1.render_pb2 import (
    Function,
    Message,
    RenderRequest,
    ToolCall,
    ToolChoice,
)
from headrace.worker.v1.generation_pb2 import Choice, Guide

_MODELS_OWN_FORMAT = "model"


def render_request(request: PromptRequest) -> RenderRequest:
    """The tokenizer's request; what says nothing stays unset.

    The answer is read as the model writes it: without functions and thoughts that is plain text.
    """
    wire = RenderRequest(
        model=request.model,
        messages=wire_messages(request.messages),
        output_format=_MODELS_OWN_FORMAT,
    )
    if request.tools:
        choice = request.tool_choice
        wire.tools.extend(
            Function(
                name=tool.name,
                description=tool.description,
                parameters=tool.parameters,
                strict=tool.strict,
            )
            for tool in request.tools
        )
        wire.tool_choice.CopyFrom(
            ToolChoice(
                required=choice.required,
                allowed_names=choice.allowed_names,
                single_call=choice.single_call,
            )
        )
    if request.content_guide is not None:
        wire.content_guide.CopyFrom(_wire_guide(request.content_guide))
    if request.thinking is not None:
        wire.thinking = request.thinking
    return wire


def function_schemas(request: PromptRequest) -> tuple[FunctionSchema, ...]:
    """What the answer's decoder is told of the functions."""
    return tuple(
        FunctionSchema(name=tool.name, parameters=tool.parameters) for tool in request.tools
    )


def _wire_guide(guide: ContentGuide) -> Guide:
    match guide.kind:
        case "json_object":
            return Guide(json_object=True)
        case "choice":
            return Guide(choice=Choice(alternatives=json.loads(guide.text)))
        case "json_schema":
            return Guide(json_schema=guide.text)
        case "regex":
            return Guide(regex=guide.text)
        case "grammar":
            return Guide(grammar=guide.text)


def wire_messages(messages: Iterable[ChatMessage]) -> list[Message]:
    """The messages for RenderRequest and Conversation; what is None stays unset."""
    return [
        Message(
            role=message.role,
            content=message.content,
            name=message.name,
            tool_calls=[
                ToolCall(id=call.id, name=call.name, arguments=call.arguments)
                for call in message.tool_calls
            ],
            tool_call_id=message.tool_call_id,
            refusal=message.refusal,
            reasoning_content=message.reasoning_content,
        )
        for message in messages
    ]
