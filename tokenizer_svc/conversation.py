"""What a prompt is made of: messages and functions, and the texts in them that a client wrote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from tokenizer_svc.formats.catalog import CALLS_BY_DEFAULT
from tokenizer_svc.message_mapping import TemplateMessage, changed_texts, client_texts
from tokenizer_svc.template_tools import TemplateTool, changed_tool, tool_texts


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and functions as templates read them.

    `thinking` None leaves it to the template. `calls_as` names the format of calls that the answer
    is read in, for templates that show no functions.
    """

    messages: Sequence[TemplateMessage]
    tools: Sequence[TemplateTool] = ()
    thinking: bool | None = None
    calls_as: str = CALLS_BY_DEFAULT

    def texts(self) -> list[str]:
        """Every text that the client wrote."""
        return [*client_texts(self.messages), *tool_texts(self.tools)]

    def changed(self, change: Callable[[str], str]) -> Self:
        """The conversation with every text that the client wrote changed."""
        return type(self)(
            [changed_texts(message, change) for message in self.messages],
            [changed_tool(tool, change) for tool in self.tools],
            self.thinking,
            self.calls_as,
        )
