"""pydantic-ai with its model of OpenAI's chat completions."""

import asyncio
import sys
from typing import Any

from pydantic_ai import Agent, ModelHTTPError, NativeOutput, RunContext, ToolOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.direct import model_request_stream_sync, model_request_sync
from pydantic_ai.exceptions import ModelAuthenticationError, ModelNotFoundError
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from tests.clients.python.tasks import (
    FUNCTIONS,
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
SETTINGS = ModelSettings(temperature=0, max_tokens=MAX_TOKENS, parallel_tool_calls=False)
PARAMETERS = ModelRequestParameters(
    function_tools=[
        ToolDefinition(
            name=name,
            description=each.__doc__,
            parameters_json_schema=each.model_json_schema(),
            strict=False,
        )
        for name, each in FUNCTIONS.items()
    ]
)


def _model(name: str = MODEL, key: str = KEY) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=BASE_URL, api_key=key))


def stream() -> Told:
    """Text in deltas, then the usage."""

    async def run() -> Told:
        settings = ModelSettings(temperature=0, max_tokens=STORY_TOKENS)
        async with Agent(_model()).run_stream(
            STORY[0]["content"], model_settings=settings
        ) as result:
            texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
            return {
                "texts": texts,
                "finish": result.response.finish_reason,
                "prompt_tokens": result.usage.input_tokens,
                "completion_tokens": result.usage.output_tokens,
            }

    return asyncio.run(run())


def _calls(response: ModelResponse) -> Told:
    return [
        call(part.tool_name, part.args_as_dict(), part.tool_call_id)
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]


def _request(choice: Any) -> dict[str, Any]:
    return {
        "model": _model(),
        "messages": [ModelRequest.user_text_prompt(QUESTION)],
        "model_settings": {**SETTINGS, "tool_choice": choice},
        "model_request_parameters": PARAMETERS,
    }


def _forced(choice: Any) -> Told:
    response = model_request_sync(**_request(choice))
    return {
        "calls": _calls(response),
        "finish": response.finish_reason,
        "content": response.text,
    }


def required() -> Told:
    """Some function, whichever."""
    return _forced("required")


def chosen() -> Told:
    """One function by its name."""
    return _forced(["set_alarm"])


def streamed_call() -> Told:
    """A forced call in events."""
    with model_request_stream_sync(**_request("required")) as events:
        deltas = [
            str(event.delta.args_delta)
            for event in events
            if event.event_kind == "part_delta" and event.delta.part_delta_kind == "tool_call"
        ]
        response = events.response
    return {"calls": _calls(response), "deltas": deltas, "finish": response.finish_reason}


def structured() -> Told:
    """An object of a type of ours, by response_format."""
    agent = Agent(_model(), output_type=NativeOutput(Report), model_settings=SETTINGS)
    return agent.run_sync(QUESTION).output.model_dump()


def structured_by_call() -> Told:
    """The same, by the one function that may be called."""
    agent = Agent(_model(), output_type=ToolOutput(Report), model_settings=SETTINGS)
    return agent.run_sync(QUESTION).output.model_dump()


class _ForcedAtFirst(AbstractCapability[None]):
    """Calls are forced in a run's first step and not allowed afterwards."""

    def get_model_settings(self) -> Any:
        def choose(context: RunContext[None]) -> ModelSettings:
            return ModelSettings(tool_choice="required" if context.run_step == 1 else "none")

        return choose


def loop() -> Told:
    """The agent's own loop: a forced call, its result, and the answer to that."""
    called: list[Told] = []
    agent = Agent(_model(), model_settings=SETTINGS, capabilities=[_ForcedAtFirst()])

    @agent.tool
    def get_weather(context: RunContext[None], wanted: GetWeather) -> str:
        """Look up the weather of a city."""
        called.append(call("get_weather", wanted.model_dump(), context.tool_call_id))
        return TOOL_RESULT

    return {"text": agent.run_sync(QUESTION).output, "calls": called, "again": []}


def errors() -> Told:
    """The exceptions by their types."""

    def run(model: OpenAIChatModel, **settings: Any) -> object:
        return Agent(model).run_sync(QUESTION, model_settings={**SETTINGS, **settings})

    fields = ("status_code", "body")
    return {
        "wrong_key": failure(lambda: run(_model(key=WRONG_KEY)), ModelAuthenticationError, *fields),
        "unknown_model": failure(lambda: run(_model(UNKNOWN_MODEL)), ModelNotFoundError, *fields),
        "bad_value": failure(lambda: run(_model(), temperature=3), ModelHTTPError, *fields),
    }


tell(
    ("pydantic-ai-slim", "openai"),
    {
        "stream": stream,
        "required": required,
        "chosen": chosen,
        "streamed_call": streamed_call,
        "structured": structured,
        "structured_by_call": structured_by_call,
        "loop": loop,
        "errors": errors,
    },
)
