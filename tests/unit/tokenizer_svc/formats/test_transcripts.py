"""What each family of models writes, by hand after its documentation, cut in every way."""

import json
from typing import Any

import pytest

from tests.unit.tokenizer_svc.formats.reading import (
    content,
    events_of,
    joined,
    parser,
    transcripts,
)
from tokenizer_svc.formats.events import EventKind


def _expected(entry: dict[str, Any]) -> list[tuple[str, str, int]]:
    call, found = -1, []
    for kind, text in entry["events"]:
        call += kind == "call_begin"
        found.append((kind, text, -1 if kind in ("content", "reasoning") else call))
    return found


CASES = [pytest.param(entry, id=name) for name, entry in transcripts()]


@pytest.mark.parametrize("entry", CASES)
def test_an_output_at_once_and_character_by_character(entry: dict[str, Any]) -> None:
    """The events are those of the transcript, and everything is settled at the end."""
    text, inside = entry["output"], entry.get("begins_inside", False)
    for pieces in ([text], list(text)):
        reader = parser(entry["format"], begins_inside=inside)

        assert joined(events_of(reader, pieces)) == _expected(entry)
        assert reader.settled == len(text)


@pytest.mark.parametrize("entry", CASES)
def test_every_cut_in_two_and_in_three(entry: dict[str, Any]) -> None:
    """Wherever the output is cut, the events are the same."""
    text, inside = entry["output"], entry.get("begins_inside", False)
    for cut in range(len(text) + 1):
        pieces = [text[:cut], text[cut : cut + 5], "", text[cut + 5 :]]
        reader = parser(entry["format"], begins_inside=inside)

        assert joined(events_of(reader, pieces)) == _expected(entry)


@pytest.mark.parametrize("entry", CASES)
def test_what_is_said_never_changes(entry: dict[str, Any]) -> None:
    """What a beginning of the output settles is said at once, and is the whole's beginning."""
    text, inside = entry["output"], entry.get("begins_inside", False)
    whole = events_of(parser(entry["format"], begins_inside=inside), list(text))
    for cut in range(len(text)):
        reader = parser(entry["format"], begins_inside=inside)
        said = [event for character in text[:cut] for event in reader.feed(character)]

        assert said == whole[: len(said)]
        assert all(event.end <= reader.settled <= cut for event in said)


@pytest.mark.parametrize("entry", CASES)
def test_arguments_of_complete_calls_are_json_objects(entry: dict[str, Any]) -> None:
    """Whatever a model writes, a call that has ended has an object for its arguments."""
    events = events_of(parser(entry["format"]), [entry["output"]])
    for end in (event for event in events if event.kind is EventKind.CALL_END):
        texts = [
            event.text
            for event in events
            if event.kind is EventKind.ARGUMENTS and event.call == end.call
        ]

        assert isinstance(json.loads("".join(texts)), dict)


def test_content_is_not_held_back() -> None:
    """Only what may still begin a marker waits."""
    reader = parser("hermes")

    assert content(reader.feed("a <tool")) == "a "
    assert content(reader.feed("box")) == "<toolbox"
    assert content(reader.feed(" <")) == " "
    assert content(reader.feed("b")) == "<b"


def test_arguments_are_streamed() -> None:
    """The name comes when it is sure, then every piece of the arguments at once."""
    reader = parser("hermes")
    said = [joined(reader.feed(piece)) for piece in ('<tool_call>{"name": "f"', ', "arguments":')]

    assert said == [[], []]
    assert joined(reader.feed(' {"a": "x')) == [
        ("call_begin", "f", 0),
        ("arguments", '{"a": "x', 0),
    ]
    assert joined(reader.feed("yz")) == [("arguments", "yz", 0)]
    assert joined(reader.feed('"}}')) == [("arguments", '"}', 0), ("call_end", "", 0)]
