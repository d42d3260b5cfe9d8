"""Checks of single values, from the bytes that a client sends."""

import pytest

from edge.openai.chat_request import RequestRules, parse_chat_request
from edge.openai.profile import Profile
from headrace.rpc.errors import ServiceError

HELLO = b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "seed": %b}'
LEAST, MOST = -(2**63), 2**63 - 1


@pytest.mark.parametrize("seed", [LEAST, LEAST + 1, 0, MOST])
def test_integers_of_64_bits_are_exact(seed: int) -> None:
    """Every integer of 64 bits is taken as it stands."""
    assert parse_chat_request(HELLO % b"%d" % seed).seed == seed


@pytest.mark.parametrize("seed", [LEAST - 1, LEAST - 1000, MOST + 1, 2**64, 10**30, -(10**30)])
def test_wider_integers_are_refused(seed: int) -> None:
    """One outside is refused, also where the parser rounds it to one that is inside."""
    with pytest.raises(
        ServiceError, match=r"'seed': integer (above max|below min)imum value"
    ) as caught:
        parse_chat_request(HELLO % b"%d" % seed)
    assert caught.value.param == "seed"


def test_wider_integers_are_clamped_where_numbers_are() -> None:
    """Lenient profiles take the nearest, and say so."""
    chat = parse_chat_request(HELLO % b"%d" % (LEAST - 1), RequestRules(Profile(strict=False)))
    assert (chat.seed, chat.clamped) == (LEAST, (("seed", LEAST),))
