"""What an answer in an output format says, piece by piece, as consumers take it.

A call is begun, gets its arguments in pieces, and ends; calls are numbered from 0 and do not
overlap. A call that broke off ends incomplete, and the rest of its text is content.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias


class TokenLogprob(NamedTuple):
    """A token of an output's text: its bytes there, and the natural logarithm of its probability.

    `token` may be no whole character, and is what stands in front of a stop string that begins
    within it. `top` holds the alternatives' bytes and log probabilities, most probable first.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


LogprobsWriter = Callable[[str, Sequence[TokenLogprob]], None]
"""Takes a delta and the tokens that spell it: their bytes together are the delta's UTF-8."""


class ContentDelta(NamedTuple):
    """Text of the answer, not empty."""

    text: str


class ReasoningDelta(NamedTuple):
    """Text of the thoughts in front of it, not empty."""

    text: str


class CallBegin(NamedTuple):
    """A call of a function begins; `name` as the model wrote it."""

    call: int
    name: str


class CallArguments(NamedTuple):
    """The open call's arguments go on: a piece of JSON text, not empty."""

    call: int
    text: str


class CallEnd(NamedTuple):
    """The open call ends; all pieces of a complete one are one JSON object."""

    call: int
    is_complete: bool


AnswerEvent: TypeAlias = ContentDelta | ReasoningDelta | CallBegin | CallArguments | CallEnd

EventWriter: TypeAlias = Callable[[Sequence[AnswerEvent], Sequence[TokenLogprob]], None]
"""Takes events in their order, and the tokens released with them, markup included.

The tokens are empty where log probabilities were not asked for. Events are empty only in a last
call that brings tokens which no event followed.
"""
