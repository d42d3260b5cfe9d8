"""CountTokens of a conversation without its transport: as Render makes its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from headrace.tokenizer.v1.encoding_pb2 import Conversation as WireConversation
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.message_mapping import TemplateMessage, num_characters, template_messages
from tokenizer_svc.registry import MODELS_OWN_FORMAT, ModelRegistry, TokenizerModel
from tokenizer_svc.render_times import RenderTimes
from tokenizer_svc.settings import LimitSettings
from tokenizer_svc.template_tools import template_tool
from tokenizer_svc.tool_mapping import check_functions, function_characters, tool_specs


@dataclass(frozen=True, slots=True)
class Counting:
    """A conversation to count that has been checked, for its model."""

    model: TokenizerModel
    request: WireConversation
    messages: Sequence[TemplateMessage]
    calls_as: str
    limits: LimitSettings
    times: RenderTimes = field(default_factory=RenderTimes)

    @classmethod
    def prepare(
        cls,
        registry: ModelRegistry,
        model: TokenizerModel,
        request: WireConversation,
        limits: LimitSettings,
    ) -> Self:
        """Check the request. Raises ServiceError, naming the parameter."""
        model.prompt_renderer()
        messages = template_messages(request.messages)
        check_functions(request.tools, limits, "tools")
        answer = registry.answer_format(model, MODELS_OWN_FORMAT, has_tools=bool(request.tools))
        return cls(model, request, messages, answer.calls.name, limits)

    @property
    def size(self) -> int:
        """Characters that are rendered and encoded."""
        return num_characters(self.messages) + function_characters(self.request.tools)

    def run(self) -> int:
        """Tokens of the prompt. Raises ServiceError as Render does."""
        tools = [template_tool(tool) for tool in tool_specs(self.request.tools, self.limits)]
        conversation = Conversation(self.messages, tools, calls_as=self.calls_as)
        return len(self.model.prompt_renderer().render(conversation, times=self.times))
