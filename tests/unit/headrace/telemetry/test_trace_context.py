"""W3C's trace context: what is handed on, and what is ignored."""

import pytest
import structlog

from headrace.telemetry.trace_context import TraceContext, read_trace_context
from tests.support.edge_server import HELLO, ask, running_edge
from tests.support.fake_backend import FakeBackend

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_both_headers_are_handed_on() -> None:
    """A valid context is kept as it is; lists in several headers are joined."""
    found = read_trace_context([PARENT], ["a=1,  b@c=x y", "", "d-e/f*_9=~!"])

    assert TraceContext(PARENT, "a=1,b@c=x y,d-e/f*_9=~!") == found
    assert found.trace_id == TRACE


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [""],
        [PARENT, PARENT],
        [PARENT.upper()],
        [PARENT + "-more"],
        [PARENT[:-1]],
        [PARENT.replace(TRACE, "0" * 32)],
        [PARENT.replace("00f067aa0ba902b7", "0" * 16)],
        ["ff" + PARENT[2:]],
        [PARENT.replace(TRACE, "g" * 32)],
        ["x" * 100_000],
        ["0" + PARENT[1:-2] + "٣١"],
    ],
)
def test_invalid_traceparent_is_no_context(parents: list[str]) -> None:
    """Without exactly one valid traceparent there is neither trace nor state."""
    assert TraceContext() == read_trace_context(parents, ["a=1"])
    assert read_trace_context(parents, []).trace_id == ""


def test_later_version_is_read_as_far_as_known() -> None:
    """What this version knows of a later one is handed on as this version."""
    assert read_trace_context([f"cc{PARENT[2:]}-what.comes"], []).traceparent == PARENT


@pytest.mark.parametrize(
    "states",
    [
        ["a"],
        ["=1"],
        ["A=1"],
        ["a=1,a=2"],
        ["a=b=c"],
        ["a=\x07"],
        ["a=é"],
        [f"{'k' * 257}=1"],
        [f"a={'v' * 257}"],
        [",".join(f"k{number}=1" for number in range(33))],
    ],
)
def test_invalid_tracestate_is_dropped_whole(states: list[str]) -> None:
    """The trace goes on without a state that cannot be read."""
    assert TraceContext(PARENT, "") == read_trace_context([PARENT], states)


def test_long_tracestate_is_cut_between_members() -> None:
    """Of a longer list as many members as fit into 512 characters, from the beginning."""
    members = [f"k{number}={'v' * 96}" for number in range(1, 10)]
    state = read_trace_context([PARENT], [",".join(members)]).tracestate

    assert ",".join(members[:5]) == state


def test_a_tracestate_longer_than_all_members_may_be_is_invalid() -> None:
    """Whoever sends megabytes of commas in a message of gRPC has them counted, and not read."""
    assert read_trace_context([PARENT], [",".join(["a=b", *[""] * 16_444])]).tracestate == "a=b"
    assert read_trace_context([PARENT], ["a=b" + "," * 16_446]).tracestate == ""
    assert read_trace_context([PARENT], ["a=b", "," * 16_446]).trace_id == TRACE


async def test_context_reaches_backend_and_log() -> None:
    """The options of a generation carry the context, and the request's log line the trace id."""
    backend = FakeBackend()
    with structlog.testing.capture_logs() as logs:
        async with running_edge(backend) as edge:
            headers = {"traceparent": PARENT, "tracestate": "a=1"}
            assert (await ask(edge.port, HELLO, headers=headers)).status == 200
            assert (await ask(edge.port, HELLO, headers={"traceparent": "no"})).status == 200
    options = [generation.options for generation in backend.generations]

    traces = [one.trace for one in options]
    assert [(PARENT, "a=1"), ("", "")] == [(t.traceparent, t.tracestate) for t in traces]
    served = [line["trace_id"] for line in logs if line["event"] == "request_served"]
    assert [TRACE, ""] == served
