from dataclasses import replace

import pytest

from headrace.telemetry import names
from headrace.telemetry.span_tree import details_text, duration_text, heading, tree_lines
from tests.support.finished_spans import MS, TRACE, finished_span, request_spans


def test_a_request_is_a_tree_in_order_of_beginnings() -> None:
    """Each span stands below its parent, with its service, offset, duration and details."""
    spans = request_spans()
    lines = tree_lines([spans.pop("http"), *reversed(spans.values())])

    shown = [" ".join(line.replace("━", " ").split()) for line in lines]
    assert shown == [
        "POST /v1/chat/completions edge +0.0 ms 500.0 ms 200",
        "└ chat m edge +2.0 ms 496.0 ms input 42",
        "├ TokenizerService/Render edge +3.0 ms 17.0 ms",
        "│ └ TokenizerService/Render tokenizer +5.0 ms 13.0 ms",
        "└ GenerationService/Generate edge +21.0 ms 469.0 ms",
        "└ GenerationService/Generate worker +23.0 ms 465.0 ms",
        "├ queue worker +23.0 ms 7.0 ms",
        "├ prefill worker +30.0 ms 60.0 ms",
        "└ decode worker +90.0 ms 398.0 ms",
    ]
    assert [line.index("ms") for line in lines] == [lines[0].index("ms")] * len(lines)


def test_bars_show_when_a_span_was() -> None:
    """The whole is a full bar, the last quarter begins after three quarters."""
    whole = finished_span("a")
    last = replace(finished_span("b", "a"), start_ns=MS * 3 // 4)

    bars = [line.partition("━") for line in tree_lines([whole, last])]
    assert [1 + rest.count("━") for _, _, rest in bars] == [16, 4]
    assert len(bars[1][0]) - len(bars[0][0]) == 12


def test_an_error_has_a_line_below_its_span() -> None:
    """Type and message are told; a refusal's type too, though its span is no error."""
    refused = finished_span("a", attributes={names.ERROR_TYPE: "invalid_request"})
    failed = finished_span(
        "b", "a", attributes={names.ERROR_TYPE: "worker_lost"}, error="the worker is gone"
    )
    last = finished_span("c", "a")

    lines = tree_lines([refused, failed, last])
    assert [line.strip() for line in lines if "!" in line] == [
        "│ ! invalid_request",
        "│   ! worker_lost: the worker is gone",
    ]


def test_lines_fit_a_terminal_but_errors_are_whole() -> None:
    """Details are cut at the terminal's width; without a width nothing is."""
    attributes = {names.RESPONSE_FINISH_REASONS: ["stop"] * 20, names.ERROR_TYPE: "x" * 90}
    span = finished_span("a", attributes=attributes)

    cut, error = tree_lines([span], width=80)
    assert len(cut) == 80
    assert cut.endswith("…")
    assert "x" * 90 in error
    assert "stop " * 19 + "stop" in tree_lines([span])[0]


def test_a_narrow_terminal_gives_up_bars_before_details() -> None:
    """Lines never become longer than the terminal where the times fit; without room no details."""
    span = finished_span("a", attributes={names.RESPONSE_FINISH_REASONS: ["stop"] * 20})

    for width in range(40, 120):
        [line] = tree_lines([span], width=width)
        assert len(line) == width
        assert ("━" in line) is (width >= 83)


def test_a_long_name_leaves_room_for_the_rest() -> None:
    """A title ends after sixty characters."""
    [line] = tree_lines([finished_span("a", name="chat " + "m" * 300)])
    assert line.startswith("chat " + "m" * 54 + "…  edge")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nb", "\x9b31m", "\u202e"])
def test_what_a_client_sent_does_not_command_a_terminal(hostile: str) -> None:
    """Names, details, messages, the service and the request's id are escaped."""
    attributes = {
        names.RESPONSE_FINISH_REASONS: [hostile],
        names.ERROR_TYPE: hostile,
        names.REQUEST_ID: hostile,
    }
    span = finished_span("a", name=f"chat {hostile}", attributes=attributes, error=hostile)
    span = replace(span, service=hostile)

    lines = [heading([span]), *tree_lines([span])]
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_colours_only_where_asked() -> None:
    """With colours the same text stands between escapes; an error's name is red."""
    spans = [finished_span("a", error="no"), finished_span("b", "a")]
    plain, coloured = tree_lines(spans), tree_lines(spans, colours=True)

    assert not any("\x1b" in line for line in plain)
    assert coloured[0].startswith("\x1b[31mwork")
    for escape in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[36m"):
        coloured = [line.replace(escape, "") for line in coloured]
    assert [line.rstrip() for line in coloured] == plain


def test_details_say_what_happened_and_leave_out_the_usual() -> None:
    """Counts, times with units, reasons, what is not OK; nothing that is not told."""
    span = finished_span(
        "a",
        attributes={
            names.RPC_STATUS: "CANCELLED",
            names.ATTEMPT: 2,
            names.ADMISSION_SECONDS: 0.0,
            names.RESPONSE_TIME_TO_FIRST_CHUNK: 0.0425,
            names.RESPONSE_FINISH_REASONS: ["stop", "length"],
            names.CLAMPED_FIELDS: ["top_k"],
            names.USER_AGENT: "curl",
        },
    )
    said = "CANCELLED, attempt 2, first chunk after 42.5 ms, stop length, clamped top_k"
    assert details_text(span) == said
    assert details_text(finished_span("b", attributes={names.RPC_STATUS: "OK"})) == ""


def test_a_heading_names_trace_and_request() -> None:
    """The request's id comes from whichever span tells it."""
    spans = [finished_span("a"), finished_span("b", attributes={names.REQUEST_ID: "req-1"})]

    assert heading(spans, "late") == f"trace {TRACE}  request req-1  (late)"
    assert heading(spans[:1]) == f"trace {TRACE}"


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0.0 ms"), (1_234_000, "1.2 ms"), (9_999_900_000, "9999.9 ms"), (10**10, "10.00 s")],
)
def test_durations_have_units(nanoseconds: int, text: str) -> None:
    """Milliseconds below ten seconds."""
    assert duration_text(nanoseconds) == text
