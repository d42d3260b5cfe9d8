"""SSE transcripts as they are compared: what changes from run to run is made the same.

Ids, times and the fingerprint become placeholders. Of a real model's stream two more things are
timing and nothing else: how many tokens a text event holds, and how the outputs of one request
interleave. `settled` joins neighbouring text events of an output and sorts the events by output.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_CHANGING = (
    (re.compile(rb'"id":"chatcmpl-[0-9a-f]{32}"'), b'"id":"chatcmpl-ID"'),
    (re.compile(rb'"created":\d{10}'), b'"created":TIME'),
    (re.compile(rb'"system_fingerprint":"[^"]+"'), b'"system_fingerprint":"FINGERPRINT"'),
)
_LOGPROB = re.compile(rb'"logprob":(-?[0-9.e+-]+)')
_TEXT = re.compile(
    rb'^(?P<head>data: .*"choices":\[\{"index":\d+,"delta":\{"content":)(?P<text>"(?:[^"\\]|\\.)*")'
    rb'(?P<between>\},"logprobs":)(?P<logprobs>null|\{"content":\[(?P<entries>.*)\],"refusal":null\})'
    rb'(?P<tail>,"finish_reason":null\}\].*)$'
)
_INDEX = re.compile(rb'"choices":\[\{"index":(\d+)')


def masked(stream: bytes) -> bytes:
    """The stream with placeholders; that each is there, and always the same, is checked."""
    for pattern, placeholder in _CHANGING:
        values = {match[0] for match in pattern.finditer(stream)}
        assert len(values) == 1, (pattern.pattern, values)
        stream = pattern.sub(placeholder, stream)
    return stream


def settled(stream: bytes) -> bytes:
    """The masked stream, text events of an output joined, outputs one after another.

    Log probabilities are rounded to hundredths: processors differ in the digits behind.
    """
    events = stream.removesuffix(b"\n\n").split(b"\n\n")
    ordered = sorted(events, key=_place)
    joined = b"".join(event + b"\n\n" for event in _joined(ordered))
    return _LOGPROB.sub(_rounded, joined)


def _place(event: bytes) -> int:
    """Where an event belongs: at its output's, and behind all outputs without one."""
    found = _INDEX.search(event)
    return 1000 if found is None else int(found[1])


def _joined(events: list[bytes]) -> Iterator[bytes]:
    last: re.Match[bytes] | None = None
    for event in events:
        match = _TEXT.match(event)
        if match and last and _frame(match) == _frame(last):
            last = _TEXT.match(_both(last, match))
            assert last is not None
            continue
        if last:
            yield last[0]
        last = match
        if not match:
            yield event
    if last:
        yield last[0]


def _frame(event: re.Match[bytes]) -> tuple[bytes, bytes, bytes, bool]:
    return event["head"], event["between"], event["tail"], event["logprobs"] == b"null"


def _both(one: re.Match[bytes], other: re.Match[bytes]) -> bytes:
    """Two text events as one; their texts are joined as JSON spells them."""
    logprobs = one["logprobs"]
    if logprobs != b"null":
        entries = b",".join((one["entries"], other["entries"]))
        logprobs = b'{"content":[' + entries + b'],"refusal":null}'
    text = one["text"][:-1] + other["text"][1:]
    return b"".join((one["head"], text, one["between"], logprobs, one["tail"]))


def _rounded(match: re.Match[bytes]) -> bytes:
    return b'"logprob":%.2f' % float(match[1])


def num_text_events(stream: bytes) -> int:
    """How many events carry text."""
    return sum(_TEXT.match(event) is not None for event in stream.split(b"\n\n"))


def documents(stream: bytes) -> list[Any]:
    """The events of an unmasked stream but [DONE]."""
    events = stream.removesuffix(b"data: [DONE]\n\n").removesuffix(b"\n\n").split(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in events]
