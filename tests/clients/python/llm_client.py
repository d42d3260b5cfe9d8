"""`llm`, with the server as one of its extra models. It cannot force a call."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.python.tasks import (
    MAX_TOKENS,
    QUESTION,
    STORY,
    STORY_TOKENS,
    TOOL_RESULT,
    UNKNOWN_MODEL,
    WRONG_KEY,
    GetWeather,
    Report,
    Told,
    call,
    failure,
    tell,
)

BASE_URL, KEY, MODEL = sys.argv[1:]


def _configure(folder: str) -> None:
    """Name the models in the file where users name them; must happen before the package loads."""
    os.environ["LLM_USER_PATH"] = folder
    abilities = {"supports_schema": True, "supports_tools": True, "api_key_name": "headrace"}
    entries = [
        {"model_id": f"local-{name}", "model_name": name, "api_base": BASE_URL, **abilities}
        for name in (MODEL, UNKNOWN_MODEL)
    ]
    # Whoever reads YAML reads JSON.
    (Path(folder) / "extra-openai-models.yaml").write_text(json.dumps(entries), encoding="utf-8")


USER_FOLDER = tempfile.TemporaryDirectory()
_configure(USER_FOLDER.name)

import llm  # noqa: E402 (reads its folder's name when it is imported)
import openai  # noqa: E402 (whose errors it raises)

LOCAL = llm.get_model(f"local-{MODEL}")


def _prompt(prompt: str | None = QUESTION, **changes: Any) -> llm.Response:
    return LOCAL.prompt(
        prompt, **{"key": KEY, "temperature": 0, "max_tokens": MAX_TOKENS, **changes}
    )


def stream() -> Told:
    """Text in pieces, then the usage."""
    response = _prompt(STORY[0]["content"], max_tokens=STORY_TOKENS)
    texts = list(response)
    usage = response.usage()
    return {
        "texts": texts,
        "finish": response.response_json["finish_reason"],
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
    }


def structured() -> Told:
    """An object of a type of ours."""
    return Report.model_validate_json(_prompt(schema=Report).text()).model_dump()


def get_weather(city: str, days: int) -> str:
    """Look up the weather of a city."""
    return f"{TOOL_RESULT} In {city}, for {days} days."


def offered() -> Told:
    """A tool that the model may call: its own loop ends, with calls or without."""
    chain = LOCAL.conversation(tools=[get_weather], chain_limit=3).chain(
        QUESTION,
        key=KEY,
        options={"temperature": 0, "max_tokens": MAX_TOKENS},
    )
    responses = list(chain.responses())
    return {
        "texts": [response.text() for response in responses],
        "calls": [
            call(each.name, each.arguments, each.tool_call_id)
            for response in responses
            for each in response.tool_calls()
        ],
    }


def loop() -> Told:
    """A call of before with its result, and the answer to that."""
    wanted = GetWeather(city="Oslo", days=1).model_dump()
    part = llm.parts.ToolCallPart(name="get_weather", arguments=wanted, tool_call_id="call_1")
    result = llm.parts.ToolResultPart(
        name="get_weather", output=TOOL_RESULT, tool_call_id=part.tool_call_id
    )
    messages = [llm.user(QUESTION), llm.assistant(part), llm.Message(role="tool", parts=[result])]
    response = _prompt(None, messages=messages)
    return {
        "calls": [call(part.name, part.arguments, part.tool_call_id)],
        "text": response.text(),
        "again": [each.name for each in response.tool_calls()],
    }


def errors() -> Told:
    """The exceptions by their types, which are those of OpenAI's package."""
    unknown = llm.get_model(f"local-{UNKNOWN_MODEL}")
    fields = ("status_code", "param", "code", "type")
    return {
        "wrong_key": failure(
            lambda: _prompt(key=WRONG_KEY).text(), openai.AuthenticationError, *fields
        ),
        "unknown_model": failure(
            lambda: unknown.prompt(QUESTION, key=KEY).text(), openai.NotFoundError, *fields
        ),
        "bad_value": failure(lambda: _prompt(max_tokens=0).text(), openai.BadRequestError, *fields),
    }


tell(
    ("llm", "openai"),
    {
        "stream": stream,
        "structured": structured,
        "offered": offered,
        "loop": loop,
        "errors": errors,
    },
)
USER_FOLDER.cleanup()
