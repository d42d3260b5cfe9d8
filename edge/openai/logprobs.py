"""Log probabilities of an output's tokens in OpenAI's form.

`bytes` are a token's own, so that those of all entries are the text's; `token` is the same as text,
with U+FFFD for what is no whole character. JSON knows no infinity: what is impossible, or is no
number, has the least value that OpenAI gives.
"""

from collections.abc import Iterable, Sequence
from math import isfinite

import orjson

from edge.openai.answer import escape_separators
from headrace.client.answer_events import TokenLogprob

LEAST_LOGPROB = -9999.0


def encode_entries(entries: Iterable[TokenLogprob]) -> bytes:
    """The entries as JSON, separated by commas: no line separator beyond ASCII stands in them."""
    document = [
        {**_said(raw, logprob), "top_logprobs": [_said(*each) for each in top]}
        for raw, logprob, top in entries
    ]
    return escape_separators(orjson.dumps(document))[1:-1]


def logprobs_object(encoded: Sequence[bytes]) -> bytes:
    """A choice's `logprobs`, of entries that are encoded already."""
    return b'{"content":[%b],"refusal":null}' % b",".join(encoded)


def _said(raw: bytes, logprob: float) -> dict[str, object]:
    return {
        "token": raw.decode("utf-8", "replace"),
        "logprob": max(logprob, LEAST_LOGPROB) if isfinite(logprob) else LEAST_LOGPROB,
        "bytes": list(raw),
    }
