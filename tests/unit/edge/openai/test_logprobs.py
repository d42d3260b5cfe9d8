"""Log probabilities in OpenAI's form: valid JSON, bytes as they are, text as far as they say it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai.logprobs import LEAST_LOGPROB, encode_entries, logprobs_object
from headrace.client.answer_events import TokenLogprob

numbers = st.floats(width=32)
said = st.tuples(st.binary(max_size=6), numbers)
entries = st.builds(
    TokenLogprob, st.binary(max_size=6), numbers, st.lists(said, max_size=3).map(tuple)
)


def test_an_entry_has_openais_fields() -> None:
    """Token, log probability, bytes, and the same of each alternative."""
    entry = TokenLogprob(b"a\xc3", -0.5, ((b"a\xc3", -0.5), (b"", -2.0)))

    assert json.loads(logprobs_object([encode_entries([entry])])) == {
        "content": [
            {
                "token": "a\ufffd",
                "logprob": -0.5,
                "bytes": [97, 195],
                "top_logprobs": [
                    {"token": "a\ufffd", "logprob": -0.5, "bytes": [97, 195]},
                    {"token": "", "logprob": -2.0, "bytes": []},
                ],
            }
        ],
        "refusal": None,
    }


def test_nothing_said_is_an_empty_list() -> None:
    """An answer without text has logprobs all the same."""
    assert json.loads(logprobs_object([])) == {"content": [], "refusal": None}


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan, -1e30])
def test_what_json_cannot_say_is_openais_least(value: float) -> None:
    """No infinity and no NaN leaves the edge; a client finds a number."""
    [entry] = json.loads(b"[%b]" % encode_entries([TokenLogprob(b"a", value, ((b"b", value),))]))

    assert entry["logprob"] == LEAST_LOGPROB == -9999.0
    assert entry["top_logprobs"][0]["logprob"] == LEAST_LOGPROB


@given(st.lists(st.lists(entries, min_size=1, max_size=3), max_size=3))
def test_any_entries_are_one_list(groups: list[list[TokenLogprob]]) -> None:
    """However they were grouped and whatever they hold, all come back in order, on one line."""
    encoded = logprobs_object([encode_entries(group) for group in groups])
    found = json.loads(encoded)["content"]

    flat = [entry for group in groups for entry in group]
    assert [bytes(entry["bytes"]) for entry in found] == [entry.token for entry in flat]
    assert all(isinstance(entry["logprob"], float) for entry in found)
    assert encoded.decode().splitlines() == [encoded.decode()]


def test_line_separators_are_escaped() -> None:
    """A client that splits lines at U+2028 or U+0085 still gets whole events."""
    encoded = encode_entries([TokenLogprob("\u2028\x85".encode(), -1.0, ())])

    assert b"\\u2028\\u0085" in encoded
    assert "\u2028\x85" in json.loads(encoded).values()
