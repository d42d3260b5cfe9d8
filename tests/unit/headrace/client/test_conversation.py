"""Messages as the tokenizer's requests carry them."""

from headrace.client.conversation import wire_messages
from headrace.client.prompt_request import ChatMessage, ToolCall
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
