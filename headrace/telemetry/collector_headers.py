"""Headers that a collector asks for, API keys mostly: no value is in an error, a log or a repr.

Spelt as OTEL_EXPORTER_OTLP_HEADERS: name=value,name=value, as W3C Baggage without its properties:
a comma or a percent sign in a value stands percent-encoded
(https://opentelemetry.io/docs/specs/otel/protocol/exporter/, "Specifying headers").
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote

from headrace.runtime.errors import StartError

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_ENTRY_ENDS: Final = re.compile(r"[,\n]")
"""In a file, each header may have a line of its own."""
_NAME: Final = re.compile(r"[a-z0-9_.-]+")
_VALUE: Final = re.compile(r"[ -~]*")
_TAKEN: Final = frozenset({"connection", "content-type", "host", "te", "user-agent"})
"""gRPC's own: it would drop them without a word, or send what HTTP/2 forbids."""
_SHORTEST_SECRET: Final = 8
"""In characters: what is shorter is masked nowhere, since it may be part of any word."""


@dataclass(frozen=True, slots=True)
class CollectorHeaders:
    """What every call to the collector carries."""

    metadata: Metadata = ()
    """Names in lower case."""

    def __repr__(self) -> str:
        """Without the values."""
        return f"CollectorHeaders({', '.join(name for name, _ in self.metadata)})"

    @classmethod
    def parse(cls, text: str, source: str) -> "CollectorHeaders":
        """Raises StartError, which names `source` and the entry's number, and shows no value."""
        entries = [entry.strip() for entry in _ENTRY_ENDS.split(text)]
        given = [entry for entry in entries if entry]
        if not given:
            raise StartError(f"{source} names no header")
        pairs = tuple(_pair(entry, f"{source}, header {n}") for n, entry in enumerate(given, 1))
        names: set[str] = set()
        for number, (name, _) in enumerate(pairs, 1):
            if name in names:
                raise StartError(f"{source}, header {number}: {name} has been named before")
            names.add(name)
        return cls(pairs)

    def masked(self, text: str) -> str:
        """What a collector wrote, without the values that it may have written back."""
        for _, value in self.metadata:
            for word in (value, *value.split()):
                if len(word) >= _SHORTEST_SECRET:
                    text = text.replace(word, "…")
        return text


def _pair(entry: str, place: str) -> tuple[str, str]:
    """A header's name and its decoded value. A name is shown only where it is one."""
    name, equals, value = entry.partition("=")
    name, value = name.strip().lower(), unquote(value.strip()).strip()
    if not equals or _NAME.fullmatch(name) is None:
        raise StartError(f"{place} is not like name=value, the name of letters, digits, -, _ and .")
    if name in _TAKEN or name.startswith("grpc-") or name.endswith("-bin"):
        raise StartError(f"{place}: {name} is gRPC's own and cannot be set")
    if _VALUE.fullmatch(value) is None:
        raise StartError(f"{place}: the value of {name} is not of visible ASCII characters")
    return name, value
