"""Each field of a request over HTTP, under a strict and a lenient path, by its case."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import structlog

from edge.http_server import EdgeServer
from edge.openai.fields import FIELDS
from headrace.telemetry.trace_context import NO_TRACE
from tests.conformance.field_case import FieldCase, Refusal, Seen
from tests.conformance.field_cases import FIELD_CASES
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import HELLO, RawResponse, ask, running_edge, wait_until
from tests.support.fake_backend import FakeBackend

PATHS = {"strict": "/v1/chat/completions", "lenient": "/api/v1/chat/completions"}
TOLD = ("x-headrace-ignored", "x-headrace-clamped")
OPTIONAL = [name for name, case in FIELD_CASES.items() if not case.required]
every_path = pytest.mark.parametrize("path", PATHS)


def every_field(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(models=(WHOLE,))


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    async with running_edge(backend) as edge:
        yield edge


async def see(edge: EdgeServer, backend: FakeBackend, path: str, fields: dict[str, Any]) -> Seen:
    """Ask, and gather what became of it."""
    with structlog.testing.capture_logs() as logs:
        response = await ask(edge.port, {**HELLO, **fields}, path=PATHS[path])
        await wait_until(lambda: any(line["event"] == "request_served" for line in logs))
    assert response.status == 200, response.body
    options = backend.generations[-1].options
    return Seen(
        response,
        replace(options, request_id="", deadline=None, trace=NO_TRACE),
        backend.requests[-1],
        next(line for line in logs if line["event"] == "request_served"),
    )


def told(seen: Seen) -> tuple[str | None, ...]:
    """What the answer's headers say of fields that were not taken as they were given."""
    return tuple(seen.response.headers.get(name) for name in TOLD)


def require_refusal(response: RawResponse, param: str, refusal: Refusal) -> None:
    """400 in the envelope, with exactly this message, param and code; no retry is asked for."""
    assert response.status == 400, response.body
    assert response.headers["x-should-retry"] == "false"
    assert response.error == {
        "message": refusal.message,
        "type": "invalid_request_error",
        "param": refusal.param or param,
        "code": refusal.code,
    }


def test_every_field_has_a_case() -> None:
    """The cases are those of the table, no more and no less."""
    assert list(FIELD_CASES) == [spec.name for spec in FIELDS]


@pytest.mark.wire("A3.metadata", "A3.store", "E10", "E14", "E18")
@every_path
@every_field(*FIELD_CASES)
async def test_asked(edge: EdgeServer, backend: FakeBackend, path: str, name: str) -> None:
    """What a field asks for is done, or named as ignored, or refused by name."""
    case = FIELD_CASES[name]
    fields = {**case.beside, name: case.asked}
    if case.use == "refused" or (case.use == "refused strictly" and path == "strict"):
        response = await ask(edge.port, {**HELLO, **fields}, path=PATHS[path])
        assert case.refusal is not None
        require_refusal(response, name, Refusal(case.asked, *case.refusal))
        assert backend.conversations == []
        return

    seen = await see(edge, backend, path, fields)

    assert case.see(seen) == case.expected
    assert told(seen) == ((None if case.use == "honoured" else name), None)


@pytest.mark.wire("A5.max_tokens_default", "E12")
@every_path
@every_field(*OPTIONAL)
async def test_neutral(edge: EdgeServer, backend: FakeBackend, path: str, name: str) -> None:
    """Null, and whatever says what is the case anyway, is as if the field were absent."""
    case = FIELD_CASES[name]
    absent = await see(edge, backend, path, dict(case.beside))

    for value in (None, *case.neutral):
        seen = await see(edge, backend, path, {**case.beside, name: value})

        assert seen.options == absent.options
        assert seen.prompt == absent.prompt
        assert told(seen) == (None, None)


@pytest.mark.wire("E7.missing_field", "E7.never_422")
@every_path
@pytest.mark.parametrize("name", [name for name in FIELD_CASES if name not in OPTIONAL])
@pytest.mark.parametrize("is_null", [True, False])
async def test_missing(edge: EdgeServer, path: str, name: str, is_null: bool) -> None:
    """What is required may be neither absent nor null."""
    document = {**HELLO, name: None}
    if not is_null:
        del document[name]

    response = await ask(edge.port, document, path=PATHS[path])

    message = f"Missing required parameter: '{name}'."
    require_refusal(response, name, Refusal(None, message, "missing_required_parameter"))


@pytest.mark.wire("E7.never_422")
@every_path
@every_field(*(name for name, case in FIELD_CASES.items() if case.wrong is not None))
async def test_wrong_type(edge: EdgeServer, path: str, name: str) -> None:
    """A value of another type is refused in OpenAI's words, under every profile."""
    case = FIELD_CASES[name]
    assert case.wrong is not None
    value, words = case.wrong
    kinds = {bool: "a boolean", int: "an integer", str: "a string", list: "an array"}
    kind = kinds.get(type(value), "an object")
    message = f"Invalid type for '{name}': expected {words}, but got {kind} instead."

    response = await ask(edge.port, {**HELLO, **case.beside, name: value}, path=PATHS[path])

    require_refusal(response, name, Refusal(value, message, "invalid_type"))


@pytest.mark.wire("E7.out_of_range", "E7.stop_too_long", "E7.never_422")
@pytest.mark.wire("A5.out_of_range", "A5.stop", "A5.strict_and_lenient_paths")
@every_path
@every_field(*(name for name, case in FIELD_CASES.items() if case.outside is not None))
async def test_out_of_range(edge: EdgeServer, backend: FakeBackend, path: str, name: str) -> None:
    """Strictly refused with the bound and the value; leniently the nearest number is taken."""
    case = FIELD_CASES[name]
    assert case.outside is not None
    fields = {**case.beside, name: case.outside.value}
    if path == "lenient" and case.outside.nearest is not None:
        assert told(await see(edge, backend, path, fields)) == (None, case.outside.nearest)
        return

    response = await ask(edge.port, {**HELLO, **fields}, path=PATHS[path])

    require_refusal(response, name, case.outside)
    assert backend.conversations == []


def _unused(case: FieldCase) -> bool:
    return case.use == "honoured" and case.expected is None


def test_every_honoured_field_is_looked_at() -> None:
    """No case says that a field is honoured without saying how that is seen."""
    assert [name for name, case in FIELD_CASES.items() if _unused(case)] == []
