"""A chat completion request as a validated type, under the rules of a profile.

Strict profiles refuse what is out of range or contradictory; lenient ones take the nearest that is
possible. Whatever is taken otherwise than it was asked for is told in `ignored` and `clamped`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.openai import checks, problems
from edge.openai.answer_shape import AnswerShape
from edge.openai.content_guides import GUIDE_FIELDS, ContentRules, require_json_word
from edge.openai.document import parse_document
from edge.openai.fields import FIELDS, FieldSpec, Use
from edge.openai.messages import MessageRules, parse_messages
from edge.openai.origins import Origins
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.openai.thinking import THINKING_FIELDS, settle_thinking
from edge.openai.tools import TOOL_FIELDS, settle_tools
from headrace.client.prompt_request import (
    ChatMessage,
    ContentGuide,
    Function,
    PromptRequest,
    ToolChoice,
)

_ANY_CHOICE, _TEXT, _NO_ORIGINS = ToolChoice(), AnswerShape(), Origins()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat completion request, every value in range; None = not asked for.

    `logprobs` is the number of alternatives that each token is told with. `origins` and
    `content_guide_param` say where in the body the backend's part stands. `assumed` names the
    fields whose value is the profile's and not the caller's. `ignored` names the fields of the body
    that have no effect, sorted; `clamped` gives those that were changed, with the values taken.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    min_tokens: int | None = None
    n: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    ignore_eos: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    logprobs: int | None = None
    user: str | None = None
    safety_identifier: str | None = None
    tools: tuple[Function, ...] = ()
    tool_choice: ToolChoice = _ANY_CHOICE
    content_guide: ContentGuide | None = None
    content_guide_param: str = "response_format"
    thinking: bool | None = None
    shape: AnswerShape = _TEXT
    origins: Origins = _NO_ORIGINS
    store: bool = False
    num_metadata: int = 0
    assumed: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    clamped: tuple[tuple[str, float], ...] = ()

    def prompt_request(self, model: str) -> PromptRequest:
        """What tokenizer_svc makes the prompt of; `model` is the served name."""
        return PromptRequest(
            model=model,
            messages=self.messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            content_guide=self.content_guide,
            thinking=self.thinking,
        )


@dataclass(frozen=True, slots=True)
class RequestRules:
    """What a request is held to: its profile, the operator's bounds, the alias's cap on tokens.

    The cap never refuses: it is what the operator gives, whatever the caller hopes for.
    """

    profile: Profile = field(default_factory=Profile)
    limits: RequestLimits = field(default_factory=RequestLimits)
    max_tokens: int | None = None


@dataclass(slots=True)
class _Draft:
    """A request in the making."""

    document: Mapping[str, Any]
    rules: RequestRules
    values: dict[str, Any] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)
    clamped: dict[str, float] = field(default_factory=dict)

    @property
    def is_strict(self) -> bool:
        return self.rules.profile.strict

    def has(self, name: str) -> bool:
        """Whether the caller gave the field, be it neutral."""
        return self.document.get(name) is not None


_KNOWN = frozenset(spec.name for spec in FIELDS)
_REQUIRED = ("model", "messages")
_OF_THE_PROMPT = frozenset((*TOOL_FIELDS, *GUIDE_FIELDS, *THINKING_FIELDS))


def parse_chat_request(body: bytes, rules: RequestRules | None = None) -> ChatRequest:
    """Validate a request body. Raises ServiceError like `read_chat_request`."""
    return read_chat_request(parse_document(body), rules or RequestRules())


def read_chat_request(document: Mapping[str, Any], rules: RequestRules) -> ChatRequest:
    """Validate a request's document.

    Raises ServiceError: invalid_request or unsupported_parameter, naming the parameter.
    """
    for name in _REQUIRED:
        if document.get(name) is None:
            raise problems.missing(name)
    draft = _Draft(document, rules, ignored=set(document.keys() - _KNOWN))
    for spec in FIELDS:
        if draft.has(spec.name):
            _take_field(spec, document[spec.name], draft)
    _settle_token_limits(draft)
    _settle_defaults(draft)
    _settle_stream_options(draft)
    _settle_logprobs(draft)
    _settle_labels(draft)
    _settle_prompt(draft)
    draft.values["messages"] = _read_messages(draft)
    return ChatRequest(
        **draft.values,
        assumed=frozenset(draft.assumed),
        ignored=tuple(sorted(draft.ignored)),
        clamped=tuple(sorted(draft.clamped.items())),
    )


def _take_field(spec: FieldSpec, given: Any, draft: _Draft) -> None:
    if draft.is_strict or not isinstance(spec.check, checks.NumberRange):
        value = spec.check(spec.name, given)
    else:
        value = spec.check.nearest(spec.name, given)
        # An integer of more than 64 bits comes as a float, and may be rounded to the bound itself.
        if value != given or (type(value) is int and type(given) is float):
            draft.clamped[spec.name] = value
    if spec.is_neutral(value):
        return
    use = spec.use_of(strict=draft.is_strict)
    if use is Use.REFUSED:
        raise problems.unsupported_parameter(spec.name)
    if use is Use.HINT:
        draft.ignored.add(spec.name)
    else:
        draft.values[spec.name] = value


def _settle_token_limits(draft: _Draft) -> None:
    """One limit from two names, the profile's default and the caps; `min_tokens` within it."""
    values, profile = draft.values, draft.rules.profile
    name, limit = _given_limit(draft)
    if profile.max_tokens is not None and limit is not None and limit > profile.max_tokens:
        if draft.is_strict:
            raise problems.above_maximum(name, "integer", profile.max_tokens, limit)
        limit = draft.clamped[name] = profile.max_tokens
    if limit is None:
        limit = profile.default_max_tokens or profile.max_tokens
    cap = draft.rules.max_tokens
    if cap is not None and (limit is None or limit > cap):
        limit = draft.clamped[name] = cap
    values["max_tokens"] = limit
    least = values.get("min_tokens")
    if limit is not None and least is not None and least > limit:
        if draft.is_strict:
            raise problems.above_maximum("min_tokens", "integer", limit, least)
        values["min_tokens"] = draft.clamped["min_tokens"] = limit


def _given_limit(draft: _Draft) -> tuple[str, int | None]:
    """The caller's limit and the name that it came by; of two the smaller."""
    older = draft.values.pop("max_tokens", None)
    newer = draft.values.pop("max_completion_tokens", None)
    if older is None or newer is None:
        name = "max_tokens" if newer is None else "max_completion_tokens"
        return name, older if newer is None else newer
    if draft.is_strict:
        raise problems.refused(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    smaller: int = min(older, newer)
    if older != newer:
        draft.clamped["max_tokens" if older > newer else "max_completion_tokens"] = smaller
    return "max_tokens" if older == smaller else "max_completion_tokens", smaller


def _settle_defaults(draft: _Draft) -> None:
    profile = draft.rules.profile
    defaults = {"temperature": profile.default_temperature, "top_p": profile.default_top_p}
    for name, default in defaults.items():
        if default is not None and default != 1 and not draft.has(name):
            draft.values[name] = default
            draft.assumed.add(name)


def _settle_stream_options(draft: _Draft) -> None:
    options = draft.values.pop("stream_options", None)
    if options is None:
        return
    if not draft.values.get("stream"):
        if draft.is_strict:
            raise problems.only_allowed_when("stream_options", "stream")
        draft.ignored.add("stream_options")
        return
    draft.values["include_usage"] = bool(options.get("include_usage"))
    draft.ignored.update(
        f"stream_options.{name}"
        for name, value in options.items()
        if name != "include_usage" and value is not None and value is not False
    )


def _settle_logprobs(draft: _Draft) -> None:
    is_asked = draft.values.pop("logprobs", False)
    alternatives = draft.values.pop("top_logprobs", None)
    if is_asked:
        draft.values["logprobs"] = alternatives or 0
    elif alternatives is not None:
        if draft.is_strict:
            raise problems.only_allowed_when("top_logprobs", "logprobs")
        draft.ignored.add("top_logprobs")


def _settle_labels(draft: _Draft) -> None:
    """Nothing is stored yet, and the answer does not pretend."""
    draft.values["num_metadata"] = len(draft.values.pop("metadata", ()))
    if "store" in draft.values:
        draft.ignored.add("store")


def _settle_prompt(draft: _Draft) -> None:
    """What may be called, what the content must be, and whether the model thinks."""
    if not _OF_THE_PROMPT & draft.document.keys():
        return
    values, rules = draft.values, draft.rules
    use = settle_tools(values, rules.limits, rules.profile)
    guided = ContentRules(rules.profile, rules.limits).settle(values)
    thinking = settle_thinking(values, draft.document, rules.profile)
    draft.ignored.update(use.ignored, thinking.ignored)
    values["thinking"] = thinking.wanted
    if use.tools:
        values.update(tools=use.tools, tool_choice=use.tool_choice, shape=use.shape)
    schema_name = ""
    if guided is not None:
        values["content_guide"], values["content_guide_param"], schema_name = guided
    if use.tools or guided is not None or thinking.wanted is not None:
        values["origins"] = Origins(use.places, schema_name, thinking.param)


def _read_messages(draft: _Draft) -> tuple[ChatMessage, ...]:
    profile = draft.rules.profile
    rules = MessageRules(profile.strict_messages, profile.system_first_only)
    messages = parse_messages(draft.values["messages"], draft.ignored, rules=rules)
    guide = draft.values.get("content_guide")
    by_format = draft.values.get("content_guide_param") == "response_format"
    if guide is not None and by_format and guide.kind == "json_object" and profile.strict_messages:
        require_json_word(messages)
    return messages
