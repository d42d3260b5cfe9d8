"""Ids of tool calls."""

import re

from headrace.client.call_ids import mint_call_id


def test_an_id_has_openais_form() -> None:
    """An id is `call_` and 24 letters or digits."""
    assert re.fullmatch(r"call_[0-9A-Za-z]{24}", mint_call_id())


def test_ids_are_different() -> None:
    """No two of many ids are the same."""
    assert len({mint_call_id() for _ in range(1000)}) == 1000
