"""Render without its transport: a request to prompt ids, digests, the answer's decoder and guide.

What is cheap is checked when a rendering is prepared; `run` takes long and may run on a thread.
"""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Self

from headrace.digest import block_digests, root_digest
from headrace.tokenizer.v1.render_pb2 import Decoder, RenderRequest, RenderResponse
from headrace.worker.v1.generation_pb2 import Guide
from tokenizer_svc.conversation import Conversation
from tokenizer_svc.formats.catalog import TEXT, OutputFormat
from tokenizer_svc.guides.answers import AskedAnswer
from tokenizer_svc.guides.checking import GuideChecker
from tokenizer_svc.guides.content import check_content, content_characters
from tokenizer_svc.message_mapping import TemplateMessage, num_characters, template_messages
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.render_times import RenderTimes
from tokenizer_svc.request_mapping import checked_block_size
from tokenizer_svc.settings import LimitSettings
from tokenizer_svc.template_tools import template_tool
from tokenizer_svc.tool_mapping import (
    ToolSpec,
    check_functions,
    check_tool_choice,
    function_characters,
    tool_specs,
)

_IDS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Rendering:
    """A request to render that has been checked, for its model."""

    model: TokenizerModel
    request: RenderRequest
    messages: Sequence[TemplateMessage]
    answered_as: OutputFormat
    limits: LimitSettings
    guides: GuideChecker
    times: RenderTimes = field(default_factory=RenderTimes)

    @classmethod
    def prepare(
        cls,
        registry: ModelRegistry,
        model: TokenizerModel,
        request: RenderRequest,
        limits: LimitSettings,
    ) -> Self:
        """Check the request. Raises ServiceError, naming the parameter."""
        model.prompt_renderer()
        messages = template_messages(request.messages)
        check_functions(request.tools, limits, "tools")
        if request.HasField("tool_choice"):
            check_tool_choice(request.tool_choice, request.tools)
        if request.HasField("content_guide"):
            check_content(request.content_guide, limits)
        if request.HasField("block_digests"):
            checked_block_size(request.block_digests)
        asked = request.output_format if request.HasField("output_format") else TEXT
        answered_as = registry.answer_format(model, asked, has_tools=bool(request.tools))
        if request.HasField("thinking"):
            registry.check_thinking(model, request.thinking, has_tools=bool(request.tools))
        return cls(model, request, messages, answered_as, limits, registry.guides)

    @property
    def size(self) -> int:
        """Characters that are rendered and encoded."""
        size = num_characters(self.messages) + function_characters(self.request.tools)
        return size + content_characters(self.request.content_guide)

    def run(self) -> RenderResponse:
        """The answer to Render.

        Raises ServiceError for schemas that cannot be read or followed, for what the template
        refuses, and for lengths.
        """
        model, request = self.model, self.request
        limit = request.max_prompt_tokens if request.HasField("max_prompt_tokens") else None
        tools = tool_specs(request.tools, self.limits)
        thinking = request.thinking if request.HasField("thinking") else None
        conversation = Conversation(
            self.messages, [template_tool(tool) for tool in tools], thinking, self._calls_as
        )
        ids = model.prompt_renderer().render(conversation, limit, self.times)
        digests: list[bytes] = []
        if request.HasField("block_digests"):
            params = request.block_digests
            root = root_digest(params.block_size, params.model, params.lora, params.cache_salt)
            digests = block_digests(root, params.block_size, ids)
        decoder = model.formatted_decoder(self.answered_as, ids)
        with self.times.guide:
            guide = self._guide(tools, decoder)
        response = RenderResponse(decoder=decoder, block_digests=digests, guide=guide)
        extend_ids(response.prompt_token_ids, ids)
        return response

    def _guide(self, tools: Sequence[ToolSpec], decoder: Decoder) -> Guide | None:
        request, model = self.request, self.model
        has_guide = request.HasField("content_guide")
        asked = AskedAnswer(
            self.answered_as.named(decoder.output_format),
            tools,
            request.tool_choice,
            request.content_guide if has_guide else None,
            decoder.begins_in_reasoning,
            model.special_ids,
            model.directory.context_length,
        )
        return self.guides.guide(asked)

    @property
    def _calls_as(self) -> str:
        return self.answered_as.calls.name


def extend_ids(field: MutableSequence[int], ids: Sequence[int]) -> None:
    """Append ids to a message's field."""
    # In parts, since each keeps the interpreter lock and with it the loop waiting.
    for start in range(0, len(ids), _IDS_AT_ONCE):
        field.extend(ids[start : start + _IDS_AT_ONCE])
