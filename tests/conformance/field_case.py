"""What a case of a request field holds, and what a test sees of a request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.client.answers import GenerationOptions
from headrace.client.prompt_request import ContentGuide, PromptRequest, ToolChoice
from tests.support.edge_server import RawResponse


@dataclass(frozen=True)
class Seen:
    """What became of a request: its answer, what the backend was asked, what was logged."""

    response: RawResponse
    options: GenerationOptions
    prompt: PromptRequest
    log: Mapping[str, Any]

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the conversation's messages."""
        return tuple(message.role for message in self.prompt.messages)

    @property
    def functions(self) -> list[str]:
        """The names of what may be called."""
        return [function.name for function in self.prompt.tools]

    @property
    def sampling(self) -> dict[str, Any]:
        """The sampling parameters that are set, numbers rounded to what a float holds."""
        found: dict[str, Any] = {}
        for descriptor, value in self.options.sampling.ListFields():
            if descriptor.name == "logit_bias":
                found[descriptor.name] = [(each.token_id, each.bias) for each in value]
            else:
                found[descriptor.name] = round(value, 6)
        return found


@dataclass(frozen=True)
class Refusal:
    """A value that is refused; `nearest` is what a lenient profile takes and tells instead."""

    value: Any
    message: str
    code: str | None
    param: str | None = None
    nearest: str | None = None


@dataclass(frozen=True, kw_only=True)
class FieldCase:
    """A field's case. `beside` is what else the request must hold for the field to mean anything.

    `asked` is a value that asks for something, and `use` what becomes of it: `honoured` as `see`
    shows and `expected` says, a `hint` that is named as ignored, or `refused` as `refusal` says,
    under strict profiles alone (`refused strictly`) or under all. `neutral` values ask for nothing.
    `wrong` is a value of another type and the words for the right one.
    """

    asked: Any
    use: Literal["honoured", "hint", "refused strictly", "refused"] = "honoured"
    see: Callable[[Seen], Any] = lambda _seen: None
    expected: Any = None
    refusal: tuple[str, str | None] | None = None
    neutral: tuple[Any, ...] = ()
    wrong: tuple[Any, str] | None = None
    outside: Refusal | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False


def above(name: str, kind: str, most: object, got: object) -> str:
    """The message for a number that is too large."""
    return (
        f"Invalid '{name}': {kind} above maximum value. "
        f"Expected a value <= {most}, but got {got} instead."
    )


def below(name: str, kind: str, bound: str, got: object) -> str:
    """The message for one that is too small; `bound` with its sign."""
    return (
        f"Invalid '{name}': {kind} below minimum value. "
        f"Expected a value {bound}, but got {got} instead."
    )


def unknown(value: str, *supported: str) -> str:
    """The message for a string outside a closed set."""
    listed = ", ".join(f"'{each}'" for each in supported)
    return f"Invalid value: '{value}'. Supported values are: {listed}."


def one_of(value: str, *supported: str, param: str | None = None) -> Refusal:
    """A string outside a closed set, refused under all profiles."""
    return Refusal(value, unknown(value, *supported), "invalid_value", param)


def sampling(
    name: str, asked: float, neutral: tuple[float, ...], outside: Refusal, words: str = "a decimal"
) -> FieldCase:
    """A number that reaches the sampling parameters."""
    return FieldCase(
        asked=asked,
        see=lambda seen: seen.sampling,
        expected={name: asked},
        neutral=neutral,
        wrong=("1", words),
        outside=outside,
    )


def decimal_above(name: str, most: float, got: float) -> Refusal:
    """A number that is too large; lenient profiles take the largest."""
    message = above(name, "decimal", most, got)
    return Refusal(got, message, "decimal_above_max_value", nearest=f"{name}={most}")


def limit(name: str) -> FieldCase:
    """A limit on tokens."""
    return FieldCase(
        asked=7,
        see=lambda seen: seen.options.max_tokens,
        expected=7,
        wrong=("7", "an integer"),
        outside=Refusal(
            0, below(name, "integer", ">= 1", 0), "integer_below_min_value", nearest=f"{name}=1"
        ),
    )


def unsupported(name: str, asked: Any, **more: Any) -> FieldCase:
    """A field that is refused by name, `more` says when."""
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    values = {"use": "refused", "refusal": (message, "unsupported_parameter"), **more}
    return FieldCase(asked=asked, **values)


def choice(
    offered: Mapping[str, Any],
    asked: Any,
    see: Callable[[ToolChoice], Any],
    expected: Any,
    outside: Refusal | None = None,
) -> FieldCase:
    """The choice among what is offered; `see` is what of it is looked at."""
    return FieldCase(
        asked=asked,
        see=lambda seen: see(seen.prompt.tool_choice),
        expected=expected,
        neutral=("auto",),
        wrong=(5, "one of a string or object"),
        outside=outside,
        beside=offered,
    )


def guide(asked: Any, expected: ContentGuide, words: str, wrong: Any = 5) -> FieldCase:
    """A field that says what the content must be; `words` are those for the right type."""
    return FieldCase(
        asked=asked,
        see=lambda seen: seen.prompt.content_guide,
        expected=expected,
        wrong=(wrong, words),
    )
