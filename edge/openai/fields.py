"""`FIELDS`, the one table of what the body of a chat completion request may hold.

A field is carried into `ChatRequest`, or taken as a hint that changes nothing and is named in
`x-headrace-ignored`, or refused. Null is absent, and a neutral value, one that says what is the
case anyway, asks for nothing. FIELDS.md is generated from this table.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from edge.openai import checks, field_checks, guide_checks
from edge.openai.profile import MAX_TOKEN_COUNT
from edge.openai.thinking import template_switches

_WORKER = "GenerationRequest."


class Use(Enum):
    """What becomes of a field that is present and not neutral."""

    CARRIED = "carried"
    HINT = "hint"
    REFUSED = "refused"


def _never(_value: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One field of the body.

    `proto` is the field of the contract that it becomes, as message and path; with `is_optional` a
    model may lack it: then it is refused by name, or, where it is `is_droppable`, left out by
    lenient profiles. `lenient` is the use that lenient profiles make of it, if another. `neutral`
    describes, of a refused field, the values that are neutral. `note` is one sentence for the
    generated page.
    """

    name: str
    check: checks.Check
    use: Use = Use.CARRIED
    is_neutral: Callable[[Any], bool] = _never
    proto: str | None = None
    is_optional: bool = False
    is_droppable: bool = False
    lenient: Use | None = None
    neutral: checks.Check | None = None
    note: str = ""

    @property
    def honoured_as(self) -> str | None:
        """The worker's name of it among the fields that it may honour or not."""
        if not self.is_optional or self.proto is None:
            return None
        return self.proto.removeprefix(_WORKER)

    @property
    def engine(self) -> str | None:
        """The engine's field that it becomes, for what reaches a worker."""
        if self.proto is None or not self.proto.startswith(_WORKER):
            return None
        return "EngineRequest." + self.proto.removeprefix(_WORKER)

    def use_of(self, *, strict: bool) -> Use:
        """The use that a profile makes of it."""
        return self.use if strict or self.lenient is None else self.lenient


def _is(*neutral: Any) -> Callable[[Any], bool]:
    return lambda value: value in neutral


def _is_empty(value: Any) -> bool:
    """Nothing but nulls, or nothing at all."""
    return isinstance(value, list | tuple | dict) and not any(entry is not None for entry in value)


def _worker(
    name: str, check: checks.Check, is_neutral: Callable[[Any], bool], note: str
) -> FieldSpec:
    return FieldSpec(
        name=name,
        check=check,
        is_neutral=is_neutral,
        proto=_WORKER + name,
        is_optional=True,
        note=note,
    )


def _sampling(
    name: str, check: checks.Check, is_neutral: Callable[[Any], bool], note: str
) -> FieldSpec:
    proto = f"{_WORKER}sampling.{name}"
    return replace(_worker(name, check, is_neutral, note), proto=proto, is_droppable=True)


def _rendered(
    name: str,
    check: checks.Check,
    note: str,
    *,
    proto: str | None = None,
    is_neutral: Callable[[Any], bool] = _never,
) -> FieldSpec:
    """A field that the prompt, or the guide that comes with it, is made of."""
    return FieldSpec(
        name=name,
        check=check,
        is_neutral=is_neutral,
        proto=f"RenderRequest.{proto or name}",
        note=note,
    )


def _guided(name: str, check: checks.Check, note: str) -> FieldSpec:
    return _rendered(
        name, check, f"not OpenAI's; {note}; one guide a request", proto="content_guide"
    )


def _hint(
    name: str, check: checks.Check, note: str, is_neutral: Callable[[Any], bool] = _never
) -> FieldSpec:
    return FieldSpec(name=name, check=check, use=Use.HINT, is_neutral=is_neutral, note=note)


def _refused(
    name: str,
    check: checks.Check,
    note: str = "",
    *,
    is_neutral: Callable[[Any], bool] = _never,
    neutral: checks.Check | None = None,
    lenient: Use | None = None,
) -> FieldSpec:
    return FieldSpec(
        name=name,
        check=check,
        use=Use.REFUSED,
        is_neutral=is_neutral,
        neutral=neutral,
        lenient=lenient,
        note=note,
    )


_FLAG = checks.boolean
_TOKEN_COUNT = checks.integer(1, MAX_TOKEN_COUNT)
_PENALTY = checks.decimal(-2, 2)
_NAME = checks.string()
_ENTRIES = checks.array(checks.anything, 1024, of="objects")
_FALSE, _ZERO, _ONE = _is(False), _is(0), _is(1)
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_CONVERSATION = (
    FieldSpec(
        name="model",
        check=checks.string(least=1),
        proto="RenderRequest.model",
        note="a served model, or an alias of one",
    ),
    FieldSpec(name="messages", check=checks.anything, proto="RenderRequest.messages"),
    FieldSpec(name="stream", check=_FLAG, note="the edge's own"),
    FieldSpec(
        name="stream_options",
        check=field_checks.stream_options,
        note="`include_usage`; without `stream` refused, by lenient profiles ignored",
    ),
)

_LENGTH = (
    FieldSpec(name="max_tokens", check=_TOKEN_COUNT, proto="GenerationRequest.max_tokens"),
    FieldSpec(
        name="max_completion_tokens",
        check=_TOKEN_COUNT,
        proto="GenerationRequest.max_tokens",
        note="both limits at once are refused; lenient profiles take the smaller",
    ),
    _worker("min_tokens", checks.integer(0, MAX_TOKEN_COUNT), _ZERO, "at most the token limit"),
    FieldSpec(
        name="n",
        check=checks.integer(1, 128),
        is_neutral=_ONE,
        proto="GenerationRequest.n",
        note="bounded by the operator's limits and the worker",
    ),
    FieldSpec(
        name="stop",
        check=field_checks.stop,
        is_neutral=_is_empty,
        proto="DetokenizeOpen.stop_strings",
    ),
    _worker(
        "stop_token_ids",
        checks.array(checks.integer(0, MAX_TOKEN_COUNT), 64, of="integers"),
        _is_empty,
        "not OpenAI's",
    ),
    _worker("ignore_eos", _FLAG, _FALSE, "not OpenAI's"),
)

_SAMPLING = (
    _sampling("temperature", checks.decimal(0, 2), _ONE, "0 = greedy"),
    _sampling("top_p", checks.decimal(0, 1), _ONE, "0 = greedy"),
    _sampling("top_k", checks.integer(-1, MAX_TOKEN_COUNT), _is(0, -1), "not OpenAI's"),
    _sampling("min_p", checks.decimal(0, 1), _ZERO, "not OpenAI's"),
    _sampling("seed", checks.integer(-(2**63), 2**63 - 1), _never, "see `system_fingerprint`"),
    _sampling("presence_penalty", _PENALTY, _ZERO, ""),
    _sampling("frequency_penalty", _PENALTY, _ZERO, ""),
    _sampling("repetition_penalty", checks.decimal(0, 2, above_least=True), _ONE, "not OpenAI's"),
    _sampling("logit_bias", field_checks.logit_bias, _is(()), "keys are token ids"),
    FieldSpec(
        name="logprobs",
        check=_FLAG,
        is_neutral=_FALSE,
        proto="GenerationRequest.logprobs",
        is_optional=True,
        is_droppable=True,
    ),
    FieldSpec(
        name="top_logprobs",
        check=checks.integer(0, 20),
        is_neutral=_ZERO,
        proto="GenerationRequest.logprobs",
        note="only with `logprobs`",
    ),
)

_LABELS = (
    FieldSpec(name="user", check=_NAME, note="logged"),
    FieldSpec(name="safety_identifier", check=checks.string(128), note="logged"),
    FieldSpec(
        name="metadata",
        check=checks.string_map(16, 64, 512),
        is_neutral=_is_empty,
        note="the number of its keys is logged",
    ),
    FieldSpec(
        name="store",
        check=_FLAG,
        is_neutral=_FALSE,
        note="logged; nothing is stored, which `x-headrace-ignored` says",
    ),
    _hint(
        "service_tier",
        checks.one_of(*_TIERS),
        "answers name the tier that served them, `default`",
        _is("auto", "default"),
    ),
    _hint("prompt_cache_key", _NAME, "prefixes are shared without it"),
    _hint("prompt_cache_retention", checks.one_of("in_memory", "24h"), "how long is the worker's"),
    _hint("prompt_cache_options", checks.json_object, "every prefix is cached"),
    _hint("prediction", field_checks.prediction, "the answer is the same without it"),
)

_TOOLS = (
    _rendered(
        "tools",
        _ENTRIES,
        "functions; checked where they may be called, or by strict "
        "profiles; custom tools are refused by name",
        is_neutral=_is_empty,
    ),
    _rendered("tool_choice", checks.anything, "none, auto, required, a function, `allowed_tools`"),
    _rendered(
        "parallel_tool_calls",
        _FLAG,
        "false = at most one call; without tools refused, by lenient profiles ignored",
        proto="tool_choice.single_call",
    ),
    _rendered(
        "functions",
        _ENTRIES,
        "the older form of tools, of which at most one is called; beside tools that may be called "
        "refused, by lenient profiles ignored",
        proto="tools",
        is_neutral=_is_empty,
    ),
    _rendered("function_call", checks.anything, "none, auto, a function", proto="tool_choice"),
)

_GUIDES = (
    _rendered(
        "response_format",
        guide_checks.response_format,
        "enforced, strict or not; strict schemas are held to OpenAI's rules by strict profiles",
        proto="content_guide",
        is_neutral=lambda value: value["type"] == "text",
    ),
    _guided("guided_json", guide_checks.guided_json, "a schema, or its text"),
    _guided("guided_regex", guide_checks.guided_text, "a regular expression"),
    _guided("guided_choice", guide_checks.guided_choice, "strings, one of which is the answer"),
    _guided("guided_grammar", guide_checks.guided_text, "in Lark's syntax"),
    _guided(
        "structured_outputs",
        guide_checks.structured_outputs,
        "one of `json`, `regex`, `choice`, `grammar`, `json_object`",
    ),
)

_OTHERS = (
    _refused(
        "modalities",
        field_checks.modalities,
        "text; audio is refused by name",
        is_neutral=_is(("text",), ()),
        neutral=checks.array(checks.one_of("text"), 1, of="strings"),
    ),
    _refused("audio", checks.json_object, lenient=Use.HINT),
    replace(
        _refused(
            "reasoning_effort",
            checks.one_of(*_EFFORTS),
            "none = without thinking; others are refused by name",
            is_neutral=_is("none"),
            neutral=checks.one_of("none"),
            lenient=Use.HINT,
        ),
        proto="RenderRequest.thinking",
    ),
    _rendered(
        "chat_template_kwargs",
        template_switches,
        "not OpenAI's; `enable_thinking` or `thinking`; others are refused by name, by lenient "
        "profiles ignored",
        proto="thinking",
        is_neutral=_is_empty,
    ),
    _refused(
        "verbosity",
        checks.one_of("low", "medium", "high"),
        "medium; others are refused by name",
        is_neutral=_is("medium"),
        neutral=checks.one_of("medium"),
        lenient=Use.HINT,
    ),
    _refused("moderation", checks.json_object),
    _refused("web_search_options", checks.json_object),
)

FIELDS: tuple[FieldSpec, ...] = (
    *_CONVERSATION,
    *_LENGTH,
    *_SAMPLING,
    *_LABELS,
    *_TOOLS,
    *_GUIDES,
    *_OTHERS,
)
"""Every field of the body that has a meaning."""
