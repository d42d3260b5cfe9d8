"""A model's chat template: a conversation to the prompt's text, within bounds.

Templates come from the model directory, never from a client, and run in Jinja's immutable sandbox
with what Hugging Face's templates use. What a client sends can still make one slow or its output
large: the render is checked at every value it writes, attribute it reads, call it makes and number
it counts, and ends when its time or its characters are used up.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError

# What a template's own expressions raise when the messages do not fit them.
_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_MAX_REPEATED_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class RenderBounds:
    """What one render may use."""

    max_seconds: float = 2.0
    max_characters: int = 32 * 1024 * 1024


class _BoundsExceededError(Exception):
    """A render used up its time or its characters."""


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`: marks what the assistant says, for training."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it as a mutable class attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox, with a deadline that the rendering thread's operations check."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, GenerationTag]
        )
        self._local = threading.local()

    def begin(self, max_seconds: float) -> None:
        """Start the clock of this thread's render."""
        self._local.deadline = monotonic() + max_seconds

    def check_time(self) -> None:
        """Raise _BoundsExceededError behind the deadline."""
        deadline = getattr(self._local, "deadline", None)
        if deadline is not None and monotonic() > deadline:
            raise _BoundsExceededError("took too long")

    def getattr(self, obj: Any, attribute: str) -> Any:
        self.check_time()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.check_time()
        return super().getitem(obj, argument)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.check_time()
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or max(_repeated_items(left, right), _repeated_items(right, left)) > (
            _MAX_REPEATED_ITEMS
        ):
            raise _BoundsExceededError("computed a value that is too large")
        return super().call_binop(context, operator, left, right)


class ChatTemplate:
    """A compiled template. `special_tokens` are variables such as bos_token and eos_token.

    Raises StartError for a template that cannot be compiled.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        bounds: RenderBounds,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self._environment = _BoundedEnvironment()
        self._environment.filters["tojson"] = render_json
        self._environment.globals.update(
            raise_exception=_raise_exception,
            strftime_now=lambda form: now().strftime(form),
            range=self._range,
        )
        self._special_tokens = dict(special_tokens)
        self._bounds = bounds
        try:
            self._template = self._environment.from_string(source)
        except TemplateError as error:
            raise StartError(f"the chat template cannot be compiled: {error}") from error

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt's text, up to where the assistant speaks. Blocks; may run on any thread.

        Raises ServiceError for messages that the template refuses, and for bounds exceeded.
        """
        self._environment.begin(self._bounds.max_seconds)
        try:
            return "".join(self._parts(messages))
        except _BoundsExceededError as error:
            message = f"The chat template {error} for these messages."
            raise _refusal(message) from error
        except _TEMPLATE_ERRORS as error:
            message = f"The chat template refused these messages: {error}"
            raise _refusal(message) from error

    def _parts(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        left = self._bounds.max_characters
        for part in self._template.generate(
            self._special_tokens,
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=True,
        ):
            self._environment.check_time()
            left -= len(part)
            if left < 0:
                raise _BoundsExceededError(
                    f"wrote more than {self._bounds.max_characters} characters"
                )
            yield part

    def _range(self, *args: int) -> Iterator[int]:
        for number in range(*args):
            self._environment.check_time()
            yield number


def render_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 (Hugging Face's parameters)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 (likewise)
) -> str:
    """JSON as Hugging Face's templates get it: no HTML escapes, and no ASCII escapes by default."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def special_token_variables(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """Variables such as bos_token, from a tokenizer_config.json; some files write objects."""
    variables = {}
    for key, value in tokenizer_config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            variables[key] = text
    return variables


def _repeated_items(repeated: Any, times: Any) -> int:
    if isinstance(repeated, str | list | tuple) and isinstance(times, int):
        return len(repeated) * times
    return 0


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _refusal(message: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")
