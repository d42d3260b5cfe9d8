"""Let the model call a function over gRPC, and answer from its result.

    python examples/grpc_tools.py "What is the weather in Oslo?"

Needs a running `make serve` (or a tokenizer and a worker of your own: --tokenizer, --worker). The
first answer must be a call, and whatever the model is, the call is valid against the schema below.
"""

import argparse
import asyncio
import json
import sys

from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage, Function, ToolCall, ToolChoice
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import SamplingParams

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 40},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = Function("get_weather", "The weather in a city, now.", json.dumps(SCHEMA), strict=True)


def get_weather(call: ToolCall) -> str:
    """The function's result as text; it is always fine."""
    asked = json.loads(call.arguments)
    degrees = 21 if asked["unit"] == "celsius" else 70
    return json.dumps({"city": asked["city"], "degrees": degrees, "sky": "clear"})


async def ask(arguments: argparse.Namespace) -> None:
    """Print the calls, then the answer that is made of their results."""
    messages = [ChatMessage("user", arguments.question)]
    sampling = SamplingParams(temperature=0.0)
    async with HeadraceClient([arguments.worker], [arguments.tokenizer]) as client:
        async with client.chat(
            messages,
            tools=[WEATHER],
            tool_choice=ToolChoice(required=True, single_call=True),
            max_tokens=128,
            sampling=sampling,
        ) as answer:
            text = await answer.text()
        messages.append(ChatMessage("assistant", text, tool_calls=tuple(answer.tool_calls)))
        for call in answer.tool_calls:
            result = get_weather(call)
            sys.stdout.write(f"{call.name}({call.arguments}) = {result}\n")
            messages.append(ChatMessage("tool", result, tool_call_id=call.id))
        async with client.chat(messages, max_tokens=64, sampling=sampling) as answer:
            async for text in answer:
                sys.stdout.write(text)
                sys.stdout.flush()
    sys.stdout.write("\n")


def main() -> None:
    """Read the command line and ask."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question")
    parser.add_argument("--worker", default="127.0.0.1:50061", help="default: %(default)s")
    parser.add_argument("--tokenizer", default="127.0.0.1:50052", help="default: %(default)s")
    try:
        asyncio.run(ask(parser.parse_args()))
    except ServiceError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
