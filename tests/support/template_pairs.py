"""A model's chat templates as the service renders them, and as transformers does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from headrace.models.directory import open_model_directory
from headrace.rpc.errors import ServiceError
from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.registry import TokenizerModel
from tokenizer_svc.settings import TokenizerSettings
from tokenizer_svc.template_tools import TemplateTool


class Pair:
    """A model directory as the service reads it, and as transformers does."""

    def __init__(self, folder: Path) -> None:
        self.model = TokenizerModel.load(open_model_directory(folder), TokenizerSettings())
        self.templates = self.model.prompt_renderer()._templates
        self.oracle = PreTrainedTokenizerFast.from_pretrained(folder)

    def expected_text(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[TemplateTool] = (),
        **variables: Any,
    ) -> str | None:
        """The library's text; None where its template refuses the messages."""
        try:
            text = self.oracle.apply_chat_template(
                messages,
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=True,
                **variables,
            )
        except (TemplateError, TypeError):
            return None
        assert isinstance(text, str)
        return text

    def text(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[TemplateTool] = (),
        **variables: Any,
    ) -> str | None:
        """Our text, of the messages as they are; None where it is refused."""
        template = self.templates.of(has_tools=bool(tools))
        try:
            return template._template.render(messages, tools, variables)
        except ServiceError:
            return None
