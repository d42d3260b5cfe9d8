"""Errors of the executor, and whether there is a loop."""

import asyncio


class RequestError(RuntimeError):
    """One request's error; the engine goes on."""


class CppExecutorError(RuntimeError):
    """The executor is lost."""


def has_event_loop() -> bool:
    """Whether a loop runs on this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
