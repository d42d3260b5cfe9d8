"""What every client is asked to do, and how a program tells what it got.

A program is called with base URL, key and model, and prints one JSON object: the packages that it
used, and under each task's name what came of it. Nothing in here needs more than pydantic.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Told: TypeAlias = Any
WRONG_KEY = "hr-a-key-of-nobody"
UNKNOWN_MODEL = "gpt-9"
QUESTION = "What is the weather in Oslo?"
TOOL_RESULT = "Rain, 7 degrees."
STORY = [{"role": "user", "content": "Tell me a story about a river."}]
ASKED = [{"role": "user", "content": QUESTION}]
# Room for a whole call or object; an answer in prose is cut here.
MAX_TOKENS = 96
STORY_TOKENS = 24


class GetWeather(BaseModel):
    """Look up the weather of a city."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Oslo", "Lima"]
    days: int = Field(ge=1, le=7)


class SetAlarm(BaseModel):
    """Set an alarm."""

    model_config = ConfigDict(extra="forbid")

    hour: int = Field(ge=0, le=23)
    is_daily: bool


class Report(BaseModel):
    """A city's weather."""

    model_config = ConfigDict(extra="forbid")

    city: Literal["Paris", "Oslo", "Lima"]
    degrees: int = Field(ge=-40, le=50)
    is_raining: bool
    remark: str = Field(max_length=30)


FUNCTIONS: dict[str, type[BaseModel]] = {"get_weather": GetWeather, "set_alarm": SetAlarm}


def _function_tool(name: str, model: type[BaseModel]) -> dict[str, Any]:
    function = {"name": name, "description": model.__doc__}
    return {"type": "function", "function": {**function, "parameters": model.model_json_schema()}}


# As they stand in OpenAI's requests, not strict.
TOOLS = [_function_tool(name, model) for name, model in FUNCTIONS.items()]


def named(name: str) -> dict[str, Any]:
    """The choice of one function."""
    return {"type": "function", "function": {"name": name}}


def call(name: str, arguments: str | Mapping[str, Any], identity: str | None) -> Told:
    """A tool call as it is told; `arguments` may be parsed already."""
    parsed = json.loads(arguments) if isinstance(arguments, str) else dict(arguments)
    return {"name": name, "arguments": parsed, "id": identity}


def failure(attempt: Callable[[], object], expected: type[Exception], *fields: str) -> Told:
    """The exception of that type that the attempt raises: its type's name and these fields."""
    try:
        attempt()
    except expected as error:
        return {"kind": type(error).__name__} | {
            field: getattr(error, field, None) for field in fields
        }
    return {"kind": None}


def tell(packages: tuple[str, ...], tasks: Mapping[str, Callable[[], Told]]) -> None:
    """Do the tasks and print what came of each; one that fails leaves the others alone."""
    told: dict[str, Told] = {"packages": {name: version(name) for name in packages}}
    for name, task in tasks.items():
        try:
            told[name] = task()
        except Exception:  # noqa: BLE001 (whatever a client raises is the finding)
            told[name] = {"failed": traceback.format_exc()}
    sys.stdout.write(json.dumps(told) + "\n")
