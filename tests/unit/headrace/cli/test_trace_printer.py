import io
import os
import queue
import threading

from headrace.cli.trace_printer import TracePrinter


class HeldStream(io.BytesIO):
    """Takes nothing until it is let go; `taken` tells each write after it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.taken: queue.Queue[str] = queue.Queue()

    def write(self, data: bytes) -> int:
        self.reached.set()
        self.let_go.wait()
        self.taken.put(bytes(data).decode())
        return super().write(data)


class BrokenPipe(io.BytesIO):
    """Its reader has left; counts who tries nevertheless."""

    tries = 0

    def write(self, data: bytes) -> int:
        self.tries += 1
        raise BrokenPipeError


def test_blocks_are_written_in_order() -> None:
    """Closing waits for what has been put."""
    stream = io.BytesIO()
    printer = TracePrinter(stream)
    for number in range(50):
        printer.put(f"{number}\n")

    assert printer.close()
    assert stream.getvalue().decode().split() == [str(number) for number in range(50)]


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
    assert (
        stream.getvalue().decode() == "first\n0\n1\n(3 not shown: the output is too slow)\nlast\n"
    )


def test_a_reader_that_left_ends_the_printing_alone() -> None:
    """After a broken pipe nothing is tried again, nobody waits, and the end is quick."""
    stream = BrokenPipe()
    printer = TracePrinter(stream, max_waiting=2)
    for _ in range(10):
        printer.put("text\n")
    printer.close(seconds=0.01)

    assert stream.tries == 1


def test_a_file_that_takes_a_part_gets_the_rest() -> None:
    """A pipe takes what it has room for; nothing is lost or said twice."""

    class Narrow(io.BytesIO):
        def write(self, data: bytes) -> int:
            return super().write(data[:3])

    file = Narrow()
    printer = TracePrinter(file)
    printer.put("0123456789\n")

    assert printer.close()
    assert file.getvalue() == b"0123456789\n"


def test_a_non_blocking_pipe_is_waited_for() -> None:
    """A terminal that another program has made non-blocking gets everything too."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    os.set_blocking(read_end, True)
    text = "x" * 300_000
    with os.fdopen(read_end, "rb") as reader, io.FileIO(write_end, "w") as file:
        printer = TracePrinter(file)
        printer.put(text)
        assert reader.read(len(text)) == text.encode()
        assert printer.close()


def test_an_encoding_without_lines_shows_something() -> None:
    """Where the output takes ASCII alone, what it cannot show is a question mark."""
    file = io.BytesIO()
    printer = TracePrinter(file, encoding="ascii")
    printer.put("└ work\n")

    assert printer.close()
    assert file.getvalue() == b"? work\n"
