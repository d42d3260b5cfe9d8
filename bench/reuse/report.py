"""The figures of all rounds: per turn and in sum, as a table and as a JSON file."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.reuse.load import Turn


@dataclass(frozen=True)
class Round:
    """The same load twice, in fresh processes: with reuse on, then off."""

    on: list[Turn]
    off: list[Turn]


@dataclass(frozen=True)
class Row:
    """Sums of tokens with reuse on, and the median milliseconds until the first text."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    possible_tokens: int
    hit_rate: float
    first_text_on_ms: float
    first_text_off_ms: float
    ratio: float


def hit_rate(turns: Sequence[Turn]) -> float:
    """Cached tokens in those that were possible; 1 where nothing was.

    A block that a request which still runs has just computed may be found as well; what is cached
    beyond the possible of its own request does not make up for a miss elsewhere.
    """
    possible = sum(turn.possible_tokens for turn in turns)
    hits = sum(min(turn.cached_tokens, turn.possible_tokens) for turn in turns)
    return hits / possible if possible else 1.0


def row(rounds: Sequence[Round], turn: int | None = None) -> Row:
    """Over all rounds, of one turn or of all; the ratio is the median of the rounds' ratios."""
    halves = [(_of(each.on, turn), _of(each.off, turn)) for each in rounds]
    on = [one for half, _ in halves for one in half]
    times = [(_median_ms(half), _median_ms(other)) for half, other in halves]
    return Row(
        requests=len(on),
        prompt_tokens=sum(one.prompt_tokens for one in on),
        cached_tokens=sum(one.cached_tokens for one in on),
        possible_tokens=sum(one.possible_tokens for one in on),
        hit_rate=hit_rate(on),
        first_text_on_ms=statistics.median(with_reuse for with_reuse, _ in times),
        first_text_off_ms=statistics.median(without for _, without in times),
        ratio=statistics.median(with_reuse / without for with_reuse, without in times),
    )


def _of(turns: Sequence[Turn], turn: int | None) -> list[Turn]:
    return [one for one in turns if turn is None or one.turn == turn]


def _median_ms(turns: Sequence[Turn]) -> float:
    return statistics.median(one.first_text_ms for one in turns)


def rows(rounds: Sequence[Round]) -> dict[str, Row]:
    """A row per turn, and one of all."""
    turns = sorted({one.turn for one in rounds[0].on})
    return {str(turn + 1): row(rounds, turn) for turn in turns} | {"all": row(rounds)}


def table(rounds: Sequence[Round]) -> str:
    """A line per turn, and one of all; tokens are sums over conversations and rounds."""
    heads = "turn | requests | prompt tokens | cached | possible | hit rate | first text, reuse on"
    lines = [f"| {heads} | off | on / off |", "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {name} | {one.requests} | {one.prompt_tokens} | {one.cached_tokens} "
        f"| {one.possible_tokens} | {one.hit_rate:.1%} | {one.first_text_on_ms:.0f} ms "
        f"| {one.first_text_off_ms:.0f} ms | {one.ratio:.1%} |"
        for name, one in rows(rounds).items()
    ]
    return "\n".join(lines)


def misses(rounds: Sequence[Round]) -> str:
    """How many requests got less than was possible, and how answers were spelled."""
    on = [one for each in rounds for one in each.on]
    short = sum(one.cached_tokens < one.possible_tokens for one in on)
    unlike = sum(not one.is_spelled_alike for one in on)
    return (
        f"{short} of {len(on)} requests found less than was possible; {unlike} answers were "
        "generated in other tokens than the tokenizer makes of their text"
    )


def write_json(
    rounds: Sequence[Round], machine: dict[str, object], plan: dict[str, object], path: Path
) -> None:
    """Everything measured, and the rows."""
    document = {
        "machine": machine,
        "plan": plan,
        "rows": {name: asdict(one) for name, one in rows(rounds).items()},
        "rounds": [asdict(each) for each in rounds],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
