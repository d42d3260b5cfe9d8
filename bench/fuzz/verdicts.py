"""What may be wrong with an answer, whatever the request was."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.fuzz.excerpts import Document
from bench.fuzz.request import FuzzRequest
from bench.fuzz.schema_book import SchemaBook

_JSON, _EVENTS, _DONE = "application/json", "text/event-stream", "[DONE]"


@dataclass(frozen=True, slots=True)
class FuzzAnswer:
    """An answer as it came; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Without parameters."""
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def shape(self) -> str:
        """Status and kind, for the summary."""
        return f"{self.status} {self.content_type or 'empty'}"


class Judge:
    """Holds answers to a document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._book = SchemaBook(document)

    def problems(self, request: FuzzRequest, answer: FuzzAnswer) -> list[str]:
        """Everything that is wrong; empty = nothing."""
        found = list(self._about_status(answer))
        if not answer.headers.get("x-request-id", "").startswith("req_"):
            found.append("no x-request-id")
        if request.method == "HEAD":
            return [*found, *(["HEAD with a body"] if answer.body else [])]
        if answer.status >= 400:
            return [*found, *self._about_envelope(answer)]
        return [*found, *self._about_success(request, answer)]

    def _about_status(self, answer: FuzzAnswer) -> Iterator[str]:
        status = answer.status
        if status == 422 or (status not in (200, 304) and not 400 <= status < 600):
            yield f"status {status}"
        if status >= 500 and not (status == 503 and "retry-after" in answer.headers):
            yield f"status {status}" + (" without Retry-After" if status == 503 else "")
        if status == 401:
            yield "status 401 without keys"

    def _about_envelope(self, answer: FuzzAnswer) -> Iterator[str]:
        if answer.content_type != _JSON:
            yield f"an error as {answer.content_type!r}"
            return
        problem = self._json_problem("/components/schemas/ErrorEnvelope", answer.body)
        if problem is not None:
            yield f"envelope: {problem}"

    def _about_success(self, request: FuzzRequest, answer: FuzzAnswer) -> Iterator[str]:
        path = request.template or self._template_of(request.target)
        operation = self._document["paths"].get(path, {}).get(request.method.lower())
        if operation is None:
            yield f"status {answer.status} for what is not described"
            return
        content = operation["responses"].get(str(answer.status), {}).get("content", {})
        if answer.content_type not in content:
            yield f"content type {answer.content_type!r}"
            return
        method = request.method.lower()
        pointer = f"/paths/{_escaped(path)}/{method}/responses/{answer.status}/content/"
        pointer += f"{_escaped(answer.content_type)}/schema"
        if answer.content_type == _EVENTS:
            yield from self._about_events(pointer + "/x-headrace-events", answer.body)
        elif answer.content_type == _JSON:
            problem = self._json_problem(pointer, answer.body)
            if problem is not None:
                yield f"answer: {problem}"
        yield from self._about_request(request, path)

    def _about_request(self, request: FuzzRequest, path: str) -> Iterator[str]:
        """What was answered must be what the document admits."""
        if request.kind != "negative" or request.body is None:
            return
        pointer = f"/paths/{_escaped(path)}/post/requestBody/content/application~1json/schema"
        problem = self._json_problem(pointer, request.body)
        if problem is not None:
            yield f"answered although the document forbids it: {problem}"

    def _template_of(self, target: str) -> str:
        """The path that a target falls under; names of models may hold slashes."""
        path = target.partition("?")[0]
        for template in self._document["paths"]:
            head, brace, _ = template.partition("{")
            if path == template or (brace and path.startswith(head) and path != head):
                return str(template)
        return ""

    def _about_events(self, pointer: str, body: bytes) -> Iterator[str]:
        text = body.decode("utf-8", "replace")
        if not text.endswith("\n\n"):
            yield "a stream that ends within an event"
            return
        events = text.removesuffix("\n\n").split("\n\n")
        if any(not event.startswith("data: ") or "\n" in event for event in events):
            yield "an event that is not one line of data"
            return
        texts = [event.removeprefix("data: ") for event in events]
        if texts.count(_DONE) != 1 or texts[-1] != _DONE:
            yield "a stream without [DONE] at its end"
        for event in texts:
            if event.startswith('{"error"'):
                yield f"a stream that failed: {event[:300]}"
            problem = None if event == _DONE else self._json_problem(pointer, event.encode())
            if problem is not None:
                yield f"event: {problem}"
                return

    def _json_problem(self, pointer: str, body: bytes) -> str | None:
        try:
            value: Any = json.loads(body)
        except (ValueError, RecursionError) as error:
            return f"no JSON: {error}"
        return self._book.problem_at(pointer, value)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
