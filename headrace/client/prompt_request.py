"""What a caller asks to be rendered: messages, functions, and what the answer may be.

Nothing here is in the markup of any model; tokenizer_svc knows that.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant called; `arguments` is usually the text of a JSON object.

    `id` is empty in the older form, whose results are known by their order.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation; `content` None is null.

    Tool calls, refusal and reasoning are an assistant's, `tool_call_id` is a tool's.
    """

    role: str
    content: str | None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the answer may call.

    `parameters` is the JSON schema of its arguments as text, empty where it takes none. `strict`:
    every call is valid against it, not only those that the tool choice demands.
    """

    name: str
    description: str | None = None
    parameters: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which functions are called. The default leaves it to the model.

    `required`: the answer is calls, at least one. `allowed_names`: no others are called; empty =
    all of them may be. `single_call`: at most one call.
    """

    required: bool = False
    allowed_names: tuple[str, ...] = ()
    single_call: bool = False


ContentGuideKind = Literal["json_schema", "json_object", "regex", "grammar", "choice"]


@dataclass(frozen=True, slots=True)
class ContentGuide:
    """What the answer's content must be, as in protos: Guide.

    `text` is what the kind says: for choice a JSON array of the alternatives, for json_object
    nothing.
    """

    kind: ContentGuideKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """A conversation with its functions. `thinking` None = as the template does by itself."""

    model: str
    messages: tuple[ChatMessage, ...]
    tools: tuple[Function, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    content_guide: ContentGuide | None = None
    thinking: bool | None = None
