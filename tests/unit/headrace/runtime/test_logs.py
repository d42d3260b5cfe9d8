import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from headrace.runtime.logs import configure_logs


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, config = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**config)


def test_lines_are_json_without_a_terminal() -> None:
    """Each event is one JSON object with service, level and time."""
    stream = StringIO()
    configure_logs(service="worker", stream=stream)
    structlog.get_logger().info("started", port=5)
    line = json.loads(stream.getvalue())

    assert (line["event"], line["port"], line["service"]) == ("started", 5, "worker")
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("stream", "style"), [(Terminal(), "auto"), (StringIO(), "pretty")])
def test_a_terminal_gets_text(stream: StringIO, style: str) -> None:
    """A person reads text: on a terminal, or where it is asked for."""
    configure_logs(service="worker", style=style, stream=stream)
    structlog.get_logger().info("started")

    assert "started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_lower_levels_are_left_out() -> None:
    """The level bounds our events and those of libraries alike."""
    stream = StringIO()
    configure_logs("warning", service="edge", stream=stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    logging.getLogger("library").warning("loud")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_an_exception_is_part_of_its_line() -> None:
    """A stack stays in the one JSON line of its event."""
    stream = StringIO()
    configure_logs(service="edge", stream=stream)
    try:
        int("broken")
    except ValueError:
        structlog.get_logger().exception("failed")

    assert "ValueError: invalid literal" in json.loads(stream.getvalue())["exception"]


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_a_stack_shows_no_variable(style: str) -> None:
    """Where something breaks, the key or the prompt at hand is not written out."""
    stream = StringIO()
    configure_logs(service="edge", style=style, stream=stream)
    at_hand = "what nobody may read"
    try:
        int(len(at_hand) * "x")
    except ValueError:
        structlog.get_logger().exception("failed")

    assert "ValueError" in stream.getvalue()
    assert at_hand not in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "pretty"])
def test_no_value_can_forge_a_line_or_command_a_terminal(style: str) -> None:
    """Line breaks and escape sequences that a client sent are spelt out, in one line."""
    stream = StringIO()
    configure_logs(service="edge", style=style, stream=stream)
    structlog.get_logger().info("request_served", model='m\r\n{"event": "forged"}\x1b[2J\x9b')

    text = stream.getvalue().removesuffix("\n")
    values = text.split("model", 1)[1]
    assert "\n" not in text
    assert "forged" in values
    assert "\x1b[2J" not in values
    assert "\r" not in values
    assert "\x9b" not in values
