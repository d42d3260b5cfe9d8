"""Small requests that ask for much, and names that try to be more than names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from edge.http_server import EdgeServer
from edge.openai.request_limits import RequestLimits
from edge.settings import EdgeSettings, ServerSettings
from tests.support.edge_server import HELLO, RawResponse, ask
from tests.support.fake_backend import MODEL, FakeBackend

ABLE = replace(
    MODEL,
    honoured_fields=MODEL.honoured_fields | {"logprobs", "sampling.logit_bias"},
    max_logprobs=20,
    max_outputs=16,
)


@asynccontextmanager
async def limited_edge(**limits: int) -> AsyncIterator[EdgeServer]:
    """An edge with these limits, whose model can do more."""
    settings = EdgeSettings(server=ServerSettings(port=0), limits=RequestLimits(**limits))
    server = EdgeServer(settings, FakeBackend(models=(ABLE,)))
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def asked(limits: dict[str, int], **fields: Any) -> RawResponse:
    async with limited_edge(**limits) as edge:
        return await ask(edge.port, {**HELLO, **fields})


@pytest.mark.parametrize(
    ("limits", "within", "beyond", "param"),
    [
        ({"max_outputs": 2}, {"n": 2}, {"n": 3}, "n"),
        (
            {"max_total_tokens": 100},
            {"n": 2, "max_tokens": 50},
            {"n": 2, "max_tokens": 51},
            "n",
        ),
        (
            {"max_total_top_logprobs": 20},
            {"n": 4, "max_tokens": 5},
            {"n": 4, "logprobs": True, "top_logprobs": 6},
            "n",
        ),
        (
            {"max_logit_bias_entries": 1},
            {"logit_bias": {"5": 1}},
            {"logit_bias": {"5": 1, "6": 1}},
            "logit_bias",
        ),
    ],
)
async def test_the_operators_bounds(
    limits: dict[str, int], within: dict[str, Any], beyond: dict[str, Any], param: str
) -> None:
    """What a request multiplies is bounded: the bound passes, one more is refused by name."""
    assert (await asked(limits, **within)).status == 200
    refused = await asked(limits, **beyond)

    assert refused.status == 400
    assert refused.error["param"] == param


async def test_a_fields_name_cannot_add_a_header() -> None:
    """A field that nobody knows is named in a header, percent-encoded and cut."""
    answer = await asked({}, **{"x\r\nset-cookie: a=b": 1, "ü": 2, "y" * 100_000: 3})

    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    named = answer.headers["x-headrace-ignored"]
    assert named.startswith("x%0D%0Aset-cookie%3A%20a%3Db, ")
    assert named.endswith("%C3%BC")
    assert len(named) < 200


@pytest.mark.parametrize(("name", "shown"), [("x", 32), ("漢" * 64, 3)])
async def test_many_or_long_names_are_not_all_told(name: str, shown: int) -> None:
    """A head that a proxy on the way cannot hold would turn a good answer into a bad gateway."""
    answer = await asked({}, **{f"{number:02}{name}": 1 for number in range(40)})
    named = answer.headers["x-headrace-ignored"].split(", ")

    assert answer.status == 200
    assert (len(named), named[-1]) == (shown + 1, "...")
    assert len(answer.headers["x-headrace-ignored"]) < 2200
