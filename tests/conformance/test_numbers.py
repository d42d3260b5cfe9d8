"""Values at the ends of their ranges, with the default model: what they make of an answer."""

import json
from typing import Any

import pytest

from tests.support.chat_client import chat_body, http_request
from tests.support.raw_exchange import exchange
from tests.support.served_seeds import ServedSeeds

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(240)]

_KEY = "Authorization: Bearer <token>"


def texts(served: ServedSeeds, **fields: Any) -> list[str]:
    """The texts of an answer, in the order of its outputs."""
    body = chat_body("Name a colour.", max_tokens=10, **fields)
    status, answer = exchange(served.port, http_request(body, headers=(_KEY,)))
    assert status == 200, answer
    return [choice["message"]["content"] for choice in json.loads(answer)["choices"]]


@pytest.mark.wire("E18")
@pytest.mark.parametrize("fields", [{"top_p": 0}, {"top_k": 1}, {"temperature": 0, "top_p": 0}])
def test_greedy_by_another_name(served: ServedSeeds, fields: dict[str, Any]) -> None:
    """`top_p` 0 and `top_k` 1 are greedy, as temperature 0 is, and no error."""
    assert texts(served, seed=3, **fields) == texts(served, temperature=0)


@pytest.mark.wire("E18")
def test_several_greedy_outputs(served: ServedSeeds) -> None:
    """Temperature 0 with n above 1 is legal: the outputs are alike."""
    one = texts(served, temperature=0)

    assert texts(served, temperature=0, n=3) == one * 3


@pytest.mark.wire("A4.seed", "A5.determinism", "E14", "E18")
def test_seed(served: ServedSeeds) -> None:
    """A seed gives the same texts again, each output another; another seed gives others."""
    hot = {"temperature": 1.5, "n": 2}
    first = texts(served, seed=11, **hot)

    assert texts(served, seed=11, **hot) == first
    assert first[0] != first[1]
    assert texts(served, seed=12, **hot) != first


@pytest.mark.wire("E18")
def test_biases(served: ServedSeeds) -> None:
    """A bias of 100 leaves nothing else, -100 forbids; keys are token ids as strings."""
    logprobs = {"logprobs": True, "temperature": 0}
    (wanted,) = texts(served, logit_bias={"28": 100}, **logprobs)
    (plain,) = texts(served, **logprobs)

    assert len(set(wanted)) == 1
    assert wanted != plain
