"""What the client counts, for whoever shows it: plain numbers, readable on any thread."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

LinkState: TypeAlias = Literal["serving", "draining", "away"]
LINK_STATES: tuple[LinkState, ...] = ("serving", "draining", "away")
Direction: TypeAlias = Literal["sent", "received"]


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """One connection to a peer; `tokens` are those of answers, in the direction they go."""

    state: LinkState
    frames_sent: int
    frames_received: int
    direction: Direction
    tokens: int


@dataclass(slots=True)
class PeerFigures:
    """All peers of one kind together."""

    frames_sent: int = 0
    frames_received: int = 0
    tokens: dict[Direction, int] = field(default_factory=dict)
    states: dict[LinkState, int] = field(default_factory=lambda: dict.fromkeys(LINK_STATES, 0))
    failed_lookups: int = 0
    """Of the names of such peers."""

    def add(self, link: LinkFigures) -> None:
        """Count one more peer."""
        self.count(link)
        self.states[link.state] += 1

    def count(self, link: LinkFigures) -> None:
        """Count what went to and from a peer that is none any more."""
        self.frames_sent += link.frames_sent
        self.frames_received += link.frames_received
        self.tokens[link.direction] = self.tokens.get(link.direction, 0) + link.tokens


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """Peers by kind; retries by the label of what had ended the first try."""

    peers: Mapping[str, PeerFigures]
    retries: Mapping[str, int]


def peer_figures(links: Iterable[LinkFigures]) -> PeerFigures:
    """The sum."""
    figures = PeerFigures()
    for link in links:
        figures.add(link)
    return figures


def link_sum(links: Sequence[LinkFigures]) -> LinkFigures:
    """What connections of one kind that are over have counted together; at least one."""
    return LinkFigures(
        state="away",
        frames_sent=sum(link.frames_sent for link in links),
        frames_received=sum(link.frames_received for link in links),
        direction=links[0].direction,
        tokens=sum(link.tokens for link in links),
    )
