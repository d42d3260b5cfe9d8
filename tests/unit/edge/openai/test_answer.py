"""Answers and chunks in OpenAI's form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai.answer import (
    AnswerIdentity,
    ChunkEncoder,
    FinishedOutput,
    Usage,
    build_completion,
    encode_text,
)
from edge.openai.profile import Profile

IDENTITY = AnswerIdentity("chatcmpl-1", "m\u2028/\x85\x00", 17, "fp")
USAGE = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["\u2028\u2029\x85", "a\x85", "\r\n\n", "\x0b\x0c\x1c\x1d\x1e\x1f", "\x00", '"\\']
)


def event(data: bytes) -> dict:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert len(data.decode().splitlines()) == 2
    return json.loads(data[6:])


@given(TEXTS)
def test_text_event(text: str) -> None:
    """Any text comes back whole, and no line splitter finds more than one line in its event."""
    head, tail = ChunkEncoder(IDENTITY, Profile(), include_usage=False).text_affixes(3)

    chunk = event(head + encode_text(text) + tail)

    assert {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 17,
        "model": IDENTITY.model,
        "service_tier": "default",
        "system_fingerprint": "fp",
        "choices": [
            {"index": 3, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        ],
    } == chunk


def test_first_and_finish_events() -> None:
    """The first event has role, empty content and refusal; the last an empty delta."""
    encoder = ChunkEncoder(IDENTITY, Profile(), include_usage=False)

    first, last = event(encoder.role(1)), event(encoder.finish(1, "length"))

    assert [
        {
            "index": 1,
            "delta": {"role": "assistant", "content": "", "refusal": None},
            "logprobs": None,
            "finish_reason": None,
        }
    ] == first["choices"]
    assert [{"index": 1, "delta": {}, "logprobs": None, "finish_reason": "length"}] == last[
        "choices"
    ]
    assert "usage" not in first


def test_usage_events() -> None:
    """With usage every event has the key: null but for the last, which has no choices."""
    encoder = ChunkEncoder(IDENTITY, Profile(), include_usage=True)
    head, tail = encoder.text_affixes(0)

    assert event(encoder.role(0))["usage"] is None
    assert event(head + b'"x"' + tail)["usage"] is None
    assert event(encoder.finish(0, "stop"))["usage"] is None
    last = event(encoder.usage(USAGE))
    assert [] == last["choices"]
    assert {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
        "cached_tokens": 4,
    } == {key: value for key, value in last["usage"].items() if isinstance(value, int)}
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "audio_tokens": 0}


@pytest.mark.parametrize(("fingerprint", "shown"), [("fp", "fp"), ("", None)])
def test_completion(fingerprint: str, shown: str | None) -> None:
    """A whole answer has its choices in order and every nullable key."""
    identity = AnswerIdentity("chatcmpl-2", "m", 5, fingerprint)
    outputs = [FinishedOutput("a", "stop"), FinishedOutput("", "length")]

    actual = json.loads(build_completion(identity, outputs, USAGE, Profile()))

    assert actual.pop("usage")["total_tokens"] == 13
    assert {
        "id": "chatcmpl-2",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": shown,
        "choices": [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": output.text,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": output.finish_reason,
            }
            for index, output in enumerate(outputs)
        ],
    } == actual
