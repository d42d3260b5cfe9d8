"""Stacks of services that several modules share; tests that kill something have their own."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.chat_client import CHAT_PATH, chat_body
from tests.support.stack import Stack
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

Measured: TypeAlias = Callable[[str, object], None]
"""The fixture `measured` of all tests."""
_HERE = Path(__file__).parent
TOKENS_PER_SECOND = 50.0
POOL_TOKENS = 2048
POOL_BYTES = POOL_TOKENS * 46_080
"""Of a KV cache in f32."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in here starts processes: mark it, and give it time on a busy machine."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(240))


@contextmanager
def open_stack(factory: pytest.TempPathFactory, name: str) -> Iterator[Stack]:
    """An empty stack, closed and checked at the end."""
    stack = Stack(factory.mktemp(name))
    try:
        yield stack
    finally:
        stack.close()


@pytest.fixture(scope="session")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One tokenizer, two paced workers, one edge."""
    engine = PacedSettings(tokens_per_second=TOKENS_PER_SECOND)
    with open_stack(tmp_path_factory, "paced") as stack:
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)] * 2)
        stack.add_edge()
        yield stack


@pytest.fixture(scope="session")
def paced_text(paced: Stack) -> str:
    """What every paced worker says, 250 tokens of it."""
    connection = http.client.HTTPConnection("127.0.0.1", paced.edge.port, timeout=60)
    try:
        body = json.dumps(chat_body(max_tokens=250))
        connection.request("POST", CHAT_PATH, body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    text: str = answer["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default model as it is served by default: one tokenizer, one worker, one edge."""
    with open_stack(tmp_path_factory, "real") as stack:
        stack.start_backend([WorkerSettings(openvino=OpenVinoSettings(kv_cache_bytes=256 << 20))])
        stack.add_edge()
        yield stack


@pytest.fixture(scope="session")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The default model in reproducible numerics, with a pool of 2,048 tokens."""
    engine = OpenVinoSettings(numerics="reproducible", kv_cache_bytes=POOL_BYTES)
    with open_stack(tmp_path_factory, "exact") as stack:
        stack.start_backend([WorkerSettings(openvino=engine)])
        stack.add_edge()
        yield stack
