"""Streams of the default model, byte for byte but for ids, times and what is timing alone.

`pytest tests/conformance/test_golden.py --update-golden` writes tests/conformance/golden anew; what
changed is then read in the diff.
"""

from typing import Any

import pytest

from tests.conformance.golden_files import FOLDER, GoldenFiles
from tests.conformance.transcripts import masked, num_text_events, settled
from tests.support.chat_client import chat_body, http_request
from tests.support.raw_exchange import exchange
from tests.support.served_seeds import ServedSeeds

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(240)]

_KEY = "Authorization: Bearer <token>"
_COUNT = "Count from one to ten in words."
_USAGE = {"stream_options": {"include_usage": True}}
_LOGPROBS = {"logprobs": True, "top_logprobs": 2}
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "usage": _USAGE,
    "two-outputs": {"n": 2, "temperature": 0.8, "seed": 7, **_USAGE},
    "logprobs": {"max_tokens": 6, **_LOGPROBS},
    "logprobs-two-outputs": {"max_tokens": 4, "n": 2, **_LOGPROBS, **_USAGE},
    "stop-string": {"max_tokens": 40, "stop": ["atly dep"], **_USAGE},
    "stop-string-logprobs": {"max_tokens": 40, "stop": ["atly dep"], **_LOGPROBS},
    "end-of-text": {"max_tokens": 60, "messages": [{"role": "user", "content": "Say hello."}]},
    "length": {"max_tokens": 3, **_USAGE},
    "one-token": {"max_tokens": 1},
}
HOSTS = {
    "pinstripes": "api.pinstripes.io",
    "polargrid": "api.ymq-01.edge.polargrid.ai:55111",
    "openpipe": "api.openpipe.ai",
    "premai": "studio.premai.io",
}


@pytest.fixture(scope="module", autouse=True)
def _prompt_is_cached(served: ServedSeeds) -> None:
    """Whichever test comes first, the prompt's first block has been computed."""
    assert exchange(served.port, http_request(chat_body(_COUNT, max_tokens=1), headers=(_KEY,)))[0]


@pytest.mark.wire("E1", "E2", "E3", "E4", "E6", "E9", "E11", "E18", "A5.first_chunk", "A5.superset")
@pytest.mark.parametrize("name", REQUESTS)
def test_transcript(served: ServedSeeds, golden: GoldenFiles, name: str) -> None:
    """Under OpenAI's profile each stream is the one on record."""
    fields = {"max_tokens": 12, "temperature": 0, **REQUESTS[name], "stream": True}
    body = chat_body(_COUNT) | fields

    status, stream = exchange(served.port, http_request(body, headers=(_KEY,)))

    assert status == 200, stream
    # A busy machine may join a few tokens, not all of many.
    assert num_text_events(stream) >= (2 if fields["max_tokens"] > 10 else 1)
    golden.compare(f"openai-{name}.sse", settled(masked(stream)))


@pytest.mark.wire("A1.sse", "A2.sse", "A3.usage", "A4.response", "A5.model_in_response")
@pytest.mark.wire("A5.cached_tokens", "E4")
@pytest.mark.parametrize("profile", [*HOSTS, "lenient"])
def test_transcript_of_a_profile(served: ServedSeeds, golden: GoldenFiles, profile: str) -> None:
    """Under each vendor's Host, and under the lenient path, with an alias of the model."""
    fields = {"max_tokens": 5, "temperature": 0, "stream": True, **_USAGE}
    body = chat_body(_COUNT) | {"model": "some-alias", **fields}
    host = HOSTS.get(profile, "127.0.0.1")
    path = "/v1/chat/completions" if profile in HOSTS else "/api/v1/chat/completions"
    request = http_request(body, path=path, headers=(_KEY,)).replace(
        b"Host: edge", f"Host: {host}".encode()
    )

    status, stream = exchange(served.port, request)

    assert status == 200, stream
    golden.compare(f"{profile}.sse", settled(masked(stream)))


def test_no_transcript_is_left_over(golden: GoldenFiles) -> None:
    """Every file on record belongs to a request."""
    if golden.is_update:
        pytest.skip("the records are being written")
    expected = {f"openai-{name}" for name in REQUESTS} | HOSTS.keys() | {"lenient"}
    recorded = {file.stem for file in FOLDER.glob("*.sse")}

    assert {name for name in recorded if not name.startswith("exact-")} == expected
