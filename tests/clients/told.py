"""Which clients there are, and how to read what their programs told."""

from collections.abc import Callable
from typing import Any, TypeAlias

ToldBy: TypeAlias = Callable[[str], dict[str, Any]]
FORCING = ("openai", "langchain", "litellm", "pydantic_ai", "node_openai", "node_vercel")
"""Those that can force a call."""
CLIENTS = (*FORCING, "instructor", "llm")
"""All of them."""


def of(told: dict[str, Any], task: str) -> Any:
    """What came of a task; fails with the client's own traceback where that was an error."""
    found = told[task]
    assert "failed" not in found, found["failed"]
    return found
