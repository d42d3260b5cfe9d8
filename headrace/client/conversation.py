"""A conversation as the tokenizer's requests carry it."""

from collections.abc import Iterable

from headrace.client.answers import ChatMessage
from headrace.tokenizer.v1.render_pb2 import Message, ToolCall


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
