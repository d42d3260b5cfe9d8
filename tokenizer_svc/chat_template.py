"""A model's chat template: a conversation to the prompt's text, within bounds.

Templates come from the model directory, never from a client, and run in Jinja's immutable sandbox
with what Hugging Face's templates use. A directory may be downloaded from anywhere, and what a
client sends can make an honest template slow or its output large: all that a render computes is
checked against a budget of time, characters and memory, and the render ends when one is used up.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from tokenizer_svc.template_budget import BoundsExceededError, RenderBounds
from tokenizer_svc.template_sandbox import BoundedEnvironment

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
# Python's compiler refuses some of what Jinja's parser takes, such as 21 loops in one another.
_COMPILE_ERRORS = (*_TEMPLATE_ERRORS, BoundsExceededError, MemoryError, SyntaxError)
_MAX_SOURCE_CHARACTERS = 1024 * 1024
_MAX_TIME_FORMAT_CHARACTERS = 256
_MAX_MESSAGE_CHARACTERS = 1000


class TemplateRefusalError(ServiceError):
    """The template's own refusal of what it was given, bounds aside."""


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
        self._environment = BoundedEnvironment()
        self._environment.filters["tojson"] = render_json
        self._environment.globals.update(raise_exception=_raise_exception, strftime_now=self._time)
        self._environment.guard_filters()
        self._special_tokens = dict(special_tokens)
        self._bounds = bounds
        self._now = now
        self._template = self._compiled(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """The prompt's text, up to where the assistant speaks. Blocks; may run on any thread.

        `variables` are given to the template beside its own. Raises TemplateRefusalError for what
        the template refuses, ServiceError for bounds exceeded.
        """
        self._environment.begin(self._bounds)
        try:
            return "".join(self._parts(messages, tools, variables))
        except BoundsExceededError as error:
            raise _refusal(f"The chat template {error} for these messages.") from error
        except MemoryError as error:
            message = "The chat template used more memory than there is for these messages."
            raise _refusal(message) from error
        except _TEMPLATE_ERRORS as error:
            reason = str(error)[:_MAX_MESSAGE_CHARACTERS]
            message = f"The chat template refused these messages: {reason}"
            raise _refusal(message, TemplateRefusalError) from error
        finally:
            self._environment.end()

    def _compiled(self, source: str) -> Template:
        if len(source) > _MAX_SOURCE_CHARACTERS:
            raise StartError(
                f"the chat template has {len(source)} characters; at most "
                f"{_MAX_SOURCE_CHARACTERS} are allowed"
            )
        self._environment.begin(self._bounds)
        try:
            return self._environment.from_string(source)
        except _COMPILE_ERRORS as error:
            raise StartError(f"the chat template cannot be compiled: {error}") from error
        finally:
            self._environment.end()

    def _parts(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        variables: Mapping[str, Any],
    ) -> Iterator[str]:
        left = self._bounds.max_characters
        for part in self._template.generate(
            {**self._special_tokens, **variables},
            messages=messages,
            tools=tools or None,
            documents=None,
            add_generation_prompt=True,
        ):
            left -= len(part)
            if left < 0:
                raise BoundsExceededError(
                    f"wrote more than {self._bounds.max_characters} characters"
                )
            yield part

    def _time(self, form: str) -> str:
        if len(form) > _MAX_TIME_FORMAT_CHARACTERS:
            raise BoundsExceededError("used a time format that is too long")
        # Local time without a zone, as elsewhere these templates get it.
        return self._now().replace(tzinfo=None).strftime(form)


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


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _refusal(message: str, kind: type[ServiceError] = ServiceError) -> ServiceError:
    return kind(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")
