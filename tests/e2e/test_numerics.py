"""In reproducible numerics the text depends on the request alone."""

import asyncio
from typing import Any

import pytest

from tests.support.chat_client import ask, chat_body
from tests.support.stack import Service, Stack

pytestmark = pytest.mark.model

_SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 0.8, "seed": 7},
    "nucleus": {"temperature": 0.8, "top_p": 0.95, "seed": 7},
}
_STORY = "A boat goes down the river, past the mill and the old bridge, to the harbour. " * 12


def _body(kind: str, number: int, *, salt: str) -> dict[str, Any]:
    """Eight questions that share a long prefix; `salt` makes that prefix new to the cache."""
    return chat_body(
        f"{salt} {_STORY} Question {number}: what does the boat pass?",
        max_tokens=32,
        **_SAMPLING[kind],
    )


async def _text(edge: Service, body: dict[str, Any]) -> tuple[str, int]:
    answer = await ask(edge, body)
    assert answer.is_complete, answer.body
    return answer.text(), int(answer.usage["cached_tokens"])


@pytest.mark.parametrize("kind", ["greedy", pytest.param("seeded", marks=pytest.mark.slow)])
async def test_text_with_and_without_reuse(exact: Stack, kind: str) -> None:
    """The same request gives the same text when its prefix comes from the cache."""
    body = _body(kind, 0, salt=f"reuse {kind}")
    cold_text, cold = await _text(exact.edge, body)
    warm_text, warm = await _text(exact.edge, body)

    assert warm > cold
    assert warm_text == cold_text
    assert cold_text


@pytest.mark.wire("A5.determinism")
@pytest.mark.parametrize(
    "kind",
    [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("greedy", "nucleus")), "seeded"],
)
async def test_text_alone_and_among_eight(exact: Stack, kind: str) -> None:
    """Eight requests at once give the texts that each gives alone."""
    bodies = [_body(kind, number, salt=f"batch {kind}") for number in range(8)]
    together = await asyncio.gather(*(_text(exact.edge, body) for body in bodies))
    alone = [await _text(exact.edge, body) for body in bodies]

    assert [text for text, _ in together] == [text for text, _ in alone]
    assert len({text for text, _ in alone}) > 1
