import asyncio
import io
import socket
from dataclasses import replace

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from headrace.cli.trace_receiver import finished_spans, receive_spans
from headrace.cli.trace_view import show_traces
from headrace.runtime.errors import StartError
from headrace.telemetry import names
from headrace.telemetry.span_tree import FinishedSpan
from tests.support.finished_spans import TRACE, finished_span, request_spans
from tests.support.otlp_spans import export_of, span_id


class Output(io.BytesIO):
    """A file that may say it is a terminal; `text` is what was written."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        return self.getvalue().decode()


async def export(port: int, *spans: FinishedSpan) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ExportTraceServiceRequest.SerializeToString,
            ExportTraceServiceResponse.FromString,
        )
        async with asyncio.timeout(10):
            await call(export_of(spans))


async def test_spans_of_three_processes_become_one_tree() -> None:
    """Each service sends its own; the tree is printed once, with every span."""
    spans, stream = request_spans(), Output()
    async with show_traces(0, stream) as port:
        for service in ("tokenizer", "edge", "worker"):
            await export(port, *(span for span in spans.values() if span.service == service))

    text = stream.text
    assert text.count(f"trace {TRACE}\n") == 1
    assert len(text.splitlines()) == 2 + len(spans)
    assert "\n└ chat m" in text
    assert "\x1b" not in text


async def test_what_is_left_at_the_end_is_printed_then() -> None:
    """A part without its beginning says so, and that some spans were not kept."""
    stream = Output()
    spans = [replace(request_spans()["rendered"], span_id=f"s{n}") for n in range(257)]
    async with show_traces(0, stream) as port:
        await export(port, *spans)
        assert stream.text == ""

    assert stream.text.count("a part: its beginning was not received") == 256
    assert stream.text.count("1 more spans not kept") == 1


async def test_a_late_span_says_where_it_belongs() -> None:
    """What comes after its tree is told with the trace's id."""
    stream = Output()
    async with show_traces(0, stream) as port:
        await export(port, finished_span("a"))
        await export(port, finished_span("b", "a", "late work"))

    first, late, _ = stream.text.split("\n\n")
    assert "late" not in first
    assert f"trace {TRACE}  (late, belongs to the trace shown before)" in late


@pytest.mark.parametrize(("no_colour", "escapes"), [(None, True), ("", True), ("1", False)])
async def test_a_terminal_is_coloured_unless_the_user_does_not_want_that(
    no_colour: str | None, escapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR counts where it is not empty."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)
    stream = Output(is_terminal=True)
    async with show_traces(0, stream) as port:
        await export(port, finished_span("a"))

    assert ("\x1b[" in stream.text) is escapes


async def test_a_taken_port_is_one_sentence() -> None:
    """Two runs never share a port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StartError, match=f"port {port} on 127.0.0.1"):
            async with receive_spans("127.0.0.1", port, list):
                pass


def test_an_export_is_read_whole_and_cut_where_it_is_long() -> None:
    """Every field arrives; texts end after 300 characters; spans without valid ids are left out."""
    attributes = {
        names.HTTP_STATUS: 503,
        names.REQUEST_STREAM: True,
        names.ADMISSION_SECONDS: 0.5,
        names.RESPONSE_FINISH_REASONS: ["stop"],
        names.ERROR_TYPE: "x" * 301,
    }
    span = finished_span("a", "p", "n" * 301, attributes=attributes, error="m" * 301)
    [read] = finished_spans(export_of([span]).resource_spans)

    assert read == replace(
        span,
        span_id=span_id("a").hex(),
        parent_id=span_id("p").hex(),
        name="n" * 300,
        message="m" * 300,
        attributes=attributes | {names.ERROR_TYPE: "x" * 300},
    )
    broken = export_of([span])
    broken.resource_spans[0].scope_spans[0].spans[0].span_id = b"short"
    assert list(finished_spans(broken.resource_spans)) == []
