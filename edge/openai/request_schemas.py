"""The JSON Schema of a chat completion request under a profile, from the table of fields.

What a schema cannot say stands in the descriptions: fields that exclude or need one another, and
those that a model may lack.
"""

from collections.abc import Callable

from edge.openai.answer_schemas import reference
from edge.openai.checks import MAX_PROPERTIES, Check, NumberRange, Schema
from edge.openai.fields import FIELDS, FieldSpec, Use
from edge.openai.message_schemas import nullable
from edge.openai.problems import number_text
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.openai.tool_schemas import (
    choice_schema,
    format_schema,
    functions_schema,
    switches_schema,
    tools_schema,
)

_REQUIRED = ("model", "messages")
_USES = {
    Use.HINT: "Changes nothing, and is named in `x-headrace-ignored`.",
    Use.REFUSED: "Refused by name, unless it says what is the case anyway.",
}
_STRICT_RULES = (
    "`max_tokens` and `max_completion_tokens` exclude one another; `stream_options` needs "
    "`stream`, `top_logprobs` needs `logprobs`; `min_tokens` is at most the token limit. "
    "`tools` and `functions` that may be called exclude one another; `parallel_tool_calls` needs "
    "`tools`."
)
_LENIENT_RULES = (
    "Numbers out of range are taken as the nearest that is in it, named in `x-headrace-clamped`; "
    "what contradicts something else is ignored, named in `x-headrace-ignored`."
)


def request_schema(profile: Profile, limits: RequestLimits) -> Schema:
    """The body of a request; fields that are not in the table are taken and ignored."""
    rules = [_STRICT_RULES if profile.strict else _LENIENT_RULES]
    if profile.system_first_only:
        rules.append("System and developer messages are only allowed as the first.")
    return {
        "type": "object",
        "description": " ".join(rules),
        "properties": {spec.name: field_schema(spec, profile, limits) for spec in FIELDS},
        "required": list(_REQUIRED),
        "maxProperties": MAX_PROPERTIES,
    }


def messages_name(*, strict: bool) -> str:
    """The name of the messages' schema among the document's components."""
    return "Messages.strict" if strict else "Messages.lenient"


def field_schema(spec: FieldSpec, profile: Profile, limits: RequestLimits) -> Schema:
    """One field: what is taken, what becomes of it, and what is assumed where it is absent."""
    schema = _value_schema(spec, profile, limits)
    if spec.name not in _REQUIRED:
        schema = nullable(schema)
    default = _default(spec.name, profile)
    if default is not None:
        schema["default"] = default
    description = " ".join(_sentences(spec, profile))
    return {**schema, **({"description": description} if description else {})}


def _value_schema(spec: FieldSpec, profile: Profile, limits: RequestLimits) -> Schema:
    use = spec.use_of(strict=profile.strict)
    elsewhere = _checked_elsewhere(spec.name, profile)
    if elsewhere is not None:
        return elsewhere
    if use is Use.REFUSED:
        return {"type": "null"} if spec.neutral is None else spec.neutral.schema()
    schema = _check_schema(spec.check, strict=profile.strict)
    if spec.name == "n" and profile.strict:
        schema["maximum"] = min(limits.max_outputs, schema["maximum"])
    if spec.name in ("max_tokens", "max_completion_tokens") and profile.strict:
        schema["maximum"] = min(profile.max_tokens or schema["maximum"], schema["maximum"])
    return schema


def _check_schema(check: Check, *, strict: bool) -> Schema:
    if isinstance(check, NumberRange) and not strict:
        return check.nearest_schema()
    return check.schema()


def _checked_elsewhere(name: str, profile: Profile) -> Schema | None:
    """Fields of whose form the table says less than the profile."""
    strict = profile.strict_messages
    schemas: dict[str, Callable[[], Schema]] = {
        "messages": lambda: reference(messages_name(strict=strict)),
        "tools": lambda: tools_schema(strict=strict),
        "functions": lambda: functions_schema(strict=strict),
        "tool_choice": lambda: choice_schema("tools"),
        "function_call": lambda: choice_schema("functions"),
        "response_format": lambda: format_schema(strict=strict),
        "chat_template_kwargs": lambda: switches_schema(strict=profile.strict),
    }
    return schemas[name]() if name in schemas else None


def _default(name: str, profile: Profile) -> float | None:
    defaults = {
        "temperature": profile.default_temperature,
        "top_p": profile.default_top_p,
        "max_tokens": profile.default_max_tokens,
    }
    return defaults.get(name)


def _sentences(spec: FieldSpec, profile: Profile) -> list[str]:
    sentences = []
    if spec.note:
        sentences.append(f"{spec.note[0].upper()}{spec.note[1:]}.")
    use = spec.use_of(strict=profile.strict)
    if use in _USES:
        sentences.append(_USES[use])
    elif spec.is_optional:
        lenient = spec.is_droppable and not profile.strict
        sentences.append(
            "Ignored where the model does not honour it, named in `x-headrace-ignored`."
            if lenient
            else "Refused by name where the model does not honour it."
        )
    if isinstance(spec.check, NumberRange) and not profile.strict:
        least = "above" if spec.check.above_least else "from"
        bounds = f"{least} {number_text(spec.check.least)} to {number_text(spec.check.most)}"
        sentences.append(f"Range: {bounds}.")
    return sentences
