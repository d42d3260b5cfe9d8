"""A GGUF file is imported by the command and then served by its name in the cache."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import open_stack
from tests.support.chat_client import ask, chat_body
from tests.support.stack import Stack, clean_environment
from tests.support.tiny_gguf import TinyGguf
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.openvino.settings import OpenVinoSettings
from worker.settings import WorkerSettings

pytestmark = pytest.mark.model


def model_command(*arguments: str) -> str:
    """What `headrace model` says on stdout; fails with what it says on stderr."""
    command = [sys.executable, "-P", "-m", "headrace", "model", *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Qwen 3 with random weights."""
    folder = tmp_path_factory.mktemp("import")
    file = TinyGguf("qwen3", "qwen2").write(folder / "tiny-qwen3.gguf")
    return Path(model_command("import", str(file), "--cache-dir", str(folder)).strip())


@pytest.fixture(scope="module")
def stack(imported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Tokenizer, worker and edge that serve it."""
    with open_stack(tmp_path_factory, "imported") as stack:
        engine = OpenVinoSettings(kv_cache_bytes=4 << 20)
        stack.start_backend(
            [WorkerSettings(model=str(imported), openvino=engine)],
            [TokenizerSettings(models=(str(imported),))],
        )
        stack.add_edge()
        yield stack


def test_the_command_lists_and_verifies_it(imported: Path) -> None:
    """What has just been imported is whole."""
    cache = ["--cache-dir", str(imported.parent)]

    assert model_command("list", *cache).startswith("tiny-qwen3  128 tokens  395 ids  ")
    assert model_command("verify", *cache) == "tiny-qwen3  ok\n"


@pytest.mark.slow
async def test_it_answers_over_http(stack: Stack) -> None:
    """Random weights say nothing sensible, but as many tokens as asked for, alike each time."""
    body = chat_body(model="tiny-qwen3", max_tokens=8, temperature=0)
    answers = [await ask(stack.edge, body) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["model"] == "tiny-qwen3"
    assert [answer.json["usage"]["completion_tokens"] for answer in answers] == [8, 8]
    first, second = (answer.json["choices"][0]["message"] for answer in answers)
    assert first == second
