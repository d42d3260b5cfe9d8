"""Tenants on one worker: a prefix that one has computed is shared within it, and with nobody else.

All three services demand keys; the edge shows the others one of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.settings import BackendSettings, EdgeSettings
from headrace.access.keys import mint_key
from headrace.access.settings import GenerationKeysSettings, KeysSettings
from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.e2e.conftest import open_stack
from tests.support.chat_client import ask, chat_body
from tests.support.keys import entry, trusted_entry, write_keys
from tests.support.stack import Stack
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.openvino.settings import OpenVinoSettings
from worker.settings import WorkerSettings

pytestmark = pytest.mark.model

_PROMPT = "The lake is full, and the gates are open. " * 40


@dataclass
class Tenants:
    """A stack, and keys: two of one tenant, one of another, one of the edge's own."""

    stack: Stack
    first: str
    sibling: str
    stranger: str
    own: str

    async def cached(self, key: str, content: str) -> int:
        """Tokens of a prompt that were not computed for this key, over HTTP."""
        body = chat_body(content, max_tokens=1)
        answer = await ask(self.stack.edge, body, f"Authorization: Bearer {key}")
        assert answer.status == 200, answer.body
        return int(answer.usage["cached_tokens"])

    async def cached_directly(self, key: str, content: str) -> int:
        """The same over gRPC."""
        addresses = [self.stack.workers[0].address], [self.stack.tokenizers[0].address]
        async with (
            HeadraceClient(*addresses, api_key=key) as client,
            client.chat([ChatMessage("user", content)], max_tokens=1) as answer,
        ):
            await answer.text()
        return answer.usage.cached_prompt_tokens


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """The default model behind keys."""
    first, sibling, stranger, own = (mint_key() for _ in range(4))
    folder: Path = tmp_path_factory.mktemp("keys")
    callers = (entry(first), entry(sibling), entry(stranger, "globex"))
    file = write_keys(folder / "keys.toml", *callers, trusted_entry(own))
    (folder / "edge.key").write_text(f"{own}\n", encoding="utf-8")
    keys = GenerationKeysSettings(file=file)
    with open_stack(tmp_path_factory, "tenants") as stack:
        stack.start_backend(
            [WorkerSettings(openvino=OpenVinoSettings(kv_cache_bytes=256 << 20), keys=keys)],
            [TokenizerSettings(keys=KeysSettings(file=file))],
        )
        backend = BackendSettings(api_key_file=folder / "edge.key")
        stack.add_edge(EdgeSettings(keys=keys, backend=backend))
        yield Tenants(stack, first, sibling, stranger, own)


async def test_a_prefix_is_shared_within_a_tenant_and_never_beyond(tenants: Tenants) -> None:
    """Another tenant's same prompt finds nothing, whoever asked before; its own it finds."""
    assert await tenants.cached(tenants.first, _PROMPT) == 0
    shared = await tenants.cached(tenants.sibling, _PROMPT)

    assert shared > 300
    assert await tenants.cached(tenants.stranger, _PROMPT) == 0
    assert await tenants.cached(tenants.stranger, _PROMPT) == shared
    assert await tenants.cached(tenants.first, _PROMPT) == shared


async def test_direct_callers_have_their_tenants_cache_too(tenants: Tenants) -> None:
    """The same salt by either way; a stranger's direct call finds nothing."""
    content = "Over gRPC. " + _PROMPT
    assert await tenants.cached(tenants.first, content) == 0

    assert await tenants.cached_directly(tenants.sibling, content) > 300
    assert await tenants.cached_directly(tenants.stranger, content) == 0


async def test_services_refuse_a_direct_caller_without_a_known_key(tenants: Tenants) -> None:
    """Also at the worker and the tokenizer nobody gets past without one."""
    with pytest.raises(ServiceError) as caught:
        await tenants.cached_directly(mint_key(), _PROMPT)

    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_API_KEY


async def test_no_key_is_in_any_log(tenants: Tenants) -> None:
    """Neither one that is known, nor one that is not, nor the edge's own."""
    unknown = mint_key()
    refused = await ask(tenants.stack.edge, chat_body(), f"Authorization: Bearer {unknown}")
    await tenants.cached(tenants.first, "Once.")
    logs = "".join(service.log_file.read_text() for service in tenants.stack.services)

    assert refused.status == 401
    assert '"tenant": "acme"' in logs
    keys = (tenants.first, tenants.sibling, tenants.stranger, tenants.own, unknown)
    assert not any(key in logs for key in keys)
