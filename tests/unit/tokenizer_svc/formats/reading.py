"""Parsers driven by hand: formats by name, pieces of text, events joined."""

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.formats.seam import EventParser

CATALOG = FormatCatalog()
FORMATS = ("hermes", "qwen3_coder", "llama3_json", "mistral", "qwen3", "deepseek_r1")
COMBINED = ("qwen3+hermes", "qwen3+qwen3_coder", "deepseek_r1+mistral", "deepseek_r1+llama3_json")
TOOL_TYPES = {
    "f": {
        "n": frozenset({"integer"}),
        "o": frozenset({"object"}),
        "b": frozenset({"boolean"}),
        "x": frozenset({"integer", "string"}),
    }
}
TEXTS = (EventKind.CONTENT, EventKind.REASONING, EventKind.ARGUMENTS)


def transcripts() -> list[tuple[str, dict[str, Any]]]:
    """All transcripts, by format and name."""
    found = []
    for file in sorted(Path(__file__).with_name("transcripts").glob("*.toml")):
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["transcript"]:
            entry.setdefault("format", file.stem)
            found.append((f"{entry['format']}: {entry['name']}", entry))
    return found


def parser(name: str, *, begins_inside: bool = False) -> EventParser:
    """A new parser of the format."""
    found = CATALOG.find(name)
    assert found is not None
    return found.parser(TOOL_TYPES, begins_in_reasoning=begins_inside)


def events_of(reader: EventParser, pieces: Iterable[str]) -> list[OutputEvent]:
    """All events of an output that comes in these pieces."""
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events + reader.finish()


def joined(events: Sequence[OutputEvent]) -> list[tuple[str, str, int]]:
    """Kind, text and call of each event, pieces of one text joined."""
    found: list[tuple[str, str, int]] = []
    for event in events:
        key = event.kind.value, event.call
        if found and event.kind in TEXTS and (found[-1][0], found[-1][2]) == key:
            found[-1] = key[0], found[-1][1] + event.text, event.call
        else:
            found.append((key[0], event.text, event.call))
    return found


def content(events: Iterable[OutputEvent]) -> str:
    """All content."""
    return "".join(event.text for event in events if event.kind is EventKind.CONTENT)
