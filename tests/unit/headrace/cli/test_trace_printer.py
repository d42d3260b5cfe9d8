import io
import queue
import threading

from headrace.cli.trace_printer import TracePrinter


class HeldStream(io.StringIO):
    """Takes nothing until it is let go; `taken` tells each write after it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.taken: queue.Queue[str] = queue.Queue()

    def write(self, text: str) -> int:
        self.reached.set()
        self.let_go.wait()
        self.taken.put(text)
        return super().write(text)


class BrokenPipe(io.StringIO):
    """Its reader has left; counts who tries nevertheless."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise BrokenPipeError


def test_blocks_are_written_in_order() -> None:
    """Closing waits for what has been put."""
    stream = io.StringIO()
    printer = TracePrinter(stream)
    for number in range(50):
        printer.put(f"{number}\n")

    assert printer.close()
    assert stream.getvalue().split() == [str(number) for number in range(50)]


def test_a_reader_that_is_slow_holds_up_nobody_and_is_told() -> None:
    """Nothing waits for a stream that is stuck; what did not fit is counted where it goes on."""
    stream = HeldStream()
    printer = TracePrinter(stream, max_waiting=2)
    printer.put("first\n")
    assert stream.reached.wait(5)
    for number in range(5):
        printer.put(f"{number}\n")
    assert not printer.close(seconds=0.01)
    stream.let_go.set()
    assert [stream.taken.get(timeout=5) for _ in range(3)] == ["first\n", "0\n", "1\n"]
    printer.put("last\n")

    assert printer.close()
    assert stream.getvalue() == "first\n0\n1\n(3 not shown: the output is too slow)\nlast\n"


def test_a_reader_that_left_ends_the_printing_alone() -> None:
    """After a broken pipe nothing is tried again, nobody waits, and the end is quick."""
    stream = BrokenPipe()
    printer = TracePrinter(stream, max_waiting=2)
    for _ in range(10):
        printer.put("text\n")
    printer.close(seconds=0.01)

    assert stream.tries == 1
