"""Clients in JavaScript against the default model: PolarGrid's documented loop, OpenAI's package.

Where there is no node (or one that is too old for the package) the tests say so and do not run.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.served_seeds import ServedSeeds
from tests.support.stack import MODEL, clean_environment

FOLDER = Path(__file__).parent / "node"
TOKEN = "<token>"  # noqa: S105 (printed by two vendors' documents)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.model,
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]


def _run(*command: str) -> str:
    done = subprocess.run(
        command,
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=clean_environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package() -> None:
    """The official package, as the lock file has it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    lock = FOLDER / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run(
            ["npm", "ci"], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"npm could not install the package: {done.stderr[-500:]}")


@pytest.fixture(scope="module")
def told(served: ServedSeeds, package: None) -> dict[str, Any]:
    """What the official package got from the edge."""
    url = f"http://127.0.0.1:{served.port}/v1"
    told: dict[str, Any] = json.loads(_run("node", "openai_client.mjs", url, MODEL, TOKEN))
    return told


@pytest.mark.wire("A2.sse", "A5.superset")
def test_polargrids_loop(served: ServedSeeds) -> None:
    """The page's own loop, over a client of that name, prints a story until the stream ends."""
    url = f"http://127.0.0.1:{served.port}/v1"

    story = _run("node", "polargrid_shim.mjs", url, "pg_your_api_key")

    assert len(story.split()) > 20


@pytest.mark.slow
@pytest.mark.wire("E1", "E2", "E4")
def test_whole_and_streamed(told: dict[str, Any]) -> None:
    """Answers parse, whole and streamed; logprobs spell the text; the helper gathers the same."""
    whole, streamed = told["whole"], told["streamed"]
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    for choice in whole["choices"]:
        assert choice["role"] == "assistant"
        assert choice["content"]
        assert choice["refusal"] is None
    assert whole["requestId"].startswith("req_")
    assert (whole["object"], whole["model"]) == ("chat.completion", MODEL)
    assert streamed["ids"] == 1
    assert streamed["roles"] == ["assistant"]
    assert len(streamed["finishes"]) == 1
    assert streamed["spelt"] == streamed["text"] == told["gathered"]["content"]
    assert streamed["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert told["aborted"]["aborted"]


@pytest.mark.slow
@pytest.mark.wire("E7.bad_key", "E7.out_of_range", "E7.context_overflow", "E16", "E17")
def test_typed_errors_and_models(told: dict[str, Any]) -> None:
    """Failures are the package's own error types, with what they say of themselves."""
    expected = {
        "wrongKey": ("AuthenticationError", 401, None, "invalid_api_key"),
        "outOfRange": ("BadRequestError", 400, "temperature", "decimal_above_max_value"),
        "tooLong": ("BadRequestError", 400, "messages", "context_length_exceeded"),
    }
    for name, (kind, status, param, code) in expected.items():
        error = told[name]
        assert (kind, status) == (error["kind"], error["status"])
        assert ("invalid_request_error", param, code) == (
            error["type"],
            error["param"],
            error["code"],
        )
        assert error["requestId"].startswith("req_")
    assert MODEL in told["models"]
