"""`headrace serve --trace` with real processes: what a newcomer sees of a request."""

import fcntl
import http.client
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.serve_command import Served, serving

pytestmark = pytest.mark.e2e

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("serve") / "log", "--trace") as served:
        yield served


def post(served: Served, **changes: object) -> int:
    """The greeting's request, in a trace of the client's, with changes; returns the status."""
    words = shlex.split(served.curl)
    url, body = urlsplit(words[2]), json.loads(words[-1])
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "traceparent": TRACEPARENT}
        connection.request("POST", url.path, json.dumps(body | changes), headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def next_tree(served: Served) -> list[str]:
    """The lines of the next tree that is printed, without columns' padding and bars."""
    assert served.process.stdout is not None
    for line in served.process.stdout:
        if line.startswith("trace "):
            lines = [line]
            while (line := served.process.stdout.readline()).strip():
                lines.append(line)
            return [" ".join(line.replace("━", " ").split()) for line in lines]
    raise AssertionError("serve ended without a tree")


def test_a_streamed_request_is_one_tree_over_three_services(served: Served) -> None:
    """Every service's part is there, below what called it, with times and tokens."""
    assert post(served, max_tokens=5) == 200
    head, *lines = next_tree(served)

    assert head.startswith("trace 4bf92f3577b34da6a3ce929d0e0e4736")
    assert "(" not in head
    wanted = [
        r"POST /v1/chat/completions edge \+0\.0 ms .*200",
        r"└ chat SmolLM2-135M-Instruct edge .*output 5.*length",
        r"├ TokenizerService/Render edge",
        r"│ └ TokenizerService/Render tokenizer",
        r"└ GenerationService/Generate edge",
        r"└ GenerationService/Generate worker",
        r"├ queue worker",
        r"├ prefill worker .*cached 0, computed \d+",
        r"└ decode worker .*5 tokens",
    ]
    assert len(lines) == len(wanted), lines
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.match(pattern, line), line


def test_a_refused_request_says_why(served: Served) -> None:
    """A tree of what was done before the refusal, with status and reason."""
    assert post(served, temperature=9) == 400
    _, *lines = next_tree(served)

    assert re.match(r"POST /v1/chat/completions edge \+0\.0 ms .*400", lines[0])
    assert any(
        line.startswith("! invalid_request") or "! invalid_request" in line for line in lines
    )


@pytest.mark.slow
def test_all_ends_in_order_with_traces_on(tmp_path: Path) -> None:
    """SIGTERM ends every child and the receiver; what was asked last is printed nevertheless."""
    with serving(tmp_path / "log", "--trace") as served:
        assert post(served, max_tokens=1) == 200
        served.process.terminate()
        assert len(next_tree(served)) == 10
        assert served.wait() == 0
        assert served.surviving() == []


@pytest.mark.slow
def test_nobody_who_reads_holds_up_nothing(tmp_path: Path) -> None:
    """With the output stuck, requests are answered, and the end is in order and in time."""
    with serving(tmp_path / "log", "--trace") as served:
        assert served.process.stdout is not None
        fcntl.fcntl(served.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(8):
            assert post(served, max_tokens=1) == 200
        served.process.terminate()

        assert served.wait() == 0
        assert served.surviving() == []
    assert "Traceback" not in served.log.read_text()
