"""The trace that a request belongs to: W3C's `traceparent` and `tracestate`, checked.

What is malformed is ignored as the recommendation demands, never refused: tracing is not what the
client came for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_MEMBER = re.compile(r"(?P<key>[a-z0-9][a-z0-9_*/@-]{0,255})=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MAX_MEMBERS = 32
_MAX_STATE_CHARACTERS = 512
_MAX_READ_CHARACTERS = _MAX_MEMBERS * 514
"""Of all members, as long as they may be; a longer list is invalid, and not looked at."""


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Both headers in the form in which they are handed on; empty for none."""

    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 hexadecimal digits; empty for none."""
        return self.traceparent[3:35]

    @property
    def is_sampled(self) -> bool:
        """Whether the caller records the trace."""
        return bool(self.traceparent) and bool(int(self.traceparent[53:], 16) & 1)


NO_TRACE = TraceContext()
"""No trace."""


def read_trace_context(parents: Sequence[str], states: Sequence[str]) -> TraceContext:
    """The context that all `traceparent` and all `tracestate` headers of a request name.

    None where there is not exactly one valid `traceparent`; without state where that is invalid.
    """
    traceparent = _checked_parent(parents[0]) if len(parents) == 1 else ""
    return TraceContext(traceparent, _checked_state(states)) if traceparent else TraceContext()


def _checked_parent(value: str) -> str:
    """The header as this version writes it; empty for an invalid one.

    Of a later version what this one knows is kept, as the recommendation says.
    """
    found = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if found is None or found["version"] == "ff":
        return ""
    if found["version"] == "00" and found["rest"] is not None:
        return ""
    if not (found["trace"].strip("0") and found["parent"].strip("0")):
        return ""
    return f"00-{found['trace']}-{found['parent']}-{found['flags']}"


def _checked_state(values: Sequence[str]) -> str:
    """The list's members joined, as many from its beginning as fit; empty for an invalid list."""
    if not any(values) or sum(map(len, values)) > _MAX_READ_CHARACTERS:
        return ""
    members = [part.strip(" \t") for value in values for part in value.split(",")]
    members = [member for member in members if member]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in found if match is not None}
    # A member that is malformed has no key, and one that comes twice no key of its own.
    if len(keys) != len(members) or len(members) > _MAX_MEMBERS:
        return ""
    return ",".join(_fitting(members))


def _fitting(members: Sequence[str]) -> Iterator[str]:
    length = -1
    for member in members:
        length += 1 + len(member)
        if length > _MAX_STATE_CHARACTERS:
            return
        yield member
