"""bench.fuzz notices what is wrong, and draws the same under the same seed."""

import json
import os
import random
import subprocess
import sys
from typing import Any

import pytest

from bench.fuzz.excerpts import excerpt, operations
from bench.fuzz.request import FuzzRequest
from bench.fuzz.verdicts import FuzzAnswer, Judge
from edge.app import CHAT_PATH, PREFIXES
from edge.openai.openapi import openapi_document
from edge.openapi_route import openapi_surface
from edge.profiles import ProfileBook
from edge.settings import EdgeSettings
from tests.support.stack import ROOT

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json", "x-request-id": "req_1"}
EVENTS = {**JSON, "content-type": "text/event-stream"}
ENVELOPE = {"error": {"message": "m", "type": "server_error", "param": None, "code": None}}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "service_tier": "default",
    "system_fingerprint": None,
    "choices": [],
}


def _document() -> dict[str, Any]:
    settings = EdgeSettings()
    profiles = ProfileBook(settings.profiles, settings.hosts)
    return openapi_document(openapi_surface(profiles, settings, PREFIXES, CHAT_PATH))


DOCUMENT = _document()
JUDGE = Judge(DOCUMENT)


def _request(kind: Any = "positive", target: str = CHAT, body: bytes = b"{}") -> FuzzRequest:
    return FuzzRequest("0.0", kind, target, "POST", target, (), body)


def _dump(document: Any) -> bytes:
    return json.dumps(document).encode()


def _events(*documents: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: %b\n\n" % _dump(document) for document in documents) + end


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (FuzzAnswer(400, JSON, _dump(ENVELOPE)), None),
        (FuzzAnswer(503, {**JSON, "retry-after": "1"}, _dump(ENVELOPE)), None),
        (FuzzAnswer(503, JSON, _dump(ENVELOPE)), "without Retry-After"),
        (FuzzAnswer(500, JSON, _dump(ENVELOPE)), "status 500"),
        (FuzzAnswer(422, JSON, _dump(ENVELOPE)), "status 422"),
        (FuzzAnswer(401, JSON, _dump(ENVELOPE)), "without keys"),
        (FuzzAnswer(302, JSON, b""), "status 302"),
        (FuzzAnswer(400, {**JSON, "x-request-id": ""}, _dump(ENVELOPE)), "no x-request-id"),
        (FuzzAnswer(400, {**JSON, "content-type": "text/plain"}, b"no"), "an error as"),
        (FuzzAnswer(400, JSON, b'{"error": {}}'), "envelope"),
        (FuzzAnswer(400, JSON, b"{"), "no JSON"),
        (FuzzAnswer(200, JSON, b"{}"), "answer"),
        (FuzzAnswer(200, {**JSON, "content-type": "text/html"}, b""), "content type"),
        (FuzzAnswer(200, EVENTS, _events(CHUNK)), None),
        (FuzzAnswer(200, EVENTS, _events(CHUNK, end=b"")), "without [DONE]"),
        (FuzzAnswer(200, EVENTS, _events(CHUNK)[:-1]), "within an event"),
        (FuzzAnswer(200, EVENTS, b"event: x\n\ndata: [DONE]\n\n"), "not one line of data"),
        (FuzzAnswer(200, EVENTS, _events({**CHUNK, "more": 1})), "event: "),
        (FuzzAnswer(200, EVENTS, _events(ENVELOPE)), "a stream that failed"),
    ],
    ids=repr,
)
def test_answers_are_judged(answer: FuzzAnswer, problem: str | None) -> None:
    """Each fault of an answer is told, and an answer without one passes."""
    found = JUDGE.problems(_request(), answer)
    assert (found == []) if problem is None else any(problem in each for each in found), found


def test_what_must_not_be_answered() -> None:
    """An answer to a request that the document forbids is a fault, as is one to an unknown path."""
    answer = FuzzAnswer(200, EVENTS, _events(CHUNK))
    forbidden = JUDGE.problems(_request("negative", body=b'{"model": 1}'), answer)
    assert any("forbids" in problem for problem in forbidden)
    unknown = FuzzRequest("0.0", "path", "", "POST", "/nowhere", (), b"")
    assert JUDGE.problems(unknown, answer) == ["status 200 for what is not described"]
    head = FuzzRequest("0.0", "path", "", "HEAD", "/health", (), None)
    assert JUDGE.problems(head, FuzzAnswer(200, JSON, b"x")) == ["HEAD with a body"]
    model = FuzzRequest("0.0", "path", "", "GET", "/v1/models/a/b", (), None)
    body = {"id": "a/b", "object": "model", "created": 1, "owned_by": "x"}
    assert JUDGE.problems(model, FuzzAnswer(200, JSON, _dump(body))) == []


@pytest.mark.parametrize("number", range(5))
def test_excerpts_admit_no_more(number: int) -> None:
    """An excerpt has one operation, and of its body's fields only those of the document."""
    whole = DOCUMENT["components"]["schemas"]["ChatCompletionRequest.openai"]["properties"]
    part = excerpt(DOCUMENT, CHAT, "post", random.Random(number))
    assert list(part["paths"]) == [CHAT]
    content = part["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]
    fields = content["schema"]["properties"]
    assert set(fields) <= set(whole)
    assert {"model", "messages"} < set(fields)
    assert len(fields) < len(whole)
    assert ("/health", "head") in operations(DOCUMENT)


@pytest.mark.slow
def test_batches_repeat() -> None:
    """A batch is the same in every drawing process, and another under another seed."""
    code = (
        "import json, sys; from bench.fuzz.drawing import draw_batch\n"
        "document, seed = json.load(sys.stdin), int(sys.argv[1])\n"
        "print(*draw_batch(document, seed, 0), sep='\\n')"
    )

    def drawn(run_seed: int, hash_seed: int) -> list[str]:
        return subprocess.run(
            [sys.executable, "-c", code, str(run_seed)],
            input=json.dumps(DOCUMENT),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            check=True,
        ).stdout.splitlines()

    first = drawn(7, 1)
    assert len(first) > 20
    assert first == drawn(7, 2)
    assert first != drawn(8, 1)
