import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from headrace.telemetry.health_http1 import Http1
from headrace.telemetry.health_page import Phase
from tests.support.health_pages import ToldHealth, told_health


@pytest.fixture
def told() -> Iterator[ToldHealth]:
    with told_health() as told:
        yield told


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def parsed(answer: bytes | None) -> Answer:
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(status_line.split()[1]), headers, body)


def ask(told: ToldHealth, request: str) -> Answer:
    http = Http1(told.view)
    http.feed(request.encode("latin-1"))
    return parsed(http.next_answer())


def get(told: ToldHealth, path: str) -> Answer:
    return ask(told, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")


def test_statuses_follow_the_verdicts(told: ToldHealth) -> None:
    """200 for yes, 503 for no, in JSON that says why."""
    told.tell(Phase.STARTING, "the start is not over")
    paths = ("/health", "/ready", "/startup")
    assert [get(told, path).status for path in paths] == [200, 503, 503]
    told.tell(Phase.SERVING)
    assert [get(told, path).status for path in paths] == [200, 200, 200]
    told.pass_seconds(11)
    assert [get(told, path).status for path in paths] == [503, 503, 200]

    answer = get(told, "/health")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body) == {
        "status": "stuck",
        "detail": "the event loop has not run for 11.0 s; the limit is 10 s",
    }


def test_metrics_are_prometheus_text(told: ToldHealth) -> None:
    """With the type that says so."""
    answer = get(told, "/metrics?name=a")

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"headrace_loop_heartbeat_age_seconds" in answer.body
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_head_is_get_without_its_body(told: ToldHealth) -> None:
    """Length and type included."""
    told.tell(Phase.SERVING)
    head = ask(told, "HEAD /ready HTTP/1.1\r\n\r\n")

    assert head.body == b""
    assert head.headers == get(told, "/ready").headers


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("POST /health HTTP/1.1\r\n\r\n", 405),
        ("GET /healthz HTTP/1.1\r\n\r\n", 404),
        ("GET / HTTP/1.1\r\n\r\n", 404),
        ("GET /health HTTP/2.0\r\n\r\n", 400),
        ("GET  /health HTTP/1.1\r\n\r\n", 400),
        ("GET /health\r\n\r\n", 400),
        ("\x16\x03\x01\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nbroken\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", 413),
        ("GET /health HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n", 413),
        ("GET /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        ("GET /health HTTP/1.1\r\nX: " + "x" * 8192, 431),
    ],
)
def test_refusals(told: ToldHealth, request_text: str, status: int) -> None:
    """Everything but a short GET or HEAD of a known path has its status."""
    assert ask(told, request_text).status == status


@pytest.mark.parametrize(
    ("request_text", "is_over"),
    [
        ("GET /health HTTP/1.1\r\n\r\n", False),
        ("GET /health HTTP/1.1\r\nConnection: Close\r\n\r\n", True),
        ("GET /health HTTP/1.0\r\n\r\n", True),
        ("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        ("GET /nowhere HTTP/1.1\r\n\r\n", False),
        ("POST /health HTTP/1.1\r\nContent-Length: 9\r\n\r\n", True),
        ("nonsense\r\n\r\n", True),
    ],
)
def test_who_stays_and_who_goes(told: ToldHealth, request_text: str, is_over: bool) -> None:
    """A connection goes on unless one side has said otherwise, or its next byte has no meaning."""
    http = Http1(told.view)
    http.feed(request_text.encode())
    answer = parsed(http.next_answer())

    assert http.is_over == is_over
    assert answer.headers["connection"] == ("close" if is_over else "keep-alive")
    http.feed(b"GET /health HTTP/1.1\r\n\r\n")
    assert (http.next_answer() is None) == is_over


def test_requests_may_come_in_any_pieces(told: ToldHealth) -> None:
    """Byte by byte, or several at once: one answer each, made when it is asked for."""
    http = Http1(told.view)
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    for byte in request[:-1]:
        http.feed(bytes([byte]))
        assert http.next_answer() is None
        assert http.is_waiting
    http.feed(request[-1:] + b"\r\n" + request)

    assert parsed(http.next_answer()).status == 200
    assert http.is_waiting
    assert parsed(http.next_answer()).status == 200
    assert http.next_answer() is None
    assert not http.is_waiting
