"""Answers in OpenAI's form: the whole completion, and the chunks of a streamed one.

A text chunk is a prebuilt head and tail around one encoded string, since it is built once a token.
Chunks never hold a line separator other than the blank line that ends an event.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from edge.openai.answer_shape import AnswerShape
from edge.openai.finish import FinishReason
from edge.openai.profile import Profile
from headrace.client.call_ids import mint_call_id

DONE_EVENT = b"data: [DONE]\n\n"
# No more than these of the separators that a client may split lines at survive JSON encoding.
_SEPARATORS = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request; completion tokens of all outputs together.

    `reasoning_tokens` are those of them that were thoughts, with their markup.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class AnswerIdentity:
    """What all chunks of an answer have in common; `created` in Unix seconds."""

    completion_id: str
    model: str
    created: int
    system_fingerprint: str


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """A call as far as it came; `arguments` is JSON where it is complete."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class FinishedOutput:
    """One output of a whole answer; `logprobs` is the choice's, encoded, or None."""

    text: str
    finish_reason: FinishReason
    logprobs: bytes | None = None
    reasoning: str = ""
    calls: tuple[FinishedCall, ...] = ()


def encode_text(text: str) -> bytes:
    """A JSON string; line separators beyond ASCII are escaped."""
    encoded = orjson.dumps(text)
    if text.isascii() or not ("\x85" in text or "\u2028" in text or "\u2029" in text):
        return encoded
    return escape_separators(encoded)


def escape_separators(encoded: bytes) -> bytes:
    """JSON without the line separators beyond ASCII that it may hold in its strings."""
    for separator, escape in _SEPARATORS:
        encoded = encoded.replace(separator, escape)
    return encoded


def usage_json(usage: Usage, profile: Profile) -> dict[str, object]:
    """The usage object: OpenAI's, and what the profile's clients read beside it."""
    prompt, cached, completion = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
    details = {
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    }
    document: dict[str, object] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": details,
    }
    extras = profile.usage_extras
    if "cached_tokens" in extras:
        document["cached_tokens"] = cached
    if "prompt_cache_tokens" in extras:
        document["prompt_cache_hit_tokens"] = cached
        document["prompt_cache_miss_tokens"] = prompt - cached
    if "text_tokens" in extras:
        details["text_tokens"] = completion - usage.reasoning_tokens
    if "criteria" in extras:
        document["criteria"] = {}
    return document


def build_completion(
    identity: AnswerIdentity,
    outputs: Sequence[FinishedOutput],
    usage: Usage,
    profile: Profile,
    shape: AnswerShape | None = None,
) -> bytes:
    """The whole answer; choices in the order of their indexes."""
    shape = shape or AnswerShape()
    choices = [_whole(index, output, profile, shape) for index, output in enumerate(outputs)]
    return orjson.dumps(
        {
            "id": identity.completion_id,
            "object": "chat.completion",
            "created": identity.created,
            "model": identity.model,
            "choices": choices,
            "usage": usage_json(usage, profile),
            "service_tier": "default",
            "system_fingerprint": identity.system_fingerprint or None,
        }
    )


def _whole(
    index: int, output: FinishedOutput, profile: Profile, shape: AnswerShape
) -> dict[str, object]:
    message: dict[str, object] = {
        "role": "assistant",
        # A call says nothing, which is not the same as saying an empty text.
        "content": output.text or (None if output.calls else ""),
        **_calls_json(output.calls, shape),
        "refusal": None,
        "annotations": [],
    }
    message.update(dict.fromkeys(profile.message_extras))
    if output.reasoning:
        message["reasoning_content"] = output.reasoning
    choice: dict[str, object] = {
        "index": index,
        "message": message,
        "logprobs": None if output.logprobs is None else orjson.Fragment(output.logprobs),
        "finish_reason": output.finish_reason,
    }
    choice.update((name, {}) for name in profile.choice_extras)
    return choice


def _calls_json(calls: Sequence[FinishedCall], shape: AnswerShape) -> dict[str, object]:
    """The message's key with its calls, or none."""
    functions = [{"name": call.name, "arguments": call.arguments} for call in calls]
    if not functions:
        return {}
    if shape.calls_as == "functions":
        return {"function_call": functions[0]}
    return {
        "tool_calls": [
            {"id": mint_call_id(), "type": "function", "function": function}
            for function in functions
        ]
    }


class ChunkEncoder:
    """Builds the events of one streamed answer."""

    def __init__(
        self,
        identity: AnswerIdentity,
        profile: Profile,
        *,
        include_usage: bool,
        shape: AnswerShape | None = None,
    ) -> None:
        self.shape = shape or AnswerShape()
        self._profile = profile
        common = orjson.dumps(
            {
                "id": identity.completion_id,
                "object": "chat.completion.chunk",
                "created": identity.created,
                "model": identity.model,
                "service_tier": "default",
                "system_fingerprint": identity.system_fingerprint or None,
            }
        )
        self.include_usage = include_usage
        self._head = b"data: " + escape_separators(common).removesuffix(b"}") + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def role(self, index: int) -> bytes:
        """The first event of an output."""
        delta = b'{"role":"assistant","content":"","refusal":null}'
        return self._head + _choice(index, delta, None) + self._tail

    def text_affixes(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after the encoded text in an output's text events."""
        head, tail = _choice(index, b'{"content":\x00}', None).split(b"\x00")
        return self._head + head, tail + self._tail

    def logprobs_affixes(self, index: int) -> tuple[bytes, bytes, bytes]:
        """The same where `logprobs` is encoded too: before the text, between, and after both."""
        head, tail = self.text_affixes(index)
        name = b'"logprobs":'
        before, after = tail.split(name + b"null")
        return head, before + name, after

    def delta_affixes(self, index: int) -> tuple[bytes, bytes, bytes]:
        """What stands before an encoded delta, between it and the encoded logprobs, and after."""
        head, tail = _choice(index, b"\x00", None).split(b"\x00")
        between, after = tail.split(b"null", 1)
        return self._head + head, between, after + self._tail

    def finish(self, index: int, reason: FinishReason) -> bytes:
        """The last event of an output."""
        return self._head + _choice(index, b"{}", reason) + self._tail

    def usage(self, usage: Usage) -> bytes:
        """The event with the counts, after all outputs."""
        return (
            self._head + b'],"usage":' + orjson.dumps(usage_json(usage, self._profile)) + b"}\n\n"
        )


def _choice(index: int, delta: bytes, reason: FinishReason | None) -> bytes:
    return b'{"index":%d,"delta":%b,"logprobs":null,"finish_reason":%b}' % (
        index,
        delta,
        orjson.dumps(reason),
    )
