"""`headrace serve --trace`: each request's span tree on the terminal when it has ended."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import FileIO, RawIOBase

from headrace.cli.trace_gatherer import SpanTree, TraceGatherer
from headrace.cli.trace_printer import TracePrinter
from headrace.cli.trace_receiver import receive_spans
from headrace.runtime.settings import allows_colours
from headrace.telemetry.span_tree import FinishedSpan, heading, tree_lines

_LOOPBACK = "127.0.0.1"
_LOOK_SECONDS = 0.25


@asynccontextmanager
async def show_traces(port: int, file: RawIOBase | None = None) -> AsyncIterator[int]:
    """Receive spans on a port of loopback and print trees to `file`, stdout where it is None.

    Gives the port. What is left at the end is printed then. Raises StartError.
    """
    view = _TraceView(file or FileIO(sys.stdout.fileno(), "w", closefd=False))
    try:
        async with receive_spans(_LOOPBACK, port, view.take) as bound:
            looking = asyncio.create_task(view.look_again())
            try:
                yield bound
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
    finally:
        await asyncio.to_thread(view.close)


class _TraceView:
    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._colours = file.isatty() and allows_colours()
        self._gatherer = TraceGatherer()
        self._printer = TracePrinter(file, encoding=sys.stdout.encoding)

    def take(self, spans: Sequence[FinishedSpan]) -> None:
        now = time.monotonic()
        for span in spans:
            self._gatherer.add(span, now)
        self._show(self._gatherer.take_due(now))

    async def look_again(self) -> None:
        """Show trees whose grace ends while nothing comes."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._show(self._gatherer.take_due(time.monotonic()))

    def close(self) -> None:
        self._show(self._gatherer.take_rest())
        self._printer.close()

    def _show(self, trees: Sequence[SpanTree]) -> None:
        if lost := self._gatherer.take_lost_traces():
            self._printer.put(f"({lost} traces not shown: too many at once)\n")
        for tree in trees:
            lines = tree_lines(tree.spans, width=_width(self._file), colours=self._colours)
            head = heading(tree.spans, _note(tree), colours=self._colours)
            self._printer.put("\n".join([head, *lines, "", ""]))


def _note(tree: SpanTree) -> str:
    """What a reader must know of a tree that is not whole."""
    notes = ["late, belongs to the trace shown before" if tree.is_late else ""]
    if not tree.has_beginning and not tree.is_late:
        notes.append("a part: its beginning was not received")
    if tree.lost:
        notes.append(f"{tree.lost} more spans not kept")
    return "; ".join(note for note in notes if note)


def _width(file: RawIOBase) -> int:
    """Columns of the terminal; 0 for anything else, where lines are as long as they are."""
    try:
        return os.get_terminal_size(file.fileno()).columns if file.isatty() else 0
    except (OSError, ValueError):
        return 0
