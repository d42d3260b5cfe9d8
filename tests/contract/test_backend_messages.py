"""A conversation with tools through the backend: what the tokenizer renders is what was said."""

from pathlib import Path

from headrace.client.conversation import wire_messages
from headrace.client.prompt_request import ChatMessage, PromptRequest, ToolCall
from headrace.tokenizer.v1.render_pb2 import RenderRequest
from tests.support.in_process import connected_backend, in_process_stack, small_registry

MESSAGES = (
    ChatMessage("user", "Weather?"),
    ChatMessage(
        "assistant",
        None,
        tool_calls=(ToolCall("c", "look", '{"where": "Ulm"}'),),
        reasoning_content="hm",
    ),
    ChatMessage("tool", "22", tool_call_id="c"),
    ChatMessage("assistant", None, refusal="No."),
)


async def test_the_backend_carries_every_field(tmp_path: Path) -> None:
    """The ids are those of the tokenizer's own answer, and say all that was said."""
    async with in_process_stack(small_registry(tmp_path)) as stack:
        async with connected_backend(stack) as backend:
            prompt = await backend.render(
                PromptRequest(stack.model, tuple(MESSAGES)), timeout_seconds=10
            )
        expected = await stack.tokenizer.stub.Render(
            RenderRequest(model=stack.model, messages=wire_messages(MESSAGES))
        )

    assert list(prompt.token_ids) == list(expected.prompt_token_ids)
    assert len(prompt.token_ids) > 60
