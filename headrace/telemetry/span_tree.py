"""Spans of one request as lines for a terminal: an indented tree with times and what tells.

Pure: from finished spans to text. What a client sent must not command a terminal, so that control
characters are escaped in whatever is shown.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from headrace.runtime.logs import printable
from headrace.telemetry import names
from headrace.telemetry.spans import AttributeValue, SpanKind

_BAR_CELLS = 16
# What a narrow terminal keeps for the details, rather than for bars.
_MIN_DETAILS = 30
_MAX_TITLE = 60
_NOTED_SECONDS = 0.00005
_GAP = "  "
_DIM, _BOLD, _RED, _CYAN = "2", "1", "31", "36"


@dataclass(frozen=True, slots=True)
class FinishedSpan:
    """A span as it was exported; times in nanoseconds since 1970, ids in hexadecimal.

    `parent_id` is empty where the trace begins; `service` is the short name, such as `edge`.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: SpanKind
    service: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, AttributeValue]
    is_error: bool = False
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """A span in its place; `margin` indents what follows it below its name."""

    title: str
    margin: str
    span: FinishedSpan


def tree_lines(
    spans: Sequence[FinishedSpan], *, width: int = 0, colours: bool = False
) -> list[str]:
    """One line a span, children below their parents by their beginnings; errors on lines of theirs.

    `spans` are the first one and its descendants. Details are cut where a line would become longer
    than `width`, 0 for never; errors are not.
    """
    rows = list(_rows(spans))
    table = _Table(rows, width, colours=colours)
    return [line for row in rows for line in table.lines(row)]


class _Table:
    """How wide the columns are, and what a bar's whole length stands for."""

    def __init__(self, rows: Sequence[_Row], width: int, *, colours: bool) -> None:
        self._width = width
        self._colours = colours
        self._title_width = max(len(row.title) for row in rows)
        self._service_width = max(len(printable(row.span.service)) for row in rows)
        self._begin = min(row.span.start_ns for row in rows)
        self._total = max(max(row.span.end_ns for row in rows) - self._begin, 1)
        self._taken = self._title_width + self._service_width + 10 + 9 + 4 * len(_GAP)
        bars_width = _BAR_CELLS + len(_GAP)
        self._has_bars = not width or width - self._taken - bars_width >= _MIN_DETAILS
        if self._has_bars:
            self._taken += bars_width

    def lines(self, row: _Row) -> Iterator[str]:
        """A span's line, and one for its error."""
        span = row.span
        columns = [
            self._painted(f"{row.title:<{self._title_width}}", _RED if span.is_error else _BOLD),
            self._painted(f"{printable(span.service):<{self._service_width}}", _CYAN),
            f"{'+' + duration_text(span.start_ns - self._begin):>10}",
            f"{duration_text(span.end_ns - span.start_ns):>9}",
        ]
        if self._has_bars:
            columns.append(self._painted(_bar(span, self._begin, self._total), _DIM))
        details = details_text(span)
        if self._width:
            details = _cut(details, self._width - self._taken)
        yield _GAP.join([*columns, details]).rstrip()
        if error := error_text(span):
            yield self._painted(f"{row.margin}! {error}", _RED)

    def _painted(self, text: str, code: str) -> str:
        return _painted(text, code, colours=self._colours)


def heading(spans: Sequence[FinishedSpan], note: str = "", *, colours: bool = False) -> str:
    """The line above a tree: the trace's id, the request's where a span tells it, and a note."""
    found = (span.attributes.get(names.REQUEST_ID) for span in spans)
    request_id = next((str(value) for value in found if value), "")
    parts = [f"trace {spans[0].trace_id}", f"request {printable(request_id)}" if request_id else ""]
    shown = _GAP.join(part for part in parts if part)
    return _painted(shown, _DIM, colours=colours) + (f"{_GAP}({note})" if note else "")


def duration_text(nanoseconds: int) -> str:
    """A time with its unit: milliseconds below ten seconds, then seconds."""
    if abs(nanoseconds) < 10_000_000_000:
        return f"{nanoseconds / 1e6:.1f} ms"
    return f"{nanoseconds / 1e9:.2f} s"


def details_text(span: FinishedSpan) -> str:
    """The attributes that tell what happened, in a fixed order."""
    found = (
        show(value)
        for name, show in _DETAILS.items()
        if (value := span.attributes.get(name)) is not None
    )
    return printable(", ".join(text for text in found if text))


def error_text(span: FinishedSpan) -> str:
    """What went wrong; empty for nothing. A refusal is told too, though its span is no error."""
    kind = str(span.attributes.get(names.ERROR_TYPE, ""))
    if not kind and not span.is_error:
        return ""
    return printable(": ".join(part for part in (kind or "error", span.message) if part))


def short_name(name: str) -> str:
    """A span's name; of a method's full name the service's last part and the method."""
    if name.startswith("headrace."):
        name = name.rpartition(".")[2]
    return printable(name)


def _rows(spans: Sequence[FinishedSpan]) -> Iterator[_Row]:
    children: dict[str, list[FinishedSpan]] = defaultdict(list)
    for span in spans[1:]:
        children[span.parent_id].append(span)
    # Last in, first out: each span is followed by its own descendants.
    waiting = [(spans[0], "", "")]
    while waiting:
        span, branch, below = waiting.pop()
        beneath = sorted(children[span.span_id], key=_beginning)
        yield _Row(
            _cut(branch + short_name(span.name), _MAX_TITLE),
            below + ("│ " if beneath else "  "),
            span,
        )
        last = len(beneath) - 1
        waiting += reversed(
            [
                (
                    child,
                    below + ("└ " if i == last else "├ "),
                    below + ("  " if i == last else "│ "),
                )
                for i, child in enumerate(beneath)
            ]
        )


def _beginning(span: FinishedSpan) -> tuple[int, int]:
    return span.start_ns, span.end_ns


def _bar(span: FinishedSpan, begin: int, total: int) -> str:
    """When the span was, within all; one cell at least."""
    first = min((span.start_ns - begin) * _BAR_CELLS // total, _BAR_CELLS - 1)
    cells = max(round((span.end_ns - span.start_ns) * _BAR_CELLS / total), 1)
    return (" " * first + "━" * min(cells, _BAR_CELLS - first)).ljust(_BAR_CELLS)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def _painted(text: str, code: str, *, colours: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colours else text


def _joined(value: AttributeValue) -> str:
    return str(value) if isinstance(value, str | bool | int | float) else " ".join(value)


def _template(template: str) -> Callable[[AttributeValue], str]:
    return lambda value: template.format(_joined(value))


def _seconds(template: str) -> Callable[[AttributeValue], str]:
    def show(value: AttributeValue) -> str:
        if not isinstance(value, int | float) or value < _NOTED_SECONDS:
            return ""
        return template.format(duration_text(round(value * 1e9)))

    return show


def _unless(usual: str) -> Callable[[AttributeValue], str]:
    return lambda value: "" if value == usual else _joined(value)


_DETAILS: Mapping[str, Callable[[AttributeValue], str]] = {
    names.HTTP_STATUS: _template("{}"),
    names.RPC_STATUS: _unless("OK"),
    names.ATTEMPT: lambda value: "" if value == 1 else f"attempt {value}",
    names.PEER_ADDRESS: _template("to {}"),
    names.ADMISSION_SECONDS: _seconds("admitted after {}"),
    names.THREAD_WAIT_SECONDS: _seconds("thread after {}"),
    names.TEMPLATE_SECONDS: _seconds("template {}"),
    names.ENCODING_SECONDS: _seconds("encoding {}"),
    names.GUIDE_SECONDS: _seconds("guide {}"),
    names.USAGE_INPUT_TOKENS: _template("input {}"),
    names.USAGE_CACHED_TOKENS: _template("cached {}"),
    names.USAGE_OUTPUT_TOKENS: _template("output {}"),
    names.USAGE_REASONING_TOKENS: _template("reasoning {}"),
    names.CACHED_TOKENS: _template("cached {}"),
    names.COMPUTED_TOKENS: _template("computed {}"),
    names.OUTPUT_TOKENS: _template("{} tokens"),
    names.RESPONSE_TIME_TO_FIRST_CHUNK: _seconds("first chunk after {}"),
    names.FIRST_TEXT_SECONDS: _seconds("text {} behind tokens"),
    names.FLUSH_SECONDS: _seconds("last text {} behind the end"),
    names.RESPONSE_FINISH_REASONS: _template("{}"),
    names.OUTCOMES: _template("{}"),
    names.CLAMPED_FIELDS: _template("clamped {}"),
}
"""What is shown of a span, by attribute; a count of tokens always has its word before or after."""
