"""Memory of all request bodies together."""

import asyncio
from typing import Any

import pytest

from edge.body_budget import UNCOUNTED_BYTES, BodyBudget
from edge.settings import AdmissionSettings, EdgeSettings
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import HELLO, RawClient, ask, raw_client, running_edge, wait_until
from tests.support.fake_backend import FakeBackend

LARGE = {**HELLO, "messages": [{"role": "user", "content": "x" * 900_000}]}


def test_only_what_is_beyond_the_first_bytes_counts() -> None:
    """A body is counted from its 65,537th byte on, and given back once."""
    budget = BodyBudget(100, 1)
    with budget.share() as share:
        share.add(UNCOUNTED_BYTES - 1)
        assert budget.in_flight == 0
        share.add(11)
        assert budget.in_flight == 10
        share.give_back()
        assert budget.in_flight == 0

    assert budget.in_flight == 0


def test_refused_share_is_given_back() -> None:
    """What does not fit is refused with a time to come back, and leaves nothing behind."""
    budget = BodyBudget(100, 7)
    with budget.share() as first:
        first.add(UNCOUNTED_BYTES + 100)
        with pytest.raises(ServiceError) as caught, budget.share() as second:
            second.add(UNCOUNTED_BYTES + 1)
        assert budget.in_flight == 100
        with budget.share() as small:
            small.add(UNCOUNTED_BYTES)

    assert errors_pb2.ERROR_REASON_OVERLOADED == caught.value.reason
    assert caught.value.retry_after_seconds == 7
    assert budget.in_flight == 0


def test_bodies_of_one_tenant_leave_room_for_others() -> None:
    """Together they have half of the memory; a single one may have it all."""
    budget = BodyBudget(1000, 1)
    with budget.share("acme") as whole:
        whole.add(UNCOUNTED_BYTES + 1000)
    with budget.share("acme") as first, budget.share("globex") as other:
        first.add(UNCOUNTED_BYTES + 400)
        with pytest.raises(ServiceError, match="your requests"), budget.share("acme") as second:
            second.add(UNCOUNTED_BYTES + 101)
        with budget.share("acme") as fits:
            fits.add(UNCOUNTED_BYTES + 100)
        other.add(UNCOUNTED_BYTES + 600)
        with pytest.raises(ServiceError, match="all requests"):
            first.add(1)

    assert budget.in_flight == 0
    assert not budget._by_tenant


def test_largest_body_must_fit() -> None:
    """Settings under which a permitted body could never be taken stop the start."""
    with pytest.raises(ValueError, match="max_body_bytes_in_flight must be at least"):
        EdgeSettings(admission=AdmissionSettings(max_body_bytes_in_flight=2**20))


def limits(num_bytes: int) -> dict[str, Any]:
    return {
        "server": {"max_body_bytes": 1_000_000},
        "admission": {"max_body_bytes_in_flight": num_bytes},
    }


async def send_large(client: RawClient) -> None:
    client.post(LARGE)
    await client.writer.drain()


async def test_bodies_that_wait_are_bounded() -> None:
    """Rendering requests hold the budget: the next large one is 503, small ones are served."""
    backend = FakeBackend(render_gate=asyncio.Event())
    async with running_edge(backend, **limits(1_000_000)) as edge, raw_client(edge.port) as client:
        await send_large(client)
        await backend.rendering.wait()

        refused = await ask(edge.port, LARGE)
        small = asyncio.create_task(ask(edge.port, HELLO))
        await wait_until(lambda: len(backend.conversations) == 2)
        backend.render_gate.set()

        assert (503, None) == (refused.status, refused.error["code"])
        assert refused.headers["retry-after"] == "1"
        assert (await client.response()).status == 200
        assert (await small).status == 200
        assert (await ask(edge.port, LARGE)).status == 200


async def test_rendered_bodies_are_not_counted() -> None:
    """A generation that runs holds nothing of the budget."""
    backend = FakeBackend(texts=None)
    async with running_edge(backend, **limits(1_000_000)) as edge, raw_client(edge.port) as client:
        await send_large(client)
        first = await backend.next_generation()
        second = asyncio.create_task(ask(edge.port, LARGE))
        (await backend.next_generation()).answer(["ok"])
        first.answer(["ok"])

        assert (await second).status == 200
        assert (await client.response()).status == 200
