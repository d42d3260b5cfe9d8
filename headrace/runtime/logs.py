"""Logs: structlog on stderr, JSON lines unless stderr is a terminal.

An event has a constant snake_case name and keywords; prompts and answers are never logged. Records
of libraries that use the standard logging module take the same way out.
"""

import logging
import sys
from typing import TextIO

import structlog

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "json", "pretty")


def configure_logs(
    level: str = "info", *, service: str, style: str = "auto", stream: TextIO | None = None
) -> None:
    """Set up logging for this process; `level` and `style` are one of the tuples above.

    Every line carries `service`, an ISO timestamp in UTC and the level.
    """
    target = stream or sys.stderr
    pretty = target.isatty() if style == "auto" else style == "pretty"
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _service_adder(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=_renderers(pretty=pretty)
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)


def _renderers(*, pretty: bool) -> list[structlog.typing.Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if pretty:
        # Without the values of variables, which other tracebacks show: they hold keys and prompts.
        plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [strip, _spell_out, plain]
    return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _spell_out(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What a client sent must not command a terminal: control characters are escaped.

    JSON escapes them anyway.
    """
    return {
        key: printable(value) if isinstance(value, str) else value for key, value in event.items()
    }


def printable(text: str) -> str:
    """The text with control characters escaped, for a terminal."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _service_adder(service: str) -> structlog.typing.Processor:
    def add_service(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("service", service)
        return event

    return add_service
