"""The example of a laptop, run as rendered: two edges, two tokenizers, two workers."""

import asyncio
from pathlib import Path

import pytest

from tests.helm.chart import ROOT
from tests.kubelet.cluster import Cluster
from tests.kubelet.fields import RefusedError
from tests.kubelet.laptop import host_paths, laptop
from tests.support.chat_client import Answer, Connection, chat_body, http_request

_SHORT = {"minReadySeconds": 2, "preStopSeconds": 3, "drainSeconds": 5}
_SERVICES = ("headrace-edge", "headrace-tokenizer", "headrace-worker-smollm")


async def _ask(address: str) -> Answer:
    host, _, port = address.partition(":")
    connection = Connection(*await asyncio.open_connection(host, int(port)))
    try:
        await connection.send(http_request(chat_body(max_tokens=12, stream=True, temperature=0)))
        return await connection.read_answer()
    finally:
        await connection.close()


@pytest.mark.slow
async def test_the_example_as_it_stands(tmp_path: Path) -> None:
    """Its pods would listen on all addresses of the machine, and each take what is another's."""
    rendered = laptop(tmp_path, listen="any")
    async with Cluster(tmp_path, {"0.1.0": ROOT}, host_paths=host_paths()) as cluster:
        with pytest.raises(RefusedError, match="HEADRACE_EDGE__SERVER__HOST is the whole machine"):
            await cluster.apply(rendered)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(300)
async def test_start_answer_and_end(tmp_path: Path) -> None:
    """Two pods of each become ready, each edge streams an answer, all end by themselves."""
    rendered = laptop(tmp_path, edge=_SHORT, tokenizer=_SHORT, worker=_SHORT)
    async with Cluster(tmp_path, {"0.1.0": ROOT}, host_paths=host_paths()) as cluster:
        await cluster.apply(rendered)
        await cluster.rolled_out()
        found = [cluster.endpoints(service) for service in _SERVICES]
        answers = [await _ask(address) for address in cluster.endpoints("headrace-edge")]

    assert [2, 2, 2] == [len(addresses) for addresses in found]
    assert [True, True] == [answer.is_complete for answer in answers]
    assert 1 == len({answer.text() for answer in answers})
    assert [0] * 6 == [event.code for event in cluster.events.of("exited")]
    assert [] == cluster.events.of("killed")
    cluster.require_clean_logs()
