"""HTTP/1.1 on the health port: GET and HEAD of four paths, one request after the other, no bodies.

Bytes in, bytes out, no sockets: who owns the connection decides when the next answer is made.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from headrace.telemetry.health_view import HealthView, Verdict

_MAX_HEAD_BYTES = 8192
_END = b"\r\n\r\n"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_JSON = "application/json"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Head:
    """What matters of a request."""

    method: str
    path: str
    keeps_alive: bool


class _RefusedError(Exception):
    """A request that is not read to its end."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Http1:
    """One connection's requests."""

    def __init__(self, view: HealthView) -> None:
        self._verdicts: dict[str, Callable[[], Verdict]] = {
            "/health": view.health,
            "/ready": view.ready,
            "/startup": view.startup,
        }
        self._view = view
        self._buffer = bytearray()
        self.is_over = False
        """Whether the last answer has been made: the connection closes behind it."""

    @property
    def is_waiting(self) -> bool:
        """Whether part of a request has come, and the rest has not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer += data

    def next_answer(self) -> bytes | None:
        """The answer to the next request; None while there is no whole one."""
        if self.is_over:
            return None
        # A line end before a request is left over from the one before (RFC 9112, 2.2).
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        try:
            head = self._take_head()
        except _RefusedError as refused:
            self.is_over = True
            verdict = Verdict(is_good=False, status="refused", detail=str(refused))
            return self._answer(refused.status, _json(verdict), keeps_alive=False)
        if head is None:
            return None
        self.is_over = not head.keeps_alive
        return self._respond(head)

    def _take_head(self) -> _Head | None:
        end = self._buffer.find(_END, 0, _MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) >= _MAX_HEAD_BYTES:
                raise _RefusedError(431, f"a head has at most {_MAX_HEAD_BYTES} bytes")
            return None
        text = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + len(_END)]
        return _parse_head(text)

    def _respond(self, head: _Head) -> bytes:
        keeps_alive = head.keeps_alive
        if head.path != "/metrics" and head.path not in self._verdicts:
            known = ", ".join([*self._verdicts, "/metrics"])
            verdict = Verdict(is_good=False, status="unknown path", detail=f"known are {known}")
            answer = self._answer(404, _json(verdict), keeps_alive=keeps_alive)
        elif head.method not in ("GET", "HEAD"):
            verdict = Verdict(is_good=False, status="refused", detail="only GET and HEAD")
            answer = self._answer(405, _json(verdict), keeps_alive=keeps_alive)
        elif head.path == "/metrics":
            body = self._view.metrics()
            answer = self._answer(200, body, keeps_alive=keeps_alive, kind=_METRICS)
        else:
            verdict = self._verdicts[head.path]()
            status = 200 if verdict.is_good else 503
            answer = self._answer(status, _json(verdict), keeps_alive=keeps_alive)
        return answer[: answer.index(_END) + len(_END)] if head.method == "HEAD" else answer

    def _answer(self, status: int, body: bytes, *, keeps_alive: bool, kind: str = _JSON) -> bytes:
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            f"Connection: {'keep-alive' if keeps_alive else 'close'}",
        ]
        if status == 405:
            lines.append("Allow: GET, HEAD")
        return "\r\n".join(lines).encode("latin-1") + _END + body


def _parse_head(text: str) -> _Head:
    request_line, *lines = text.split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or not all(parts) or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise _RefusedError(400, "the request line is METHOD /path HTTP/1.1")
    method, target, version = parts
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _RefusedError(400, "a header line is Name: value")
        headers[name.lower()] = value.strip().lower()
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise _RefusedError(413, "requests have no body here")
    return _Head(method, target.partition("?")[0], _keeps_alive(version, headers))


def _keeps_alive(version: str, headers: dict[str, str]) -> bool:
    options = {option.strip() for option in headers.get("connection", "").split(",")}
    return "keep-alive" in options if version == "HTTP/1.0" else "close" not in options


def _json(verdict: Verdict) -> bytes:
    said = {"status": verdict.status, "detail": verdict.detail}
    return json.dumps({key: text for key, text in said.items() if text}).encode()
